//! Puts tile predictions on their slide's canvas and hands out regions.

use super::{Stitched, TileOutcome, TileRef};
use crate::{
    error::{RunError, StageName},
    model::Head,
    pipeline::{
        heap,
        progress::Progress,
        stage::{Emit, Stage, StageStop},
    },
    stitch::{RegionPool, SlideCanvas},
};
use std::{collections::HashMap, sync::Arc};

/// Tiles of a slide after which freed memory is given back.
const TILES_BETWEEN_TRIMS: usize = 64;

/// One stitcher thread's state: the canvases of the slides it owns.
pub struct StitchStage {
    heads: Vec<(Head, u32)>,
    keeps_rgb: bool,
    pool: Arc<RegionPool>,
    progress: Arc<dyn Progress>,
    /// Per slot: the canvas and the number of tiles that arrived.
    slides: HashMap<usize, (SlideCanvas, usize)>,
}

impl StitchStage {
    /// A stitcher for a model's heads.
    pub fn new(heads: Vec<(Head, u32)>, keeps_rgb: bool, pool: Arc<RegionPool>, progress: Arc<dyn Progress>) -> Self {
        Self { heads, keeps_rgb, pool, progress, slides: HashMap::new() }
    }
}

impl Stage for StitchStage {
    type In = TileOutcome;
    type Out = Stitched;

    fn process(&mut self, item: TileOutcome, out: &mut dyn Emit<Stitched>) -> Result<(), StageStop> {
        let (TileOutcome::Predicted(super::Tile { at: TileRef { job, index }, .. }, _)
        | TileOutcome::Skipped(TileRef { job, index })) = &item;
        let (job, tile) = (job.clone(), job.plan.tiles[*index]);
        let (canvas, arrived) = self.slides.entry(job.slot).or_insert_with(|| {
            (SlideCanvas::new(job.plan.clone(), self.heads.clone(), self.keeps_rgb, self.pool.clone()), 0)
        });
        *arrived += 1;
        let is_last = *arrived == job.plan.tiles.len();
        if arrived.is_multiple_of(TILES_BETWEEN_TRIMS) {
            heap::give_back();
        }
        if job.failure().is_none() {
            let regions = job.clocks.time(StageName::Stitch, || match &item {
                TileOutcome::Predicted(tile_px, maps) => {
                    job.tile_done();
                    canvas.add(&tile, maps, &tile_px.rgb).map_err(|e| RunError::Forward(e.to_string()))
                }
                TileOutcome::Skipped(_) => Ok(canvas.skip(&tile)),
            })?;
            // The tile's buffer goes home before this thread waits for room downstream.
            drop(item);
            self.progress.tiles_done(&job.header.id, 1, 0);
            for region in regions {
                out.emit(Stitched::Region(job.clone(), region))?;
            }
        }
        if is_last {
            if let Some((canvas, _)) = self.slides.remove(&job.slot) {
                tracing::debug!(slide = job.header.id, bytes = canvas.peak_bytes(), "canvas at its largest");
            }
            out.emit(Stitched::Ended(job))?;
        }
        Ok(())
    }
}
