//! Networks on a GPU: images per second, and what each step takes of what the GPU could do.
//!
//! `cargo bench --features cuda --bench gpu -- [--gpu N] [--batch 16,64] [--secs 2] [--steps] [--kernels] [--rehearse]
//! [NETWORK=PX …]`; one JSON object per line. `kernels` is the launches alone, from memory of the GPU to memory of the GPU;
//! `lanes` is all that a run does: two threads that copy bytes in, run, and copy head maps out, or add them to a canvas on the
//! device where tiles overlap. `--kernels` also times the
//! steps of small networks that have the kernels no large one needs. `benches/gpu.sh` runs this beside PyTorch; with
//! `--rehearse` everything is run once, to see that it runs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "../tests/cases/mod.rs"]
mod cases;

use cases::CASES;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use wsi_run::{
    geometry::Rect,
    infer::{
        Plan,
        cuda::{
            Batch, CanvasPass, Chip, CudaNetwork, Format, HeadForm, Launch, Launches, Region, StainPass,
            blocks::Blocks,
            buffer::Buffer,
            devices,
            driver::{Device, DeviceError},
            gpu::{Gpu, Task},
            lane::Lane,
            spots::Adding,
            stream::Stream,
        },
    },
    model::{
        BlockAt, HeadPlan, ModelTile, Placement, StainMethod,
        graph::Graph,
        head_plans,
        weights::{Normalisation, Weights},
        zoo::zoo,
    },
    stitch::hann,
};

/// Networks and sides of the goals.
const NETWORKS: &[(&str, usize)] =
    &[("crescent_dense_net", 224), ("crescent_seg_net", 256), ("histonext_tiny", 270), ("hover_net_fast", 256)];

struct Options {
    gpu: usize,
    batches: Vec<usize>,
    secs: f64,
    by_step: bool,
    by_kernel: bool,
    /// Calls of what is timed, at least, and how often a step is started in each.
    calls: usize,
    step_turns: u32,
    networks: Vec<(String, usize)>,
}

fn options() -> Options {
    let networks = NETWORKS.iter().map(|(name, px)| ((*name).to_owned(), *px)).collect();
    let mut o = Options {
        gpu: 0,
        batches: vec![16, 64],
        secs: 2.0,
        by_step: false,
        by_kernel: false,
        calls: 3,
        step_turns: 10,
        networks,
    };
    let mut named = vec![];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--gpu" => o.gpu = value().parse().unwrap(),
            "--batch" => o.batches = value().split(',').map(|n| n.parse().unwrap()).collect(),
            "--secs" => o.secs = value().parse().unwrap(),
            "--steps" => o.by_step = true,
            "--kernels" => o.by_kernel = true,
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

/// How a batch is run.
#[derive(Clone, Copy, Default)]
struct Way<'a> {
    /// What a share of it may take; none runs every step on all of it.
    cache_bytes: Option<usize>,
    wgmma: bool,
    /// Head maps made on the device.
    heads: &'a [HeadForm],
    /// Stain normalisation, of all images and kept.
    stain: Option<StainMethod>,
}

/// A batch's launches and memory.
struct Bound {
    launches: Launches,
    buffers: Vec<Buffer>,
    stream: Stream,
}

