//! Runs the model on batches.

use super::{Batch, TileOutcome};
use crate::{
    error::{RunError, StageName},
    model::{Model, Wanted},
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
    /// When the last batch ended, of all predictors of a model that takes the whole machine: time during which two
    /// batches are under way is counted once.
    pub last_end: Option<Arc<Mutex<Instant>>>,
}

impl PredictStage {
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
        let tiles = match batch {
            Batch::Skipped(at) => return Ok(out.emit(TileOutcome::Skipped(at))?),
            Batch::Tiles(tiles) => tiles,
        };
        let px = (self.tile_px as usize).pow(2) * 3;
        let images: Vec<&[u8]> = tiles.iter().map(|t| &t.rgb[..px]).collect();
        let start = Instant::now();
        let maps = self
            .model
            .forward_wanted(&images, self.tile_px, &self.wanted)
            .map_err(|e| RunError::Forward(e.to_string()))?;
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
