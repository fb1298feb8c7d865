use super::*;
use crate::{
    infer::Options,
    model::{weights::Weights, zoo::zoo},
};
use std::sync::Mutex;

fn heads(compiled: &Compiled, px: usize, poison: bool) -> Vec<Vec<f32>> {
    let image: Vec<u8> = (0..px * px * 3).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let prepared = compiled.prepared(px, px).unwrap();
    let plan = &prepared.plan;
    let mut arena = Aligned::zeros(plan.arena_floats);
    if poison {
        arena.fill(f32::NAN);
    }
    let input = Input { image: 0, pixels: &image, kind: 0, normalisation: &Normalisation::IMAGENET };
    let found = Mutex::new(vec![vec![]; plan.heads.len()]);
    let keep = |rows: HeadRows<'_>| found.lock().unwrap()[rows.head].extend_from_slice(rows.values);
    let team = Team::new();
    Pass::new(compiled, &prepared, input, &mut arena, &team).run(&keep, |steps, pass| {
        for (i, buffer) in
            plan.buffers.iter().enumerate().filter(|(_, b)| poison && b.floats > 0 && steps.contains(&b.last_step))
        {
            // What is left of it has just moved to its beginning.
            let left = plan.buffers.iter().find(|b| b.within == Some(i)).map_or(0, |b| b.floats);
            // SAFETY: the buffer lies inside the arena, and no step is running.
            let freed = unsafe { std::slice::from_raw_parts_mut(pass.arena.add(buffer.offset), buffer.floats) };
            freed[left..].fill(f32::NAN);
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn nothing_reads_memory_before_it_is_written_or_after_it_is_freed() {
    for (name, px) in [
        ("light_mu_seg", 192),
        ("stardist_unet", 160),
        ("crescent_dense_net", 64),
        ("hover_net_fast", 96),
        ("u_net_mit_b0", 64),
        ("u_net", 32),
    ] {
        let graph = (zoo().into_iter().find(|e| e.name == name).unwrap().build)();
        let options = Options { size: Some((px, px)), ..Options::default() };
        let compiled = Compiled::new(&graph, &Weights::from_names(&graph), options).unwrap();
        let (clean, poisoned) = (heads(&compiled, px, false), heads(&compiled, px, true));
        assert!(clean == poisoned && clean.iter().flatten().all(|v| v.is_finite()), "{name}");
    }
}

#[test]
fn what_only_the_next_steps_read_is_not_in_the_arena() {
    let graph = (zoo().into_iter().find(|e| e.name == "stardist_unet").unwrap().build)();
    let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
    let plan = compiled.plan(256, 256).unwrap();
    let all: Vec<usize> = plan.sweeps.iter().flat_map(|sweep| sweep.steps.clone()).collect();
    assert_eq!(all, (0..plan.steps.len()).collect::<Vec<_>>(), "every step is in one sweep");
    let together: Vec<_> = plan.sweeps.iter().filter(|sweep| sweep.steps.len() > 1).collect();
    let names = |sweep: &&Sweep| plan.steps[sweep.steps.clone()].iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    let names: Vec<Vec<String>> = together.iter().map(names).collect();
    assert_eq!(names[0], ["grid_1", "max_pool #5"]);
    assert_eq!(names[1], ["features", "prob", "dist"]);
    assert_eq!(names[2], ["features_class", "prob_class"]);
    for sweep in together {
        let first = plan.steps[sweep.steps.start].output;
        assert_eq!(sweep.near, [(first.buffer, 0)]);
        assert_eq!(plan.buffers[first.buffer].floats, 0);
        assert!(sweep.near_floats <= plan.scratch_floats && sweep.together.is_multiple_of(sweep.unit));
        let heads = plan.heads.iter().filter(|head| head.slot.buffer == first.buffer);
        assert_eq!(heads.count(), 0);
    }
}

#[test]
fn bands_hold_every_row_once() {
    let graph = (zoo().into_iter().find(|e| e.name == "stardist_unet").unwrap().build)();
    let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
    let prepared = compiled.prepared(16, 16).unwrap();
    for (rows, work, threads) in [(1, 0, 1), (7, 1 << 40, 3), (100, 1 << 40, 5), (33, 350_000, 4), (8, 1 << 40, 8)] {
        let seen = Mutex::new(vec![0; rows]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let pass = |_, team: &Team| {
            let mut arena = Aligned::zeros(prepared.plan.arena_floats);
            let input = Input { image: 0, pixels: &[], kind: 0, normalisation: &Normalisation::UNIT };
            let pass = Pass::new(&compiled, &prepared, input, &mut arena, team);
            while team.members() < threads {
                std::hint::spin_loop();
            }
            pass.bands(rows, work, &|band, _| band.for_each(|row| seen.lock().unwrap()[row] += 1));
        };
        pool.install(|| share_out(1, 1, &pass));
        assert!(seen.into_inner().unwrap().iter().all(|count| *count == 1), "{rows} rows, {threads} threads");
    }
}

#[test]
fn a_batch_gives_the_same_bits_however_many_images_are_in_work() {
    let graph = (zoo().into_iter().find(|e| e.name == "stardist_unet").unwrap().build)();
    let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
    let (px, batch) = (48, 5);
    let prepared = compiled.prepared(px, px).unwrap();
    let images: Vec<Vec<u8>> = (0..batch).map(|n| (0..px * px * 3).map(|i| (i * (n + 7)) as u8).collect()).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let run = |at_once: usize| {
        let sizes = prepared.plan.heads.iter().map(|head| head.slot.layout);
        let blank: Vec<Vec<f32>> = sizes.map(|l| vec![f32::NAN; l.h * l.w * l.c]).collect();
        let all = Mutex::new(vec![blank; batch]);
        let sink = |r: HeadRows<'_>| {
            let to = &mut all.lock().unwrap()[r.image][r.head][r.first_row * r.w * r.c..][..r.values.len()];
            assert!(to.iter().all(|v| v.is_nan()), "rows are given once");
            to.copy_from_slice(r.values);
        };
        let kinds = vec![0; batch];
        pool.install(|| compiled.run_prepared(&prepared, (&images, &kinds), at_once, &Normalisation::UNIT, &sink));
        all.into_inner().unwrap()
    };
    let alone = run(3);
    assert!(alone.iter().flatten().flatten().all(|v| v.is_finite()));
    assert!(run(1) == alone && run(2) == alone);
}

#[test]
fn what_needs_much_memory_runs_fewer_images_at_once() {
    let graph = (zoo().into_iter().find(|e| e.name == "stardist_unet").unwrap().build)();
    let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
    let at_once = |px: usize, batch: usize, threads: usize| {
        let plan = compiled.plan(px, px).unwrap();
        let count = plan.images_at_once(batch, threads);
        assert!(count == 1 || count * plan.arena_bytes() <= threads * (76 << 20), "{px} px: {count}");
        count
    };
    assert_eq!((at_once(256, 16, 4), at_once(256, 3, 4), at_once(256, 4, 1)), (4, 3, 1));
    assert!(at_once(1024, 16, 4) < 4 && at_once(4096, 16, 4) == 1);
}

#[test]
fn residuals_are_summed_in_place_and_of_cropped_skips_only_the_crop_is_kept() {
    // Every block of a ResNet-50, and skips to a stage and to three decoders; not those of a U-Net, which are concatenated.
    for (name, px, sums, crops) in [("resnet_50", 64, 16, 0), ("hover_net_fast", 256, 16, 5), ("u_net", 64, 0, 0)] {
        let graph = (zoo().into_iter().find(|e| e.name == name).unwrap().build)();
        let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
        let plan = compiled.plan(px, px).unwrap();
        let in_place =
            plan.steps.iter().filter(|step| step.inputs.len() > 1 && step.inputs.last() == Some(&step.output));
        let moved = plan.buffers.iter().filter(|buffer| buffer.within.is_some() && buffer.floats > 0);
        assert_eq!((in_place.count(), moved.count()), (sums, crops), "{name}");
        assert!(name != "hover_net_fast" || plan.arena_bytes() < 115 << 20, "{}", plan.arena_bytes());
    }
}