impl Bound {
    fn new(device: &Arc<Device>, network: &CudaNetwork, (h, w): (usize, usize), images: usize, way: Way<'_>) -> Self {
        let plan = network.plan(h, w).unwrap();
        let mut store = network.store();
        let normalisation = &Normalisation::IMAGENET;
        let chip = way.cache_bytes.map(|cache_bytes| Chip { cache_bytes, multiprocessors: device.multiprocessors() });
        let stain = way.stain.map(|_| StainPass { tables: 1, is_kept: true });
        let batch = Batch { images, kind: 0, normalisation, stain, heads: way.heads, chip, wgmma: way.wgmma };
        let launches = network.launches(&plan, &batch, &mut store);
        let buffer = |(i, bytes): (usize, &usize)| match i {
            0 => Buffer::of(device, store.bytes()).unwrap(),
            2 => Buffer::of(device, &noise(*bytes)).unwrap(),
            5 if *bytes > 0 => Buffer::of(device, &stains(way.stain.unwrap(), images)).unwrap(),
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
    fn start(&self, of: &dyn Fn(&Launch) -> bool) -> Result<(), DeviceError> {
        let base = |region: Region| self.buffers[Region::ALL.iter().position(|r| *r == region).unwrap()].address();
        for launch in self.launches.launches.iter().filter(|l| of(l)) {
            // SAFETY: buffers are as large as the launches were made for, and outlive the stream's work.
            unsafe { self.stream.launch(launch, &base) }?;
        }
        Ok(())
    }

    /// Time of the launches that `of` takes, each `turns` times in a recording: starting one and waiting for it takes
    /// some µs, which a single short step would be lost in.
    fn time(&self, how_long: (f64, usize), turns: u32, of: impl Fn(&Launch) -> bool) -> Duration {
        time(&self.stream, how_long, turns, &|| self.start(&of))
    }
}

/// Time of what `start` starts, whose buffers live as long, as of [`Bound::time`].
fn time(stream: &Stream, how_long: (f64, usize), turns: u32, start: &dyn Fn() -> Result<(), DeviceError>) -> Duration {
    let recording = stream.record(|| (0..turns).try_for_each(|_| start())).unwrap().unwrap();
    let all = median(how_long, || {
        // SAFETY: buffers are as large as the launches were made for, and outlive the stream's work.
        unsafe { stream.replay(&recording) }.unwrap();
        stream.wait().unwrap();
    });
    all / turns
}

/// Side of a block of the canvas, and of what is read of it at once: a region of a run with nuclei.
const BLOCK_PX: u32 = 512;
const READ_PX: u32 = 1216;

/// Tiles of which every px is in four, eight in a row.
fn placements(core_px: u32, images: usize) -> Vec<Placement> {
    let block = i64::from(BLOCK_PX);
    let placement = |i: usize| {
        let at = |n: usize| n as i64 * i64::from(core_px / 2);
        let core = Rect::new(at(i % 8), at(i / 8), core_px, core_px);
        let span = |from: i64, to: i64| from / block..(to - 1) / block + 1;
        let rows = span(core.y, core.bottom());
        let blocks = rows.flat_map(|row| span(core.x, core.right()).map(move |column| (column as u32, row as u32, 0)));
        Placement { slide: 0, core, used: core, blocks: blocks.collect() }
    };
    (0..images).map(placement).collect()
}

/// What adding the head maps of a batch takes, and reading a region.
fn canvas(o: &Options, device: &Arc<Device>, name: &str, plan: &Plan, heads: &[HeadPlan]) {
    let batch = *o.batches.last().unwrap();
    let forms: Vec<HeadForm> = heads.iter().map(HeadForm::from).collect();
    let layouts: Vec<_> = forms.iter().map(|form| plan.heads[form.output].slot.layout).collect();
    let core_px = layouts[0].h;
    // What is said once per tile, or by heads of different sizes, is not blended.
    if core_px < 2 || layouts.iter().any(|l| (l.h, l.w) != (core_px, core_px)) {
        return;
    }
    let channels = forms.iter().map(|form| form.channels).sum();
    let pass = CanvasPass { core_px, block_px: BLOCK_PX as usize, channels };
    let placements = placements(core_px as u32, batch);
    let all: BTreeSet<BlockAt> = placements.iter().flat_map(|to| to.blocks.iter().copied()).collect();
    let blocks = Buffer::of(device, &vec![0; all.len() * pass.block_bytes()]).unwrap();
    let place = |column: i64, row: i64| {
        let index = all.iter().position(|at| (i64::from(at.0), i64::from(at.1)) == (column, row));
        index.map(|i| blocks.address() + (i * pass.block_bytes()) as u64)
    };
    let mut tables = vec![0; pass.table_bytes(batch)];
    pass.write_window(&mut tables, &hann(core_px as u32));
    placements.iter().enumerate().for_each(|(i, to)| pass.write_spot(&mut tables, i, to, &place));
    let (mut maps, mut bytes) = (vec![], 0);
    for form in &forms {
        maps.push((form.channels, bytes));
        bytes += 2 * batch * form.channels * core_px.pow(2);
    }
    let rect = Rect::new(100, 100, READ_PX, READ_PX);
    let (table, means) = pass.read_bytes(rect);
    let mut read = vec![0; table];
    pass.write_places(&mut read, rect, &place);
    let (px, read_px) = (batch * core_px.pow(2), (READ_PX as usize).pow(2));
    let line = |step: &str, launches: &[Launch], (tables, data): (&[u8], Buffer), moved: usize| {
        let (tables, stream) = (Buffer::of(device, tables).unwrap(), Stream::new(device).unwrap());
        let base = |region: Region| if region == Region::Canvas { tables.address() } else { data.address() };
        let start = || {
            // SAFETY: buffers are as large as the launches were made for, and outlive the stream's work.
            launches.iter().try_for_each(|launch| unsafe { stream.launch(launch, &base) })
        };
        start().unwrap();
        stream.wait().unwrap();
        let secs = time(&stream, (o.secs.min(0.02), o.calls), o.step_turns, &start).as_secs_f64();
        let kernels: Vec<&str> = launches.iter().map(|l| l.kernel).collect();
        println!(
            "{}",
            serde_json::json!({
                "network": name, "px": plan.h, "batch": batch, "what": "canvas", "step": step, "kernels": kernels,
                "micros": secs * 1e6, "tflop_per_s": 0.0, "gb_per_s": 1e-9 * moved as f64 / secs,
            })
        );
    };
    // Maps are read; sums and weights read and written.
    let added = px * (10 * channels + 8);
    let data = Buffer::of(device, &noise(bytes)).unwrap();
    line("blending", &pass.add(batch, &maps, None), (&tables, data), added);
    let data = Buffer::new(device, means).unwrap();
    line("a region", &[pass.read(rect, None)], (&read, data), read_px * (4 * (channels + 1) + 2 * channels + 1));
}

/// Tables of zeros, and the number of the first for every image.
fn stains(method: StainMethod, images: usize) -> Vec<u8> {
    let mut bytes = vec![0; StainPass { tables: 1, is_kept: true }.numbers_at()];
    (0..images).for_each(|_| bytes.extend(StainPass::number(0, method).to_le_bytes()));
    bytes
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn graph(name: &str) -> Graph {
    (zoo().into_iter().find(|e| e.name == name).unwrap().build)().for_use()
}

/// Images per second of two threads that each run batches through a lane, and hand head maps out or, `blended`, add them
/// to blocks.
fn lanes(
    o: &Options,
    (graph, weights): (&Graph, &Weights),
    (px, batch): (usize, usize),
    (wgmma, blended): (bool, bool),
) -> Option<f64> {
    let network = CudaNetwork::new(graph, weights, Format::Half).unwrap();
    let layouts: Vec<_> = network.plan(px, px).unwrap().heads.iter().map(|head| head.slot.layout).collect();
    let core_px = layouts[0].h;
    if blended && layouts.iter().any(|l| (l.h, l.w) != (core_px, core_px) || core_px < 2) {
        return None;
    }
    let task = Arc::new(Task { network, normalisation: Normalisation::IMAGENET, kind: 0, wgmma });
    let gpu = Arc::new(Gpu::open(o.gpu, &task).unwrap());
    let heads: Vec<HeadForm> = head_plans(graph, 1).iter().map(HeadForm::from).collect();
    let channels = heads.iter().map(|head| head.channels).sum();
    let pass = CanvasPass { core_px, block_px: BLOCK_PX as usize, channels };
    let (window, blocks) = (hann(core_px as u32), Blocks::new(gpu.device(), pass.block_bytes()));
    let placements = placements(core_px as u32, batch);
    let adding = Adding { pass, window: &window, blocks: &blocks, placements: &placements };
    let adding = blended.then_some(adding);
    let image = noise(px * px * 3);
    let tiles = || -> Vec<ModelTile<'_>> { (0..batch).map(|_| ModelTile::plain(&image)).collect() };
    let rate = |lane: &mut Lane| {
        // The first records.
        for _ in 0..o.calls {
            let _ = lane.run(&mut tiles(), px, &heads, adding).unwrap();
        }
        let (start, mut count) = (Instant::now(), 0);
        while count == 0 || start.elapsed().as_secs_f64() < o.secs {
            let _ = lane.run(&mut tiles(), px, &heads, adding).unwrap();
            count += batch;
        }
        count as f64 / start.elapsed().as_secs_f64()
    };
    let both = std::thread::scope(|threads| {
        let two: Vec<_> = (0..2)
            .map(|_| {
                let (gpu, rate) = (&gpu, &rate);
                threads.spawn(move || rate(&mut Lane::new(gpu).unwrap()))
            })
            .collect();
        two.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    Some(both)
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
                let way = Way { cache_bytes, wgmma, ..Way::default() };
                let bound = Bound::new(&device, &network, (*px, *px), batch, way);
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
            for (wgmma, what) in products.iter().flat_map(|wgmma| [(*wgmma, "lanes"), (*wgmma, "lanes blended")]) {
                let way = (wgmma, what == "lanes blended");
                if let Some(images_per_s) = lanes(&o, (&graph, &weights), (*px, batch), way) {
                    println!(
                        "{}",
                        serde_json::json!({
                            "network": name, "px": px, "batch": batch, "what": what, "wgmma": wgmma,
                            "images_per_s": images_per_s,
                        })
                    );
                }
            }
        }
        if o.by_step {
            steps(&o, &device, (name, &network), &plan, &head_plans(&graph, 1));
            canvas(&o, &device, name, &plan, &head_plans(&graph, 1));
        }
    }
    // Larger than the tests', whose emulation takes its time.
    let enlarged = if o.secs == 0.0 { 1 } else { 8 };
    for case in CASES.iter().filter(|_| o.by_kernel) {
        let graph = case.graph();
        let network = CudaNetwork::new(&graph, &Weights::from_names(&graph), Format::Half).unwrap();
        let plan = network.plan(case.size.0 * enlarged, case.size.1 * enlarged).unwrap();
        steps(&o, &device, (case.name, &network), &plan, &head_plans(&graph, 1));
    }
}

/// What each step takes of the largest batch: by warps and, where there are some, by warpgroups; then the head maps, and
/// the input with either way of stain normalisation.
fn steps(o: &Options, device: &Arc<Device>, (name, network): (&str, &CudaNetwork), plan: &Plan, heads: &[HeadPlan]) {
    let (batch, px, size) = (*o.batches.last().unwrap(), plan.h, (plan.h, plan.w));
    // Times step `i`: of an image, its multiply-accumulates and the numbers it reads and writes.
    let line = |bound: &Bound, wgmma: bool, (i, step): (usize, &str), (macs, numbers): (u64, u64)| {
        let kernels: Vec<&str> = bound.launches.launches.iter().filter(|l| l.step == i).map(|l| l.kernel).collect();
        // Steps that are the same either way are timed once.
        if kernels.is_empty() || (wgmma && !kernels.iter().any(|kernel| kernel.contains("wgmma"))) {
            return;
        }
        let time = |of: &dyn Fn(&Launch) -> bool| {
            bound.time((o.secs.min(0.02), o.calls), o.step_turns, |l| l.step == i && of(l)).as_secs_f64()
        };
        let secs = time(&|_| true);
        println!(
            "{}",
            serde_json::json!({
                "network": name, "px": px, "batch": batch, "what": "step", "wgmma": wgmma, "step": step, "kernels": kernels,
                "micros": secs * 1e6, "tflop_per_s": 2e-12 * (macs * batch as u64) as f64 / secs,
                "gb_per_s": 2e-9 * (numbers * batch as u64) as f64 / secs,
                "flop_per_byte": macs as f64 / numbers as f64,
            })
        );
        // Kernels that work one after the other, each by itself.
        let different: BTreeSet<&str> = kernels.iter().copied().collect();
        for kernel in different.iter().filter(|_| different.len() > 1) {
            let micros = time(&|l| l.kernel == *kernel) * 1e6;
            println!(
                "{}",
                serde_json::json!({
                    "network": name, "px": px, "batch": batch, "what": "part", "step": step, "kernels": [kernel], "micros": micros,
                })
            );
        }
    };
    for wgmma in [false, true].into_iter().filter(|wgmma| !wgmma || device.has_wgmma()) {
        let bound = Bound::new(device, network, size, batch, Way { wgmma, ..Way::default() });
        for (i, step) in plan.steps.iter().enumerate() {
            line(&bound, wgmma, (i, &step.name), (step.macs, step.moved_floats));
        }
    }
    let forms: Vec<HeadForm> = heads.iter().map(HeadForm::from).collect();
    let bound = Bound::new(device, network, size, batch, Way { heads: &forms, ..Way::default() });
    let numbers = |form: &HeadForm| {
        let layout = plan.heads[form.output].slot.layout;
        2 * (layout.h * layout.w * form.channels) as u64
    };
    line(&bound, false, (plan.steps.len(), "head maps"), (0, forms.iter().map(numbers).sum()));
    for (step, method) in [("input by optical density", StainMethod::Od), ("input by CIELAB", StainMethod::Lab)] {
        let bound = Bound::new(device, network, size, batch, Way { stain: Some(method), ..Way::default() });
        let input = bound.launches.launches.iter().find(|l| l.kernel == "from_rgb").map(|l| l.step);
        // Three bytes in and out again, and three numbers of two.
        line(&bound, false, (input.unwrap(), step), (0, 6 * (plan.h * plan.w) as u64));
    }
}
