//! Runs the model on batches.

use super::{Batch, TileOutcome};
use crate::{
    error::{RunError, StageName},
    model::{HeadMap, Model},
    pipeline::stage::{Emit, Stage, StageStop},
};
use rayon::prelude::*;
use std::{sync::Arc, time::Instant};

/// One predictor thread's state.
pub struct PredictStage {
    /// The model.
    pub model: Arc<dyn Model>,
    /// Side of the tiles.
    pub tile_px: u32,
    /// Side of what is used of their maps.
    pub core_px: u32,
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
        let maps = self.model.forward(&images, self.tile_px).map_err(|e| RunError::Forward(e.to_string()))?;
        let each = start.elapsed() / tiles.len() as u32;
        if maps.len() != tiles.len() {
            return Err(RunError::Forward(format!("got maps of {} tiles, expected {}", maps.len(), tiles.len())).into());
        }
        // On all threads: while one copies, the others would wait for the next batch.
        let maps: Vec<Vec<HeadMap>> =
            maps.into_par_iter().map(|maps| maps.into_iter().map(|map| map.middle(self.core_px)).collect()).collect();
        for (tile, maps) in tiles.into_iter().zip(maps) {
            tile.at.job.clocks.add(StageName::Model, each);
            out.emit(TileOutcome::Predicted(tile, maps))?;
        }
        Ok(())
    }
}
