//! What is around the CUDA kernels, with a driver that has no GPU: streams, recorded batches, memory that ends, GPUs that
//! fail, several GPUs, and whole runs. The driver (`kernels/emulation/driver.cpp`) runs the kernels by the emulation.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "a test that runs nothing says so")]

mod emulation;
mod program;

use emulation::toolkit;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Barrier},
};
use wsi_run::{
    config::settings::{self, Stain, StainReference, Window},
    geometry::{Size, TargetGrid},
    infer::cuda::{CudaExecute, devices},
    model::{
        Blend, BlendForm, Execute, ExecuteOptions, Head, HeadMap, HeadPlan, ModelTile, Placement, SlideBlend,
        StainTables, TilePixels,
        graph::{Conv, Graph},
        head_plans,
        weights::Weights,
        zoo::zoo,
    },
    pixels::stain::{self, StainTransform},
    stitch::{CanvasMaps, Region, RegionPool, SlideCanvas, hann, placement},
    tiling::{CellMask, TilePlan, Tiler},
    tissue::TissueMask,
    units::{Mpp, MppXy},
};

/// What the build embedded.
const EMBEDDED: &str = include_str!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The network of the smaller tests, and the side of its tiles.
const NETWORK: &str = "light_mu_seg";
const SIDE_PX: usize = 32;
const CORE_PX: u32 = 20;

fn image(n: usize) -> Vec<u8> {
    let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(97 * n as u32) >> 13) as u8;
    (0..SIDE_PX * SIDE_PX * 3).map(byte).collect()
}

fn graph() -> Graph {
    (zoo().into_iter().find(|e| e.name == NETWORK).unwrap().build)().for_use()
}

fn execute(gpus: &[u32]) -> (CudaExecute, Vec<HeadPlan>) {
    let graph = graph();
    let options = ExecuteOptions { precision: settings::Precision::Usual, kind: 0 };
    let execute = CudaExecute::new(&graph, &Weights::from_names(&graph), &options, gpus).unwrap();
    (execute, head_plans(&graph, 1))
}

/// Maps of images, in batches of `size`.
fn maps(execute: &CudaExecute, plans: &[HeadPlan], images: &[Vec<u8>], size: usize) -> Vec<Vec<HeadMap>> {
    let mut all = vec![];
    for batch in images.chunks(size) {
        let mut tiles: Vec<ModelTile<'_>> = batch.iter().map(|rgb| ModelTile::plain(rgb)).collect();
        all.extend(execute.run_to_maps(&mut tiles, SIDE_PX, plans, Some(CORE_PX)).unwrap().unwrap());
    }
    all
}

/// A piece of work of the driver.
#[derive(Debug, Clone)]
struct Noted {
    what: String,
    gpu: i64,
    stream: i64,
    bytes: i64,
    micros: (i64, i64),
}

fn noted(log: &Path) -> Vec<Noted> {
    let line = |line: &str| {
        let word: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| word[i].parse().unwrap();
        let (gpu, stream, bytes) = (number(1), number(2), number(3));
        Noted { what: word[0].to_owned(), gpu, stream, bytes, micros: (number(4), number(5)) }
    };
    fs::read_to_string(log).unwrap_or_default().lines().map(line).collect()
}

fn count(all: &[Noted], what: &str) -> usize {
    all.iter().filter(|n| n.what == what).count()
}

/// The emulated driver; nothing and a word about it where the program has no kernels to give it, or there is no compiler.
fn driver() -> Option<PathBuf> {
    if !EMBEDDED.contains("Embedded {") {
        println!("skipped: built without a CUDA toolkit (`.ci/setup --tests` installs one)");
        return None;
    }
    emulation::driver()
}

/// The search path for libraries with the driver in front.
fn library_path(driver: &Path) -> std::ffi::OsString {
    let folder = driver.parent().unwrap().to_path_buf();
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&before))).unwrap()
}

