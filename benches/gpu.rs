//! Networks on a GPU: images per second, and what each step takes of what the GPU could do.
//!
//! `cargo bench --features cuda --bench gpu -- [--gpu N] [--batch 16,64] [--secs 2] [--steps] [--rehearse] [NETWORK=PX …]`; one JSON
//! object per line. `kernels` is the launches alone, from memory of the GPU to memory of the GPU; `lanes` is all that a
//! run does: two threads that copy bytes in, run, and copy head maps out. `benches/gpu.sh` runs this beside PyTorch; with `--rehearse` everything
//! is run once, to see that it runs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use wsi_run::{
    infer::{
        Plan,
        cuda::{
            Batch, Chip, CudaNetwork, Format, HeadForm, Launches, Region,
            buffer::Buffer,
            devices,
            driver::{Device, DeviceError},
            lane::{Gpu, Lane, Task},
            stream::Stream,
        },
    },
    model::{
        ModelTile,
        graph::Graph,
        head_plans,
        weights::{Normalisation, Weights},
        zoo::zoo,
    },
};

/// Networks and sides of the goals.
const NETWORKS: &[(&str, usize)] =
    &[("crescent_dense_net", 224), ("crescent_seg_net", 256), ("histonext_tiny", 270), ("hover_net_fast", 256)];

struct Options {
    gpu: usize,
    batches: Vec<usize>,
    secs: f64,
    by_step: bool,
    /// Calls of what is timed, at least, and how often a step is started in each.
    calls: usize,
    step_turns: u32,
    networks: Vec<(String, usize)>,
}

fn options() -> Options {
    let networks = NETWORKS.iter().map(|(name, px)| ((*name).to_owned(), *px)).collect();
    let mut o =
        Options { gpu: 0, batches: vec![16, 64], secs: 2.0, by_step: false, calls: 3, step_turns: 10, networks };
    let mut named = vec![];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--gpu" => o.gpu = value().parse().unwrap(),
            "--batch" => o.batches = value().split(',').map(|n| n.parse().unwrap()).collect(),
            "--secs" => o.secs = value().parse().unwrap(),
            "--steps" => o.by_step = true,
            "--rehearse" => (o.secs, o.calls, o.step_turns) = (0.0, 1, 1),
            "--bench" => {}
            network => {
                let (name, px) = network.split_once('=').unwrap();
                named.push((name.to_owned(), px.parse().unwrap()));
            }
        }
    }
    if !named.is_empty() {
        o.networks = named;
    }
    o
}

