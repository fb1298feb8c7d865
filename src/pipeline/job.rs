//! One slide on its way through the flow.
//!
//! Owns: [`SlideJob`]: what every stage may know of a slide, its failure latch, its counters and clocks.
//! Must not know: what stages do.

use crate::{
    error::{SlideError, StageName},
    model::SlideBlend,
    output::SlideHeader,
    pixels::{
        TargetReader,
        stain::{StainTables, StainTransform},
    },
    run::Claim,
    tiling::TilePlan,
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Why a slide did not finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Something was wrong with the slide or its outputs.
    Error(SlideError),
    /// The run was asked to stop.
    Interrupted,
    /// Another process took the slide over, because this one gave no sign of life for too long.
    TakenOver,
}

/// Nanoseconds of work per stage.
#[derive(Debug, Default)]
pub struct StageClocks([AtomicU64; 9]);

impl StageClocks {
    /// Runs `work` on the clock of `stage`.
    pub fn time<T>(&self, stage: StageName, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(stage, start.elapsed());
        result
    }

    /// Adds a measured time.
    pub fn add(&self, stage: StageName, time: Duration) {
        self.0[stage as usize].fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Seconds of work in `stage` so far, over all threads.
    pub fn secs(&self, stage: StageName) -> f64 {
        self.0[stage as usize].load(Ordering::Relaxed) as f64 * 1e-9
    }
}

/// One slide on its way through the flow; shared by its tiles.
pub struct SlideJob {
    /// Which of the slides in flight it is; picks the stitcher and the writer that own it.
    pub slot: usize,
    /// Names, grid, classes.
    pub header: SlideHeader,
    /// Reads its pixels.
    pub reader: TargetReader,
    /// Which tiles, which regions.
    pub plan: Arc<TilePlan>,
    /// Stain normalisation of this slide.
    pub stain: StainTransform,
    /// The same for models that do it themselves.
    pub stain_tables: Option<Arc<StainTables>>,
    /// Its sums, where they are kept with the model.
    pub blend: Option<Arc<SlideBlend>>,
    /// Time spent in each stage.
    pub clocks: StageClocks,
    /// The right to run it.
    pub claim: Claim,
    failure: OnceLock<Failure>,
    tiles_done: AtomicU64,
    tiles_failed: AtomicU64,
    first_tile_error: OnceLock<String>,
}

impl SlideJob {
    /// A slide of which `tiles_done` tiles were done by earlier runs; they are not in the plan.
    pub fn new(
        (slot, claim): (usize, Claim),
        header: SlideHeader,
        reader: TargetReader,
        (plan, tiles_done): (Arc<TilePlan>, u64),
        stain: StainTransform,
        blend: Option<Arc<SlideBlend>>,
    ) -> Self {
        Self {
            slot,
            header,
            reader,
            plan,
            stain_tables: StainTables::of(&stain).map(Arc::new),
            stain,
            blend,
            clocks: StageClocks::default(),
            claim,
            failure: OnceLock::new(),
            tiles_done: AtomicU64::new(tiles_done),
            tiles_failed: AtomicU64::new(0),
            first_tile_error: OnceLock::new(),
        }
    }

    /// Marks the slide as failed. The first failure wins; every stage then passes the slide's tiles on as skipped.
    pub fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }

    /// Counts a tile that was predicted.
    pub fn tile_done(&self) {
        self.tiles_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a tile that could not be read; the first reason is kept.
    pub fn tile_failed(&self, reason: String) {
        self.tiles_failed.fetch_add(1, Ordering::Relaxed);
        let _ = self.first_tile_error.set(reason);
    }

    /// Tiles predicted so far.
    pub fn tiles_done_count(&self) -> u64 {
        self.tiles_done.load(Ordering::Relaxed)
    }

    /// Tiles that could not be read so far.
    pub fn tiles_failed_count(&self) -> u64 {
        self.tiles_failed.load(Ordering::Relaxed)
    }

    /// Why the first unreadable tile could not be read.
    pub fn first_tile_error(&self) -> Option<&str> {
        self.first_tile_error.get().map(String::as_str)
    }
}
