//! `wsi-run bench MODEL`: what a network costs on this machine, slides and all else left out.
//!
//! Owns: how a network is timed, and what is printed of it. Must not know: how it is run.

mod training;

use crate::{
    cli::args::{BenchArgs, BenchPrecision},
    config::environment::Environment,
    error::exit,
    infer::{Compiled, HeadRows, Isa, Options, Plan, PlanStep, Precision, StepTime},
    model::{
        weights::Weights,
        zoo::{ZooEntry, zoo},
    },
};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::{
    io::Write,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Batches that are run at least, whatever the time.
const LEAST_BATCHES: usize = 3;
/// Passes whose fastest is a step's time.
const PROFILES: usize = 5;
/// Values of each head that are told, so that other runtimes can be compared.
const SAMPLES: usize = 64;

/// What was measured.
struct Measured {
    /// Time of each batch, shortest first.
    times: Vec<Duration>,
    threads: usize,
    batch: usize,
    heads: Value,
}

/// `bench`.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<u8> {
    let entry = find(&args.model)?;
    let graph = (entry.build)();
    let weights = match &args.weights {
        Some(path) => Weights::read(path, &graph)?,
        None => Weights::from_names(&graph),
    };
    if args.train {
        return training::run(args, entry, &graph, &weights);
    }
    let isa = Isa::detect();
    let (precision, isa) = match args.precision {
        BenchPrecision::F32 => (Precision::F32, isa),
        // Asked for by name, it is what is timed, even where single precision is faster.
        BenchPrecision::Bf16 if isa == Isa::Avx512 => (Precision::Bf16, Isa::best()),
        BenchPrecision::Bf16 => (Precision::Bf16, isa),
        BenchPrecision::Auto if isa == Isa::Avx512Bf16 => (Precision::Bf16, isa),
        BenchPrecision::Auto => (Precision::F32, isa),
    };
    let side = args.size.map_or(entry.input_px, |px| px as usize);
    let compiled = Compiled::new(&graph, &weights, Options { precision, isa, size: Some((side, side)) })?;
    drop(weights);
    let plan = compiled.plan(side, side)?;
    let threads = threads(args)?;
    let batch = args.batch.map_or(threads, |batch| batch as usize);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;
    let (measured, steps) = pool.install(|| -> anyhow::Result<_> {
        let measured = measure(&compiled, side, (threads, batch), args.secs)?;
        Ok((measured, if args.plan { Some(profile(&compiled, side)?) } else { None }))
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", as_json(&plan, &measured, steps.as_deref()))?;
        return Ok(exit::OK);
    }
    if let Some(steps) = &steps {
        writeln!(out, "{plan}")?;
        print_steps(&plan, steps, &mut out)?;
    }
    print(&plan, &measured, &mut out)?;
    Ok(exit::OK)
}

fn find(name: &str) -> anyhow::Result<ZooEntry> {
    let all = zoo();
    match all.iter().find(|entry| entry.name == name) {
        Some(entry) => Ok(*entry),
        None => bail!(
            "unknown network `{name}`, expected one of {}",
            all.iter().map(|e| e.name).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// As for a run: the option, else `WSI_RUN_THREADS`, else what affinity, cgroup and Slurm leave.
fn threads(args: &BenchArgs) -> anyhow::Result<usize> {
    let environment = Environment::read();
    let told = environment.threads.filter(|text| !text.trim().is_empty() && args.threads.is_none());
    let told =
        match told {
            Some(text) => {
                Some(text.trim().parse().ok().filter(|n| (1..=1024).contains(n)).with_context(|| {
                    format!("`WSI_RUN_THREADS` is `{text}`, expected a whole number from 1 to 1024")
                })?)
            }
            None => args.threads,
        };
    Ok(told.unwrap_or(environment.cpus) as usize)
}

/// Noise that other runtimes can compute too: byte `i` of image `n`.
fn image(n: usize, side: usize) -> Vec<u8> {
    let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(97 * n as u32) >> 13) as u8;
    (0..side * side * 3).map(byte).collect()
}

fn measure(compiled: &Compiled, side: usize, (threads, batch): (usize, usize), secs: f64) -> anyhow::Result<Measured> {
    ensure!(secs >= 0.0 && secs.is_finite(), "`--secs` is `{secs}`, expected a number of seconds");
    let images: Vec<Vec<u8>> = (0..batch).map(|n| image(n, side)).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let normalisation = crate::model::weights::Normalisation::UNIT;
    let first = Mutex::new(vec![vec![]; compiled.graph().outputs().len()]);
    // The first batch makes the plan and the memory, and its first image is told.
    compiled.run(&images, (side, side), &normalisation, &|rows: HeadRows<'_>| {
        if rows.image == 0 {
            let mut first = first.lock().expect("nobody panics here");
            first[rows.head].push((rows.first_row, rows.values.to_vec()));
        }
    })?;
    let mut times = vec![];
    let start = Instant::now();
    // One more to warm up.
    while times.len() <= LEAST_BATCHES || start.elapsed().as_secs_f64() < secs {
        let batch_start = Instant::now();
        compiled.run(&images, (side, side), &normalisation, &|rows| {
            std::hint::black_box(rows.values);
        })?;
        times.push(batch_start.elapsed());
    }
    times.remove(0);
    times.sort_unstable();
    let plan = compiled.plan(side, side)?;
    let heads = first.into_inner().expect("nobody panics here").into_iter().zip(&plan.heads).map(|(mut rows, head)| {
        rows.sort_by_key(|(first_row, _)| *first_row);
        let values: Vec<f32> = rows.into_iter().flat_map(|(_, values)| values).collect();
        let l = head.slot.layout;
        let step = (values.len() / SAMPLES) | 1;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let mean_abs = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len() as f64;
        let samples: Vec<f32> = values.iter().step_by(step).take(SAMPLES).copied().collect();
        json!({ "head": head.name, "h": l.h, "w": l.w, "c": l.c, "mean": mean, "mean_abs": mean_abs, "step": step, "values": samples })
    });
    let heads = heads.collect();
    Ok(Measured { times, threads, batch, heads })
}

/// The fastest of a few passes, step by step.
fn profile(compiled: &Compiled, side: usize) -> anyhow::Result<Vec<StepTime>> {
    let (image, normalisation) = (image(0, side), crate::model::weights::Normalisation::UNIT);
    let mut best = compiled.profile(&image, (side, side), &normalisation)?;
    for _ in 1..PROFILES {
        let next = compiled.profile(&image, (side, side), &normalisation)?;
        best.iter_mut().zip(next).for_each(|(best, next)| best.time = best.time.min(next.time));
    }
    Ok(best)
}

impl Measured {
    fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }

    fn images_per_sec(&self, time: Duration) -> f64 {
        self.batch as f64 / time.as_secs_f64()
    }

    /// Images in work at the same time.
    fn in_work(&self, plan: &Plan) -> usize {
        plan.images_at_once(self.batch, self.threads)
    }
}

fn as_json(plan: &Plan, m: &Measured, steps: Option<&[StepTime]>) -> Value {
    let rate = m.images_per_sec(m.median());
    let mut all = json!({
        "model": plan.network,
        "h": plan.h,
        "w": plan.w,
        "precision": plan.precision.name(),
        "isa": plan.isa.name(),
        "threads": m.threads,
        "batch": m.batch,
        "batches": m.times.len(),
        "images_per_sec": rate,
        "images_per_sec_best": m.images_per_sec(m.times[0]),
        "millis_per_image": 1e3 / rate,
        "gmacs": plan.macs() as f64 / 1e9,
        "gflops_per_sec": 2.0 * plan.macs() as f64 * rate / 1e9,
        "weight_bytes": plan.weight_bytes,
        "arena_bytes": plan.arena_bytes(),
        "memory_bytes": plan.bytes(m.in_work(plan), m.threads),
        "heads": m.heads,
    });
    if let Some(steps) = steps {
        let told = steps.iter().map(|time| {
            let (name, does, output) = together(plan, time);
            let macs: u64 = plan.steps[time.steps.clone()].iter().map(|step| step.macs).sum();
            json!({ "name": name, "does": does, "output": output, "macs": macs, "micros": time.time.as_secs_f64() * 1e6 })
        });
        all["steps"] = told.collect();
    }
    all
}

/// Name, kinds and outputs of steps.
fn together(plan: &Plan, time: &StepTime) -> (String, String, String) {
    let steps = &plan.steps[time.steps.clone()];
    let joined = |of: &dyn Fn(&PlanStep) -> String| steps.iter().map(of).collect::<Vec<_>>().join(", ");
    (joined(&|s| s.name.clone()), joined(&|s| s.fused.join("+")), joined(&|s| s.output.to_string()))
}

/// The steps, slowest first, with their share.
fn print_steps(plan: &Plan, steps: &[StepTime], out: &mut dyn Write) -> std::io::Result<()> {
    let all: f64 = steps.iter().map(|s| s.time.as_secs_f64()).sum();
    let mut sorted: Vec<&StepTime> = steps.iter().collect();
    sorted.sort_by_key(|step| std::cmp::Reverse(step.time));
    writeln!(out, "one image, its rows shared out: {:.2} ms\n", all * 1e3)?;
    writeln!(out, "  share      ms  GFLOP/s    GB/s  step")?;
    for time in sorted {
        let (steps, secs) = (&plan.steps[time.steps.clone()], time.time.as_secs_f64().max(1e-9));
        let sum = |of: fn(&PlanStep) -> u64| steps.iter().map(of).sum::<u64>() as f64;
        let (name, does, output) = together(plan, time);
        writeln!(
            out,
            "{:>6.1}% {:>7.3} {:>8.1} {:>7.1}  {:>4} {:<34} {} {}",
            100.0 * secs / all,
            1e3 * secs,
            2e-9 * sum(|step| step.macs) / secs,
            4e-9 * sum(|step| step.moved_floats) / secs,
            time.steps.start,
            name,
            does,
            output
        )?;
    }
    writeln!(out)
}

fn print(plan: &Plan, m: &Measured, out: &mut dyn Write) -> std::io::Result<()> {
    let (rate, mb) = (m.images_per_sec(m.median()), |bytes: usize| bytes as f64 / 1e6);
    let precision = plan.precision.name();
    writeln!(out, "network    {} {}×{} px, {:.3} GMACs", plan.network, plan.h, plan.w, plan.macs() as f64 / 1e9)?;
    writeln!(
        out,
        "how        {precision}, {}, {} thread{}, batch {}",
        plan.isa.name(),
        m.threads,
        if m.threads == 1 { "" } else { "s" },
        m.batch
    )?;
    writeln!(
        out,
        "speed      {rate:.2} images/s, {:.2} ms per image, {:.0} GFLOP/s (median of {} batches; best {:.2} images/s)",
        1e3 / rate,
        2e-9 * plan.macs() as f64 * rate,
        m.times.len(),
        m.images_per_sec(m.times[0])
    )?;
    writeln!(
        out,
        "memory     {:.0} MB: weights {:.0} MB, {} × {:.0} MB of activations, {} × {:.1} MB per thread",
        mb(plan.bytes(m.in_work(plan), m.threads)),
        mb(plan.weight_bytes),
        m.in_work(plan),
        mb(plan.arena_bytes()),
        m.threads,
        mb(4 * plan.scratch_floats)
    )
}
