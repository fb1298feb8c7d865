//! Rates and memory of the outputs, on drawn slides as large as real ones.
//!
//! `cargo bench --bench output [-- masks|nuclei|tables]`; `RAYON_NUM_THREADS=4` and `taskset` set the cores. Plain
//! timing and not criterion: one run takes seconds, and its peak memory is half of what is asked.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at errors and prints its result")]

#[path = "../tests/scene/mod.rs"]
mod scene;

use scene::{Scene, nucleus};
use std::time::{Duration, Instant};
use wsi_run::{
    geometry::{Rect, Target},
    output::{ResultKind, SlidePart},
};

const REGION_PX: u32 = 2048;

fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1024
}

/// CPU seconds of this process: what is left of a rate when others share the machine.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or("");
    let ticks = |n: usize| after_name.split_whitespace().nth(n).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn scene(dir: &std::path::Path, side_um: f64, chunk_px: u32) -> Scene {
    let mut scene = Scene::new(dir, (side_um / 0.25) as u32, (side_um / 0.26) as u32, 0);
    scene.settings.ome_zarr.as_mut().unwrap().chunk_px = chunk_px;
    scene.settings.parquet.as_mut().unwrap().row_group_rows = 20_000;
    scene.settings.geojson = None;
    scene
}

/// A class map of 16,000 × 16,000 px and its pyramid.
fn masks() {
    for zstd_level in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = scene(dir.path(), 8000.0, 512);
        scene.settings.ome_zarr.as_mut().unwrap().zstd_level = zstd_level;
        scene.settings.overview = None;
        let mut writer = scene.writer(ResultKind::Semantic);
        let (mut spent, mut cpu) = (Duration::ZERO, 0.0);
        for core in scene.cores(REGION_PX, 0) {
            let part = scene.semantic_part(core);
            let (start, cpu_start) = (Instant::now(), cpu_secs());
            writer.write(part).unwrap();
            spent += start.elapsed();
            cpu += cpu_secs() - cpu_start;
        }
        let (start, cpu_start) = (Instant::now(), cpu_secs());
        let committed = writer.commit().unwrap();
        let (parts, commit) = (spent.as_secs_f64(), start.elapsed().as_secs_f64());
        cpu += cpu_secs() - cpu_start;
        let mpx = scene.size().area() as f64 / 1e6;
        let bytes: u64 = committed.artifacts.iter().map(|a| a.bytes).sum();
        println!(
            "masks/zstd{zstd_level}: {mpx:.0} Mpx in {parts:.2} + {commit:.2} s = {:.0} Mpx/s, {cpu:.2} CPU s, {} kB, peak {} MB",
            mpx / (parts + commit),
            bytes / 1024,
            peak_rss_mb()
        );
    }
}

/// Two million nuclei: tables alone, or with masks.
fn nuclei(has_masks: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = scene(dir.path(), 24_000.0, 512);
    if !has_masks {
        scene.settings.ome_zarr = None;
    }
    let step = 32;
    let size = scene.size();
    let mut writer = scene.writer(ResultKind::Nuclei);
    let (mut spent, mut cpu) = (Duration::ZERO, 0.0);
    for core in scene.cores(REGION_PX, 0) {
        let computed = vec![1; core.area() as usize];
        let instances = owned(core, step, size);
        let (start, cpu_start) = (Instant::now(), cpu_secs());
        writer.write(SlidePart::Nuclei { core, computed, instances }).unwrap();
        spent += start.elapsed();
        cpu += cpu_secs() - cpu_start;
    }
    let spool_mb = peak_rss_mb();
    let (start, cpu_start) = (Instant::now(), cpu_secs());
    let committed = writer.commit().unwrap();
    cpu += cpu_secs() - cpu_start;
    let (parts, commit) = (spent.as_secs_f64(), start.elapsed().as_secs_f64());
    let name = if has_masks { "nuclei" } else { "tables" };
    println!(
        "{name}: {} nuclei on {:.0} Mpx, parts {parts:.2} s, commit {commit:.2} s, {:.0} nuclei/s, {cpu:.2} CPU s, peak {spool_mb} then {} MB",
        committed.instances,
        size.area() as f64 / 1e6,
        committed.instances as f64 / (parts + commit),
        peak_rss_mb()
    );
    if let Some(keep) = std::env::var_os("WSI_RUN_BENCH_PICTURE") {
        std::fs::copy(dir.path().join("overviews/scene-1.png"), keep).unwrap();
    }
    for artifact in committed.artifacts {
        println!("    {} {} kB", artifact.path.display(), artifact.bytes / 1024);
    }
}

fn owned(core: Rect<Target>, step: u32, size: wsi_run::geometry::Size<Target>) -> Vec<wsi_run::instances::Instance> {
    let cells = |from: i64, to: i64| from as u32 / step..(to as u32).div_ceil(step);
    let mut found = Vec::new();
    for j in cells(core.y, core.bottom()) {
        for i in cells(core.x, core.right()) {
            let nucleus = nucleus(i, j, step, size, 0.5);
            found.extend(nucleus.filter(|n| core.contains(n.centroid.0 as i64, n.centroid.1 as i64)));
        }
    }
    found
}

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if is_wanted("masks") {
        masks();
    }
    if is_wanted("tables") {
        nuclei(false);
    }
    if is_wanted("nuclei") {
        nuclei(true);
    }
}
