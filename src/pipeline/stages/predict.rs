//! Runs the model on batches.

use super::{Batch, Prediction, Tile, TileOutcome, TileRef};
use crate::{
    error::{RunError, StageName},
    model::{Model, ModelError, ModelTile, Placement, TilePixels, Wanted},
    pipeline::stage::{Emit, Stage, StageStop},
    stitch::placement,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// One predictor thread's state.
pub struct PredictStage {
    /// The model.
    pub model: Arc<dyn Model>,
    /// Side of the tiles.
    pub tile_px: u32,
    /// How much of their maps is used.
    pub wanted: Wanted,
    /// Whether pixels are needed behind the model, as it saw them.
    pub keeps_rgb: bool,
    /// When the last batch ended, of all predictors of a model that takes the whole machine: time during which two
    /// batches are under way is counted once.
    pub last_end: Option<Arc<Mutex<Instant>>>,
}

impl PredictStage {
    /// The tile as the model is shown it.
    fn shown<'a>(&self, tile: &'a mut Tile, normalises_stain: bool) -> ModelTile<'a> {
        let Tile { at, rgb } = tile;
        let rgb = &mut rgb[..(self.tile_px as usize).pow(2) * 3];
        let rgb = if self.keeps_rgb { TilePixels::Own(rgb) } else { TilePixels::Shared(rgb) };
        ModelTile { rgb, stain: at.job.stain_tables.as_ref().filter(|_| normalises_stain) }
    }

    /// What the model says of tiles: all of slides whose sums are kept with it, or none.
    fn predict(&self, tiles: &mut [Tile]) -> Result<Vec<Prediction>, ModelError> {
        let blend = tiles.first().and_then(|tile| tile.at.job.blend.clone());
        let placements: Option<Vec<Placement>> = tiles.iter().map(|tile| placed(&tile.at)).collect();
        let normalises_stain = self.model.normalises_stain();
        let mut shown: Vec<ModelTile<'_>> = tiles.iter_mut().map(|tile| self.shown(tile, normalises_stain)).collect();
        if let (Some(slide), Some(placements)) = (blend, placements) {
            slide.blend().add(&mut shown, self.tile_px, &placements)?;
            return Ok(placements.iter().map(|_| Prediction::Added).collect());
        }
        let maps = self.model.forward_tiles(&mut shown, self.tile_px, &self.wanted)?;
        Ok(maps.into_iter().map(Prediction::Maps).collect())
    }

    /// Runs tiles that [`PredictStage::predict`] takes, and hands them on.
    fn run(&self, mut tiles: Vec<Tile>, out: &mut dyn Emit<TileOutcome>) -> Result<(), StageStop> {
        let start = Instant::now();
        let said = self.predict(&mut tiles).map_err(|e| RunError::Forward(e.to_string()))?;
        let each = self.since(start) / tiles.len() as u32;
        if said.len() != tiles.len() {
            return Err(RunError::Forward(format!("got maps of {} tiles, expected {}", said.len(), tiles.len())).into());
        }
        for (tile, said) in tiles.into_iter().zip(said) {
            tile.at.job.clocks.add(StageName::Model, each);
            out.emit(TileOutcome::Predicted(tile, said))?;
        }
        Ok(())
    }

    /// Time from `start`, or from the end of another batch that ended since, until now.
    fn since(&self, start: Instant) -> Duration {
        let now = Instant::now();
        let Some(last) = &self.last_end else { return now - start };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let from = start.max(*last);
        *last = now.max(*last);
        now.saturating_duration_since(from)
    }
}

/// Where what is said of a tile is added, for a slide whose sums are kept with the model.
fn placed(TileRef { job, index }: &TileRef) -> Option<Placement> {
    job.blend.as_ref().map(|blend| placement(&job.plan, &job.plan.tiles[*index], blend.slide()))
}

impl Stage for PredictStage {
    type In = Batch;
    type Out = TileOutcome;

    fn process(&mut self, batch: Batch, out: &mut dyn Emit<TileOutcome>) -> Result<(), StageStop> {
        let tiles = match batch {
            Batch::Skipped(at) => return Ok(out.emit(TileOutcome::Skipped(at))?),
            Batch::Tiles(tiles) => tiles,
        };
        // Slides whose sums are kept with the model, and those too large for that.
        let (there, here): (Vec<Tile>, Vec<Tile>) = tiles.into_iter().partition(|tile| tile.at.job.blend.is_some());
        [there, here].into_iter().filter(|tiles| !tiles.is_empty()).try_for_each(|tiles| self.run(tiles, out))
    }
}