/// Runs the test `inside::NAME` with the driver; what it noted. Nothing where there is no compiler.
fn with_driver(name: &str, environment: &[(&str, &str)]) -> Option<Vec<Noted>> {
    let driver = driver()?;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", &format!("inside::{name}"), "--nocapture"])
        .env("LD_LIBRARY_PATH", library_path(&driver))
        .env("EMULATION_LOG", &log)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = program::text(&done.stdout) + &program::text(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{name}: {said}");
    Some(noted(&log))
}

#[test]
fn a_batch_is_recorded_the_second_time_and_replayed_from_then_on() {
    let Some(all) = with_driver("four_batches_give_the_same", &[]) else { return };
    assert_eq!((count(&all, "record"), count(&all, "replay")), (1, 3));
    let launches = count(&all, "launch");
    assert!(launches > 20 && launches.is_multiple_of(4), "{launches}");
    // Per batch: the images in, the maps of the middle out.
    assert_eq!((count(&all, "upload"), count(&all, "download")), (4, 4));
    let out = all.iter().find(|n| n.what == "download").unwrap();
    assert_eq!(out.bytes % i64::from(2 * CORE_PX * CORE_PX), 0);
    assert_eq!(count(&all, "upload_pageable") + count(&all, "download_pageable"), 0);
}

#[test]
fn where_there_is_no_memory_for_a_recording_batches_are_started_piece_by_piece() {
    let Some(all) = with_driver("four_batches_give_the_same", &[("EMULATION_NO_GRAPHS", "1")]) else { return };
    assert_eq!((count(&all, "record"), count(&all, "replay"), count(&all, "refused")), (0, 0, 1));
    assert_eq!((count(&all, "upload"), count(&all, "download")), (4, 4));
}

#[test]
fn one_lane_copies_while_the_other_computes() {
    let Some(all) = with_driver("two_threads_run_batches", &[]) else { return };
    let streams: BTreeSet<i64> = all.iter().filter(|n| n.what == "launch").map(|n| n.stream).collect();
    assert_eq!(streams.len(), 2);
    let is_copy = |n: &&Noted| ["upload", "download"].contains(&n.what.as_str());
    let meanwhile = all.iter().filter(is_copy).filter(|copy| {
        let others = all.iter().filter(|n| n.what == "launch" && n.stream != copy.stream && n.gpu == copy.gpu);
        others.clone().any(|n| n.micros.1 <= copy.micros.0) && others.clone().any(|n| n.micros.0 >= copy.micros.1)
    });
    assert!(meanwhile.count() > 0, "no copy between two launches of the other lane");
}

#[test]
fn a_batch_that_does_not_fit_the_memory_is_halved() {
    let Some(whole) = with_driver("eight_at_once", &[]) else { return };
    assert_eq!(count(&whole, "refused"), 0);
    // Memory for the weights and five images.
    let (weights, maps) = allocated(&whole);
    let memory = (weights + maps * 5 / 8).to_string();
    let few = with_driver("eight_at_once", &[("EMULATION_MEMORY", &memory)]).unwrap();
    assert!(count(&few, "refused") >= 1);
    assert!(count(&few, "download") > count(&whole, "download"), "more, smaller parts");
}

/// Bytes taken on a GPU for weights, which come first, and for a lane's maps, the largest of the rest.
fn allocated(all: &[Noted]) -> (i64, i64) {
    let bytes: Vec<i64> = all.iter().filter(|n| n.what == "allocate").map(|n| n.bytes).collect();
    (bytes[0], *bytes[1..].iter().max().unwrap())
}

#[test]
fn where_two_lanes_do_not_fit_one_goes_on() {
    let Some(both) = with_driver("two_threads_run_batches", &[]) else { return };
    let (weights, maps) = allocated(&both);
    let memory = (weights + maps * 3 / 2).to_string();
    let one = with_driver("two_threads_run_batches", &[("EMULATION_MEMORY", &memory)]).unwrap();
    assert!(count(&one, "refused") >= 1);
    // Batches of two are not made smaller for it.
    assert_eq!(count(&one, "launch"), count(&both, "launch"));
}

#[test]
fn gpus_share_the_batches_and_those_not_asked_for_stay_idle() {
    let Some(all) = with_driver("many_batches_on_all", &[("EMULATION_GPUS", "3")]) else { return };
    let busy: BTreeSet<i64> = all.iter().filter(|n| n.what == "launch").map(|n| n.gpu).collect();
    assert_eq!(busy, BTreeSet::from([0, 1, 2]));
    let all = with_driver("many_batches_on_two", &[("EMULATION_GPUS", "3")]).unwrap();
    let busy: BTreeSet<i64> = all.iter().filter(|n| n.what == "launch").map(|n| n.gpu).collect();
    assert_eq!(busy, BTreeSet::from([0, 2]));
}

#[test]
fn of_all_gpus_those_that_are_too_old_are_left_out_and_a_named_one_is_an_error() {
    let environment = [("EMULATION_GPUS", "2"), ("EMULATION_OLD", "0")];
    let Some(all) = with_driver("many_batches_on_all", &environment) else { return };
    assert!(all.iter().filter(|n| n.what == "launch").all(|n| n.gpu == 1));
    let _ = with_driver("the_first_is_too_old", &environment);
    let _ = with_driver("the_first_is_too_old", &[("EMULATION_OLD", "0")]);
}

#[test]
fn the_batch_of_a_gpu_that_fails_goes_to_another() {
    let environment = [("EMULATION_GPUS", "2"), ("EMULATION_FAILS", "1:30")];
    let Some(all) = with_driver("many_batches_on_all", &environment) else { return };
    let launches = |gpu: i64| all.iter().filter(|n| n.what == "launch" && n.gpu == gpu).count();
    assert!(launches(1) > 0 && launches(0) > launches(1), "{} and {}", launches(0), launches(1));
}

#[test]
fn when_no_gpu_is_left_it_is_said() {
    let _ = with_driver("the_only_one_fails", &[("EMULATION_FAILS", "0:30")]);
}

/// The most bytes taken at once, and of how many pieces that were never given back.
fn taken(all: &[Noted]) -> (i64, i64) {
    let (mut now, mut most, mut pieces) = (0, 0, 0);
    for noted in all {
        match noted.what.as_str() {
            "allocate" => (now, pieces) = (now + noted.bytes, pieces + 1),
            "free" => (now, pieces) = (now - noted.bytes, pieces - 1),
            _ => {}
        }
        most = most.max(now);
    }
    (most, pieces)
}

#[test]
fn overlapping_tiles_are_blended_where_they_are_made_with_the_processors_bytes() {
    let Some(all) = with_driver("slides_are_blended", &[]) else { return };
    let (most, left) = taken(&all);
    assert_eq!((count(&all, "refused"), left), (0, 0), "all memory is given back");
    // With a byte less the last block does not fit beside the maps of a batch: smaller ones, and the same sums.
    let few = with_driver("slides_are_blended", &[("EMULATION_MEMORY", &(most - 1).to_string())]).unwrap();
    let refused: Vec<i64> = few.iter().filter(|n| n.what == "refused").map(|n| n.bytes).collect();
    assert!(refused.contains(&inside::BLOCK_BYTES), "{refused:?}");
    assert!(count(&few, "launch") + count(&few, "replay") > count(&all, "launch") + count(&all, "replay"));
    let _ = with_driver("the_only_one_fails_while_it_adds", &[("EMULATION_FAILS", "0:100")]);
}

#[test]
fn stain_normalised_by_the_gpu_is_that_of_the_processor() {
    let Some(all) = with_driver("slides_of_several_stains", &[]) else { return };
    // Tables cross the bus once per slide and lane, numbers and images with each batch.
    let is_table = |n: &&Noted| n.what == "upload" && (n.bytes == 12_288 || (30_000..40_000).contains(&n.bytes));
    let tables = all.iter().filter(is_table).count();
    // Three slides, and one lane or both.
    assert!((3..=6).contains(&tables), "{tables} copies of tables");
}

/// A run over synthetic slides.
fn run_yaml(device: &str, more: &str) -> String {
    format!(
        "slides: {{ synthetic: {{ count: 2, width_px: 2000, height_px: 1600, mpp: 0.5 }} }}\n\
         pixels: {{ stain: {{ macenko: {{}} }} }}\ntiling: {{ input_mpp: 12, tile_px: 32, margin_px: 0 }}\nbatch: {{ size: 4 }}\n\
         model: {{ network: {{ name: {NETWORK}, weights: random, device: {device} }} }}\n\
         run: {{ threads: 2, slides_in_flight: 1 }}\noutput: {{ dir: out, ome_zarr: {{ prob: true }} }}\n{more}"
    )
}

fn run(home: &Path, driver: &Path, environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = program::command(home, &["p.yaml"]);
    command.env("LD_LIBRARY_PATH", library_path(driver)).envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn a_run_that_a_gpu_ends_goes_on_where_it_was() {
    let Some(driver) = driver() else { return };
    let whole = program::home(&run_yaml("cuda", ""));
    program::assert_code(&run(whole.path(), &driver, &[]), 0);
    let log = whole.path().join("log");
    let again = program::home(&run_yaml("cuda", ""));
    program::assert_code(&run(again.path(), &driver, &[("EMULATION_LOG", log.to_str().unwrap())]), 0);
    let launches = count(&noted(&log), "launch");
    // The GPU fails in the second slide: the first is done, the run ends and says what to do.
    let home = program::home(&run_yaml("cuda", ""));
    let fails = format!("0:{}", launches * 3 / 4);
    let ended = run(home.path(), &driver, &[("EMULATION_FAILS", &fails)]);
    program::assert_code(&ended, 1);
    let said = program::text(&ended.stderr) + &program::text(&ended.stdout);
    assert!(said.contains("no gpu is left that works; start again"), "{said}");
    let done = program::files(&home.path().join("out/lesions")).len();
    assert_eq!(done, 1, "the first slide stays done");
    // Started again it does the rest, and all is as if nothing had been.
    let rest = home.path().join("rest");
    program::assert_code(&run(home.path(), &driver, &[("EMULATION_LOG", rest.to_str().unwrap())]), 0);
    assert!(count(&noted(&rest), "launch") < launches * 3 / 4, "the first slide is not run again");
    program::assert_same(
        "resumed",
        &program::results(&whole.path().join("out")),
        &program::results(&home.path().join("out")),
    );
}

#[test]
fn memory_that_ends_is_told_and_the_run_is_the_same() {
    let Some(driver) = driver() else { return };
    let (whole, few) = (program::home(&run_yaml("cuda", "")), program::home(&run_yaml("cuda", "")));
    let log = whole.path().join("log");
    program::assert_code(&run(whole.path(), &driver, &[("EMULATION_LOG", log.to_str().unwrap())]), 0);
    // Too little for both lanes, and then for the four tiles of a batch.
    let (weights, maps) = allocated(&noted(&log));
    let memory = (weights + maps * 3 / 4).to_string();
    let ended = run(few.path(), &driver, &[("EMULATION_MEMORY", &memory)]);
    program::assert_code(&ended, 0);
    let logs: String = program::files(&few.path().join("out/logs")).values().map(|l| program::text(l)).collect();
    let said = logs + &program::text(&ended.stderr);
    // The last batch of a slide, which is smaller, may be the first that does not fit.
    for what in ["it goes on with one stream less", "images are run as `"] {
        assert!(said.contains(what), "no `{what}` in {said}");
    }
    program::assert_same(
        "in parts",
        &program::results(&whole.path().join("out")),
        &program::results(&few.path().join("out")),
    );
}

/// A run over a slide of overlapping tiles, of whose nuclei colours are measured.
fn overlapping_yaml(on_device: bool) -> String {
    run_yaml("cuda", &format!("stitch: {{ blend: {{}}, on_device: {on_device} }}\n"))
        .replace("count: 2", "count: 1")
        .replace(NETWORK, "stardist_unet")
}

#[test]
fn a_slide_blended_on_the_gpu_is_that_blended_on_the_processor() {
    let Some(driver) = driver() else { return };
    let of = |on_device: bool, memory: &str| {
        let home = program::home(&overlapping_yaml(on_device));
        let log = home.path().join("log");
        let environment = [("EMULATION_LOG", log.to_str().unwrap()), ("EMULATION_MEMORY", memory)];
        program::assert_code(&run(home.path(), &driver, &environment), 0);
        (program::results(&home.path().join("out")), noted(&log))
    };
    let ((here, of_here), (there, of_there)) = (of(false, "4000000000"), of(true, "4000000000"));
    assert!(here.len() >= 4, "{:?}", here.keys());
    program::assert_same("blended on the gpu", &here, &there);
    let out = |all: &[Noted]| all.iter().filter(|n| n.what == "download").map(|n| n.bytes).sum::<i64>();
    assert!(out(&of_there) < out(&of_here), "{} and {} bytes", out(&of_there), out(&of_here));
    // One block of zeros, where all is given back in the end.
    assert_eq!((count(&of_there, "set"), count(&of_here, "set"), taken(&of_there).1), (1, 0, 0));
    // A GPU with hardly more memory than the slide's sums may take leaves them to the processor.
    let (few, of_few) = of(true, "100000000");
    assert_eq!(count(&of_few, "set"), 0);
    program::assert_same("on a small gpu", &here, &few);
}

/// A driver compiles it as `ptxas` does, one of an old toolkit as one of a new.
#[test]
fn the_text_that_is_embedded_is_taken_for_older_and_newer_gpus() {
    let Some(bin) = toolkit().filter(|_| EMBEDDED.contains("Embedded {")) else { return };
    std::thread::scope(|threads| {
        for (format, arch) in [("f16", "sm_80"), ("bf16", "sm_89"), ("f16", "sm_90"), ("bf16", "sm_120")] {
            let bin = &bin;
            threads.spawn(move || {
                let text = Path::new(env!("OUT_DIR")).join(format!("{format}.ptx"));
                let said = fs::read_to_string(&text).unwrap();
                assert!(said.contains("\n.version 7.8\n") && said.contains("\n.target sm_80\n"), "{}", &said[..200]);
                let mut ptxas = Command::new(bin.join("ptxas"));
                let done = ptxas.args(["-O0", "-arch", arch, "-o", "/dev/null"]).arg(&text).output().unwrap();
                assert!(done.status.success(), "{arch}: {}", program::text(&done.stderr));
            });
        }
    });
}

/// Run by the tests above, with the driver.
mod inside {
    use super::*;

    fn images(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(image).collect()
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn four_batches_give_the_same() {
        let (execute, plans) = execute(&[]);
        let images = images(3);
        let first = maps(&execute, &plans, &images, 3);
        assert_eq!(first[0][0].w, CORE_PX);
        (0..3).for_each(|_| assert!(maps(&execute, &plans, &images, 3) == first));
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn two_threads_run_batches() {
        let (execute, plans) = execute(&[]);
        assert_eq!(execute.batches_at_once(), 2);
        let together = Barrier::new(2);
        std::thread::scope(|threads| {
            for n in 0..2 {
                let (execute, plans, together) = (&execute, &plans, &together);
                threads.spawn(move || {
                    together.wait();
                    (0..4).for_each(|i| drop(maps(execute, plans, &[image(n), image(i)], 2)));
                });
            }
        });
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn eight_at_once() {
        let (execute, plans) = execute(&[]);
        let images = images(8);
        let found = maps(&execute, &plans, &images, 8);
        assert!(found == maps(&execute, &plans, &images, 3));
    }

    /// A slide of 60 × 37 px in tiles of which every px is in four.
    fn overlapping() -> Arc<TilePlan> {
        let mpp = Mpp::new(0.5).unwrap();
        let grid = TargetGrid::new(Size::new(60, 37), MppXy::square(mpp), mpp);
        let everything = TissueMask { bits: vec![1], w: 1, h: 1, step_x: 60.0, step_y: 37.0 };
        let tiler = Tiler::new((SIDE_PX as u32, CORE_PX / 2, 6), Window::Hann, (25, 4, BLOCK_PX)).unwrap();
        Arc::new(tiler.plan(grid, CellMask::new(&grid, &everything, 0.0)))
    }

    const BLOCK_PX: u32 = 16;
    /// Of the weights and three channels.
    pub const BLOCK_BYTES: i64 = 4 * (1 + 3) * (BLOCK_PX as i64).pow(2);

    /// Two heads, of which one has two channels, on as good as no network.
    fn two_heads() -> (CudaExecute, Vec<HeadPlan>) {
        let mut g = Graph::new("two_heads", 3);
        let x = g.input();
        let x = g.conv("first", x, Conv::new(8, 3).pad(1));
        let (nuclear, distances) = (g.conv("one", x, Conv::new(1, 1)), g.conv("two", x, Conv::new(2, 1)));
        g.output("nuclear", Head::NuclearPixel, nuclear);
        g.output("distances", Head::HorizontalVertical, distances);
        let options = ExecuteOptions { precision: settings::Precision::Usual, kind: 0 };
        let execute = CudaExecute::new(&g, &Weights::from_names(&g), &options, &[]).unwrap();
        (execute, head_plans(&g, 1))
    }

    fn blend(execute: &CudaExecute, plans: &[HeadPlan]) -> Option<Arc<dyn Blend>> {
        execute.blend(plans, &BlendForm { window: hann(CORE_PX), block_px: BLOCK_PX, most_px: 25 + 2 * 4 })
    }

    fn canvas(plan: &Arc<TilePlan>, plans: &[HeadPlan]) -> SlideCanvas {
        let heads = plans.iter().map(|plan| (plan.spec.head, plan.spec.channels)).collect();
        let maps = CanvasMaps { heads, lists_rays: false, keeps_rgb: false };
        SlideCanvas::new(plan.clone(), maps, Arc::new(RegionPool::new(0)))
    }

    /// Regions of a slide, whose tiles are added a batch ahead of the canvas; it ends after `tiles` of them.
    fn blended(blend: &Arc<dyn Blend>, plans: &[HeadPlan], images: &[Vec<u8>], tiles: usize) -> Vec<Region> {
        let (plan, slide) = (overlapping(), Arc::new(SlideBlend::new(blend.clone())));
        let mut canvas = canvas(&plan, plans).with_sums_away(Some(slide.clone()));
        let (mut regions, mut added) = (vec![], 0);
        for (i, tile) in plan.tiles.iter().enumerate().take(tiles) {
            while added < plan.tiles.len().min(i + 5) {
                let end = plan.tiles.len().min(added + 5);
                let mut batch: Vec<ModelTile<'_>> =
                    images[added..end].iter().map(|rgb| ModelTile::plain(rgb)).collect();
                let to = |tile| placement(&plan, tile, slide.slide());
                let placements: Vec<Placement> = plan.tiles[added..end].iter().map(to).collect();
                blend.add(&mut batch, SIDE_PX as u32, &placements).unwrap();
                added = end;
            }
            regions.extend(canvas.add_blended(tile, &[]).map(Result::unwrap));
        }
        regions
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn slides_are_blended() {
        let (execute, plans) = two_heads();
        let plan = overlapping();
        let images = images(plan.tiles.len());
        let mut expected = vec![];
        let mut by_processor = canvas(&plan, &plans);
        for (tile, maps) in plan.tiles.iter().zip(maps(&execute, &plans, &images, 5)) {
            expected.extend(by_processor.add(tile, &maps, &[]).unwrap().map(Result::unwrap));
        }
        assert!(expected.len() >= 6 && expected.iter().all(|region| region.computed.iter().all(|c| *c == 1)));
        let blend = blend(&execute, &plans).unwrap();
        let of_blocks = || {
            let all = noted(Path::new(&std::env::var_os("EMULATION_LOG").unwrap()));
            all.iter().filter(|n| n.what == "allocate" && n.bytes == BLOCK_BYTES).count()
        };
        assert!(blended(&blend, &plans, &images, usize::MAX) == expected, "regions");
        let first = of_blocks();
        // A slide needs each for a while, and those behind it use them again.
        assert!(first > 2, "{first} blocks");
        let half = blended(&blend, &plans, &images, plan.tiles.len() / 2);
        assert!(half == expected[..half.len()] && half.len() < expected.len());
        assert!(blended(&blend, &plans, &images, usize::MAX) == expected, "regions after a slide that ended early");
        if std::env::var_os("EMULATION_MEMORY").is_none() {
            assert_eq!(of_blocks(), first, "blocks of a slide that ended early are used again");
        }
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn the_only_one_fails_while_it_adds() {
        let (execute, plans) = two_heads();
        let (plan, images, blend) = (overlapping(), images(1), blend(&execute, &plans).unwrap());
        let to = [placement(&plan, &plan.tiles[0], 0)];
        let add = || blend.add(&mut [ModelTile::plain(&images[0])], SIDE_PX as u32, &to);
        let why = (0..100).find_map(|_| add().err()).unwrap().to_string();
        assert_eq!(why, "no gpu is left that works; start again to go on with the slides not done");
        assert_eq!(add().unwrap_err().to_string(), why);
    }

    fn many_batches(gpus: &[u32]) {
        let (execute, plans) = execute(gpus);
        // Sums would have to travel between GPUs.
        assert_eq!(blend(&execute, &plans).is_none(), execute.batches_at_once() > 2);
        let images = images(24);
        let expected = maps(&execute, &plans, &images[..1], 1);
        std::thread::scope(|threads| {
            let (execute, plans) = (&execute, &plans);
            let parts: Vec<_> = images.chunks(4).map(|part| threads.spawn(|| maps(execute, plans, part, 2))).collect();
            let found: Vec<_> = parts.into_iter().flat_map(|part| part.join().unwrap()).collect();
            assert_eq!(found.len(), 24);
            assert!(found[0] == expected[0]);
            // Whoever ran an image, the same bits.
            assert!(found == maps(execute, plans, &images, 24));
        });
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn many_batches_on_all() {
        many_batches(&[]);
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn many_batches_on_two() {
        many_batches(&[0, 2]);
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn the_only_one_fails() {
        let (execute, plans) = execute(&[]);
        let image = image(0);
        let batch = || execute.run_to_maps(&mut [ModelTile::plain(&image)], SIDE_PX, &plans, None);
        let why = batch().unwrap_err().to_string();
        assert_eq!(why, "no gpu is left that works; start again to go on with the slides not done");
        // Nobody waits for ever.
        assert_eq!(batch().unwrap_err().to_string(), why);
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn the_first_is_too_old() {
        let graph = graph();
        let options = ExecuteOptions { precision: settings::Precision::Usual, kind: 0 };
        let all = devices::count().unwrap();
        // Alone it is all that "all" means.
        for gpus in [&[0][..], &[]].into_iter().take(if all == 1 { 2 } else { 1 }) {
            let why = CudaExecute::new(&graph, &Weights::from_names(&graph), &options, gpus).err().unwrap().to_string();
            let expected = "gpu `0` (an emulation, no GPU) has compute capability `7.5`, expected 8.0 or later";
            assert_eq!(why, expected);
        }
    }

    #[test]
    #[ignore = "run with the driver by another test"]
    fn slides_of_several_stains() {
        use StainReference::Standard;
        // Two stains in many strengths.
        let strengths: Vec<f64> = image(9).iter().map(|v| f64::from(*v) / 255.0).collect();
        let px = |s: &[f64]| {
            [[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]].map(|of| (240.0 * (-s[0] * of[0] - s[1] * of[1]).exp()) as u8)
        };
        let tissue: Vec<u8> = strengths.chunks_exact(2).flat_map(px).collect();
        let methods = [Stain::Macenko(Standard), Stain::Ruifrok(Standard), Stain::Reinhard(Standard)];
        let transforms: Vec<StainTransform> = methods
            .iter()
            .map(|method| stain::fit(&tissue, method).unwrap().transform)
            .chain([StainTransform::Identity])
            .collect();
        let tables: Vec<Option<Arc<StainTables>>> =
            transforms.iter().map(|t| StainTables::of(t).map(Arc::new)).collect();
        assert_eq!(tables.iter().flatten().count(), 3);
        let (execute, plans) = execute(&[]);
        // Batches of other slides each time, in other orders.
        for round in 0..4 {
            let slides: Vec<usize> = (0..5).map(|i| (i * (round + 1) + round) % 4).collect();
            let raw: Vec<Vec<u8>> = (0..5).map(|i| image(10 * round + i)).collect();
            let mut normal = raw.clone();
            normal.iter_mut().zip(&slides).for_each(|(rgb, slide)| transforms[*slide].apply(rgb));
            let expected = maps(&execute, &plans, &normal, 5);
            let mut seen = raw.clone();
            let mut tiles: Vec<ModelTile<'_>> = seen
                .iter_mut()
                .zip(&slides)
                .map(|(rgb, slide)| ModelTile { rgb: TilePixels::Own(rgb), stain: tables[*slide].as_ref() })
                .collect();
            let found = execute.run_to_maps(&mut tiles, SIDE_PX, &plans, Some(CORE_PX)).unwrap().unwrap();
            drop(tiles);
            assert!(found == expected, "maps of round {round}");
            assert!(seen == normal, "pixels of round {round}");
        }
    }
}
