//! `wsi-run bench MODEL --train`: what a training step costs on this machine.
//!
//! Owns: what is timed, and what is printed of it. Must not know: how a step is run.

use super::{image, threads};
use crate::{
    cli::args::BenchArgs,
    error::exit,
    infer::Isa,
    model::{
        autograd::{StepTimes, time_steps},
        graph::Graph,
        weights::Weights,
        zoo::ZooEntry,
    },
};
use anyhow::{Context, ensure};
use serde_json::json;
use std::io::Write;

/// Images of a batch unless another number is said.
const BATCH: usize = 4;

/// Times steps and prints them.
pub(super) fn run(args: &BenchArgs, entry: ZooEntry, graph: &Graph, weights: &Weights) -> anyhow::Result<u8> {
    ensure!(args.secs >= 0.0 && args.secs.is_finite(), "`--secs` is `{}`, expected a number of seconds", args.secs);
    let side = args.size.map_or(entry.input_px, |px| px as usize);
    let batch = args.batch.map_or(BATCH, |batch| batch as usize);
    let threads = threads(args)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;
    let shape = [batch, 3, side, side];
    let times = pool.install(|| time_steps(graph, weights, planes(batch, side), shape, args.secs))?;
    let mut out = std::io::stdout().lock();
    let (best, median) = (times.secs[0], times.secs[times.secs.len() / 2]);
    let [forward, loss, backward, optimiser] = times.parts_secs;
    let isa = Isa::detect().name();
    if args.json {
        let all = json!({
            "model": entry.name, "h": side, "w": side, "isa": isa, "threads": threads, "batch": batch,
            "steps": times.secs.len(), "secs_per_step": median, "secs_per_step_best": best,
            "forward_secs": forward, "loss_secs": loss, "backward_secs": backward, "optimiser_secs": optimiser,
            "map_bytes": times.map_bytes, "peak_rss_bytes": peak_bytes(), "gradients": gradients(&times),
        });
        writeln!(out, "{all}")?;
        return Ok(exit::OK);
    }
    writeln!(out, "network    {} {side}×{side} px, batch {batch}", entry.name)?;
    writeln!(out, "how        f32, {isa}, {threads} thread{}", if threads == 1 { "" } else { "s" })?;
    writeln!(out, "speed      {median:.3} s per step (median of {}; best {best:.3} s)", times.secs.len())?;
    writeln!(
        out,
        "of it      forward {forward:.3} s, loss {loss:.3} s, backward {backward:.3} s, Adam {optimiser:.3} s"
    )?;
    writeln!(out, "memory     {:.0} MB of activations and gradients", times.map_bytes as f64 / 1e6)?;
    Ok(exit::OK)
}

/// The images that inference is timed with, in 0–1, as planes.
fn planes(batch: usize, side: usize) -> Vec<f32> {
    let plane = |n: usize, c: usize| image(n, side).into_iter().skip(c).step_by(3).map(|v| f32::from(v) / 255.0);
    (0..batch).flat_map(|n| (0..3).flat_map(move |c| plane(n, c).collect::<Vec<_>>())).collect()
}

/// Norm and projections of each gradient by name, and the loss.
fn gradients(times: &StepTimes) -> serde_json::Map<String, serde_json::Value> {
    let each = times.gradients.iter().map(|(name, norm, dots)| (name.clone(), json!([norm, dots])));
    [("loss".to_owned(), json!(times.loss))].into_iter().chain(each).collect()
}

/// Most memory this process has held, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}
