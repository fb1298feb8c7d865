//! Compiled inference takes no more memory than its plan says, and none per batch.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};
use wsi_run::{
    infer::{Compiled, Isa, Options, Precision},
    model::{
        weights::{Normalisation, Weights},
        zoo::zoo,
    },
};

/// The system's allocator, and how much of it is in use.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all; the numbers are only told.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(live, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is in use now, and from now on the peak.
fn now() -> usize {
    let live = LIVE.load(SeqCst);
    PEAK.store(live, SeqCst);
    live
}

/// Names, steps and slots; queues of the threads.
const SMALL_BYTES: usize = 3 << 20;

/// One test, since the count is of the whole process.
#[test]
fn memory_is_what_the_plan_says_and_is_kept() {
    let px = 128;
    for name in ["stardist_unet", "light_mu_seg", "u_net_resnet34", "u_net_mit_b0", "crescent_dense_net"] {
        for (precision, isa) in [(Precision::F32, Isa::detect()), (Precision::Bf16, Isa::best())] {
            let graph = (zoo().into_iter().find(|e| e.name == name).unwrap().build)();
            let weights = Weights::from_names(&graph);
            let before = now();
            let compiled = Compiled::new(&graph, &weights, Options { precision, isa, size: Some((px, px)) }).unwrap();
            let plan = compiled.plan(px, px).unwrap();
            let packed = LIVE.load(SeqCst) - before;
            let told = plan.weight_bytes;
            assert!(packed <= told + SMALL_BYTES, "{name} {precision:?}: weights {packed} bytes, {told} in the plan");

            let threads = 3;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let image = vec![97_u8; px * px * 3];
            let run = |batch: usize| {
                let images = vec![&image[..]; batch];
                pool.install(|| compiled.run(&images, (px, px), &Normalisation::UNIT, &|_| {})).unwrap();
            };
            let start = now();
            // A batch that the threads share out, with one image left over for all of them.
            run(threads + 1);
            let (used, told) = (PEAK.load(SeqCst) - start, plan.bytes(threads, threads) - plan.weight_bytes);
            assert!(
                used <= told + SMALL_BYTES,
                "{name} {precision:?}: {used} bytes of activations, {told} in the plan"
            );
            assert!(used >= plan.arena_bytes(), "{name} {precision:?}: the arena is counted");

            // On a busy machine it takes some batches until each thread has had an image.
            (0..20).for_each(|_| run(2 * threads));
            let kept = now();
            (1..=5).for_each(run);
            let more = PEAK.load(SeqCst) - kept;
            assert!(more < 64 << 10, "{name} {precision:?}: {more} bytes more in later batches");
        }
    }
}
