//! Puts tile predictions on their slide's canvas and hands out regions.

use super::{Prediction, Stitched, TileAnswer, TileOutcome, TileRef};
use crate::{
    error::{RunError, StageName},
    model::Head,
    output::ResultKind,
    pipeline::{
        heap,
        job::SlideJob,
        progress::Progress,
        stage::{Emit, Stage, StageStop},
    },
    stitch::{CanvasMaps, ReadyRegions, RegionPool, SlideCanvas, StitchError},
    tiling::TileSpec,
};
use std::{collections::HashMap, sync::Arc};

/// Tiles of a slide after which freed memory is given back.
const TILES_BETWEEN_TRIMS: usize = 64;

/// One stitcher thread's state: the canvases of the slides it owns.
pub struct StitchStage {
    kind: ResultKind,
    maps: CanvasMaps,
    pool: Arc<RegionPool>,
    progress: Arc<dyn Progress>,
    /// Per slot: what was gathered and the number of tiles that arrived.
    slides: HashMap<usize, (Gathered, usize)>,
}

/// What was predicted of a slide so far.
enum Gathered {
    Maps(Box<SlideCanvas>),
    Answers(Vec<TileAnswer>),
}

impl Gathered {
    /// Takes what was said of a tile and hands out the regions that completes.
    fn add(
        &mut self,
        job: &SlideJob,
        tile: &TileSpec,
        said: &Prediction,
        rgb: &[u8],
    ) -> Result<Option<ReadyRegions<'_>>, RunError> {
        match (self, said) {
            (Self::Maps(canvas), Prediction::Maps(maps)) => canvas.add(tile, maps, rgb).map(Some).map_err(failed),
            (Self::Maps(canvas), Prediction::Added) => Ok(Some(canvas.add_blended(tile, rgb))),
            (Self::Answers(_), Prediction::Added) => unreachable!("what is said once per tile is added nowhere"),
            (Self::Answers(answers), Prediction::Maps(maps)) => {
                let step = i64::from(job.plan.tiler.stride_px);
                let at = ((tile.used.x / step) as u32, (tile.used.y / step) as u32);
                let answer = maps.iter().find(|m| m.head == Head::Classification);
                answers.extend(answer.map(|m| TileAnswer { at, probs: m.data.clone() }));
                Ok(None)
            }
        }
    }

    /// Counts a tile without prediction.
    fn skip(&mut self, tile: &TileSpec) -> Option<ReadyRegions<'_>> {
        match self {
            Self::Maps(canvas) => Some(canvas.skip(tile)),
            Self::Answers(_) => None,
        }
    }
}

fn failed(error: StitchError) -> RunError {
    RunError::Forward(error.to_string())
}

impl StitchStage {
    /// A stitcher for a model's maps.
    pub fn new(kind: ResultKind, maps: CanvasMaps, pool: Arc<RegionPool>, progress: Arc<dyn Progress>) -> Self {
        Self { kind, maps, pool, progress, slides: HashMap::new() }
    }

    fn gather(&self, job: &SlideJob) -> Gathered {
        if self.kind == ResultKind::Tiles {
            return Gathered::Answers(vec![]);
        }
        let canvas = SlideCanvas::new(job.plan.clone(), self.maps.clone(), self.pool.clone());
        Gathered::Maps(Box::new(canvas.with_sums_away(job.blend.clone())))
    }
}

impl Stage for StitchStage {
    type In = TileOutcome;
    type Out = Stitched;

    fn process(&mut self, item: TileOutcome, out: &mut dyn Emit<Stitched>) -> Result<(), StageStop> {
        let (TileOutcome::Predicted(super::Tile { at: TileRef { job, index }, .. }, _)
        | TileOutcome::Skipped(TileRef { job, index })) = &item;
        let (job, tile) = (job.clone(), job.plan.tiles[*index]);
        let (mut gathered, mut arrived) = self.slides.remove(&job.slot).unwrap_or_else(|| (self.gather(&job), 0));
        arrived += 1;
        let is_last = arrived == job.plan.tiles.len();
        if arrived.is_multiple_of(TILES_BETWEEN_TRIMS) {
            heap::give_back();
        }
        if job.failure().is_none() {
            let mut regions = job.clocks.time(StageName::Stitch, || match &item {
                TileOutcome::Predicted(tile_px, said) => {
                    job.tile_done();
                    gathered.add(&job, &tile, said, &tile_px.rgb)
                }
                TileOutcome::Skipped(_) => Ok(gathered.skip(&tile)),
            })?;
            // The tile's buffer goes home before this thread waits for room downstream.
            drop(item);
            self.progress.tiles_done(&job.header.id, 1, 0);
            let mut next = || job.clocks.time(StageName::Stitch, || regions.as_mut()?.next());
            while let Some(region) = next() {
                out.emit(Stitched::Region(job.clone(), region.map_err(failed)?))?;
            }
        }
        if !is_last {
            self.slides.insert(job.slot, (gathered, arrived));
            return Ok(());
        }
        match gathered {
            Gathered::Maps(canvas) => {
                tracing::debug!(slide = job.header.id, bytes = canvas.peak_bytes(), "canvas at its largest");
            }
            Gathered::Answers(answers) => out.emit(Stitched::Tiles(job.clone(), answers))?,
        }
        Ok(out.emit(Stitched::Ended(job))?)
    }
}
