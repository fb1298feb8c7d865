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
    Pass::new(compiled, &prepared, input, &mut arena, 1).run(&keep, |step, pass| {
        for buffer in plan.buffers.iter().filter(|b| poison && b.floats > 0 && b.last_step == step) {
            // SAFETY: the buffer lies inside the arena, and no step is running.
            let freed = unsafe { std::slice::from_raw_parts_mut(pass.arena.add(buffer.offset), buffer.floats) };
            freed.fill(f32::NAN);
        }
    });
    found.into_inner().unwrap()
}

#[test]
fn nothing_reads_memory_before_it_is_written_or_after_it_is_freed() {
    for (name, px) in
        [("light_mu_seg", 64), ("crescent_dense_net", 64), ("hover_net_fast", 96), ("u_net_mit_b0", 64), ("u_net", 32)]
    {
        let graph = (zoo().into_iter().find(|e| e.name == name).unwrap().build)();
        let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
        let (clean, poisoned) = (heads(&compiled, px, false), heads(&compiled, px, true));
        assert!(clean == poisoned && clean.iter().flatten().all(|v| v.is_finite()), "{name}");
    }
}

#[test]
fn bands_hold_every_row_once() {
    let graph = (zoo().into_iter().find(|e| e.name == "stardist_unet").unwrap().build)();
    let compiled = Compiled::new(&graph, &Weights::from_names(&graph), Options::default()).unwrap();
    let prepared = compiled.prepared(16, 16).unwrap();
    for (rows, work, threads) in [(1, 0, 1), (7, 1 << 40, 3), (100, 1 << 40, 5), (33, 350_000, 4), (8, 1 << 40, 8)] {
        let mut arena = Aligned::zeros(prepared.plan.arena_floats);
        let input = Input { image: 0, pixels: &[], kind: 0, normalisation: &Normalisation::UNIT };
        let pass = Pass::new(&compiled, &prepared, input, &mut arena, threads);
        let seen = Mutex::new(vec![0; rows]);
        pass.bands(rows, work, &|band, _| band.for_each(|row| seen.lock().unwrap()[row] += 1));
        assert!(seen.into_inner().unwrap().iter().all(|count| *count == 1), "{rows} rows, {threads} threads");
    }
}