/// Median time of one call of `f`, over calls for about `secs` s.
fn median((secs, calls): (f64, usize), mut f: impl FnMut()) -> Duration {
    f();
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < calls || start.elapsed().as_secs_f64() < secs {
        let call = Instant::now();
        f();
        times.push(call.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// A batch's launches and memory.
struct Bound {
    launches: Launches,
    buffers: Vec<Buffer>,
    stream: Stream,
}

impl Bound {
    fn new(
        device: &Arc<Device>,
        network: &CudaNetwork,
        px: usize,
        images: usize,
        (cache_bytes, wgmma): (Option<usize>, bool),
    ) -> Self {
        let plan = network.plan(px, px).unwrap();
        let mut store = network.store();
        let normalisation = &Normalisation::IMAGENET;
        let chip = cache_bytes.map(|cache_bytes| Chip { cache_bytes, multiprocessors: device.multiprocessors() });
        let batch = Batch { images, kind: 0, normalisation, stain: None, heads: &[], chip, wgmma };
        let launches = network.launches(&plan, &batch, &mut store);
        let buffer = |(i, bytes): (usize, &usize)| match i {
            0 => Buffer::of(device, store.bytes()).unwrap(),
            2 => Buffer::of(device, &noise(*bytes)).unwrap(),
            _ => Buffer::new(device, *bytes).unwrap(),
        };
        let buffers = launches.region_bytes.iter().enumerate().map(buffer).collect();
        let bound = Self { launches, buffers, stream: Stream::new(device).unwrap() };
        // Once before anything is recorded: a driver loads a kernel when it is first started.
        bound.start(&|_| true).unwrap();
        bound.stream.wait().unwrap();
        bound
    }

    /// Starts the launches that `of` takes.
    fn start(&self, of: &dyn Fn(usize) -> bool) -> Result<(), DeviceError> {
        let base = |region: Region| self.buffers[Region::ALL.iter().position(|r| *r == region).unwrap()].address();
        for launch in self.launches.launches.iter().filter(|l| of(l.step)) {
            // SAFETY: buffers are as large as the launches were made for, and outlive the stream's work.
            unsafe { self.stream.launch(launch, &base) }?;
        }
        Ok(())
    }

    /// Time of the launches that `of` takes, each `turns` times in a recording: starting one and waiting for it takes
    /// some µs, which a single short step would be lost in.
    fn time(&self, how_long: (f64, usize), turns: u32, of: impl Fn(usize) -> bool) -> Duration {
        let recording = self.stream.record(|| (0..turns).try_for_each(|_| self.start(&of))).unwrap().unwrap();
        let all = median(how_long, || {
            // SAFETY: buffers are as large as the launches were made for, and outlive the stream's work.
            unsafe { self.stream.replay(&recording) }.unwrap();
            self.stream.wait().unwrap();
        });
        all / turns
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn graph(name: &str) -> Graph {
    (zoo().into_iter().find(|e| e.name == name).unwrap().build)().for_use()
}

/// Images per second of two threads that each run batches through a lane.
fn lanes(o: &Options, (graph, weights): (&Graph, &Weights), px: usize, batch: usize, wgmma: bool) -> f64 {
    let network = CudaNetwork::new(graph, weights, Format::Half).unwrap();
    let task = Arc::new(Task { network, normalisation: Normalisation::IMAGENET, kind: 0, wgmma });
    let gpu = Arc::new(Gpu::open(o.gpu, &task).unwrap());
    let heads: Vec<HeadForm> = head_plans(graph, 1).iter().map(HeadForm::from).collect();
    let image = noise(px * px * 3);
    let tiles = || -> Vec<ModelTile<'_>> { (0..batch).map(|_| ModelTile::plain(&image)).collect() };
    let rate = |lane: &mut Lane| {
        // The first records.
        for _ in 0..o.calls {
            let _ = lane.run(&mut tiles(), px, &heads).unwrap();
        }
        let (start, mut count) = (Instant::now(), 0);
        while count == 0 || start.elapsed().as_secs_f64() < o.secs {
            let _ = lane.run(&mut tiles(), px, &heads).unwrap();
            count += batch;
        }
        count as f64 / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|threads| {
        let two: Vec<_> = (0..2)
            .map(|_| {
                let (gpu, rate) = (&gpu, &rate);
                threads.spawn(move || rate(&mut Lane::new(gpu).unwrap()))
            })
            .collect();
        two.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn main() {
    let o = options();
    if let Err(why) = devices::count() {
        eprintln!("nothing is timed: {why}");
        return;
    }
    let device = Arc::new(Device::open(o.gpu, Format::Half).unwrap());
    let share = |of: f64| Some((device.cache_bytes() as f64 * of) as usize);
    println!("{}", serde_json::json!({ "gpu": device.name(), "cache_bytes": device.cache_bytes() }));
    for (name, px) in &o.networks {
        let graph = graph(name);
        let weights = Weights::from_names(&graph);
        let network = CudaNetwork::new(&graph, &weights, Format::Half).unwrap();
        let plan = network.plan(*px, *px).unwrap();
        for &batch in &o.batches {
            let caches = [("whole", None), ("0.3", share(0.3)), ("0.6", share(0.6)), ("1.2", share(1.2))];
            let products: &[bool] = if device.has_wgmma() { &[false, true] } else { &[false] };
            let ways = products.iter().flat_map(|wgmma| caches.map(|(cache, bytes)| (*wgmma, cache, bytes)));
            for (wgmma, cache, cache_bytes) in ways {
                let bound = Bound::new(&device, &network, *px, batch, (cache_bytes, wgmma));
                let time = bound.time((o.secs, o.calls), 1, |_| true);
                println!(
                    "{}",
                    serde_json::json!({
                        "network": name, "px": px, "batch": batch, "what": "kernels", "cache": cache, "wgmma": wgmma,
                        "launches": bound.launches.launches.len(), "gmacs": plan.macs() as f64 / 1e9,
                        "images_per_s": batch as f64 / time.as_secs_f64(),
                    })
                );
            }
            for wgmma in products {
                println!(
                    "{}",
                    serde_json::json!({
                        "network": name, "px": px, "batch": batch, "what": "lanes", "wgmma": wgmma,
                        "images_per_s": lanes(&o, (&graph, &weights), *px, batch, *wgmma),
                    })
                );
            }
        }
        if o.by_step {
            steps(&o, &device, (name, &network), &plan, device.has_wgmma());
        }
    }
}

/// What each step takes of the largest batch, by warps and, where there are some, by warpgroups.
fn steps(o: &Options, device: &Arc<Device>, (name, network): (&str, &CudaNetwork), plan: &Plan, has_wgmma: bool) {
    let (batch, px) = (*o.batches.last().unwrap(), plan.h);
    for wgmma in [false, true].into_iter().filter(|wgmma| !wgmma || has_wgmma) {
        let bound = Bound::new(device, network, px, batch, (None, wgmma));
        for (i, step) in plan.steps.iter().enumerate() {
            let kernels: Vec<&str> = bound.launches.launches.iter().filter(|l| l.step == i).map(|l| l.kernel).collect();
            // Steps that are the same either way are timed once.
            if kernels.is_empty() || (wgmma && !kernels.iter().any(|kernel| kernel.contains("wgmma"))) {
                continue;
            }
            let secs = bound.time((o.secs.min(0.02), o.calls), o.step_turns, |step| step == i).as_secs_f64();
            println!(
                "{}",
                serde_json::json!({
                    "network": name, "px": px, "batch": batch, "what": "step", "wgmma": wgmma, "step": step.name, "kernels": kernels,
                    "micros": secs * 1e6, "tflop_per_s": 2e-12 * (step.macs * batch as u64) as f64 / secs,
                    "gb_per_s": 2e-9 * (step.moved_floats * batch as u64) as f64 / secs,
                    "flop_per_byte": step.macs as f64 / step.moved_floats as f64,
                })
            );
        }
    }
}
