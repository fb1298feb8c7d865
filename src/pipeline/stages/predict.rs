//! Runs the model on batches.

use super::{Batch, Tile, TileOutcome};
use crate::{
    error::{RunError, StageName},
    model::{Model, ModelTile, TilePixels, Wanted},
    pipeline::stage::{Emit, Stage, StageStop},
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

impl Stage for PredictStage {
    type In = Batch;
    type Out = TileOutcome;

    fn process(&mut self, batch: Batch, out: &mut dyn Emit<TileOutcome>) -> Result<(), StageStop> {
        let mut tiles = match batch {
            Batch::Skipped(at) => return Ok(out.emit(TileOutcome::Skipped(at))?),
            Batch::Tiles(tiles) => tiles,
        };
        let normalises_stain = self.model.normalises_stain();
        let start = Instant::now();
        let mut batch: Vec<ModelTile<'_>> = tiles.iter_mut().map(|tile| self.shown(tile, normalises_stain)).collect();
        let maps = self.model.forward_tiles(&mut batch, self.tile_px, &self.wanted);
        drop(batch);
        let maps = maps.map_err(|e| RunError::Forward(e.to_string()))?;
        let each = self.since(start) / tiles.len() as u32;
        if maps.len() != tiles.len() {
            return Err(RunError::Forward(format!("got maps of {} tiles, expected {}", maps.len(), tiles.len())).into());
        }
        for (tile, maps) in tiles.into_iter().zip(maps) {
            tile.at.job.clocks.add(StageName::Model, each);
            out.emit(TileOutcome::Predicted(tile, maps))?;
        }
        Ok(())
    }
}
