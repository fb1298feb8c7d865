//! Gathers tiles into batches; flushes when a slide's last tile arrives, by count and never by time.

use super::{Batch, ReadTile, Tile};
use crate::pipeline::stage::{Emit, Stage, StageStop};
use std::collections::HashMap;

/// The batcher's state.
pub struct BatchStage {
    size: usize,
    held: Vec<Tile>,
    /// Tiles seen per slot of a slide in flight.
    seen: HashMap<usize, usize>,
}

impl BatchStage {
    /// Batches of `size` tiles, fewer at the end of a slide.
    pub fn new(size: usize) -> Self {
        Self { size: size.max(1), held: vec![], seen: HashMap::new() }
    }
}

impl Stage for BatchStage {
    type In = ReadTile;
    type Out = Batch;

    fn process(&mut self, item: ReadTile, out: &mut dyn Emit<Batch>) -> Result<(), StageStop> {
        let (ReadTile::Tile(Tile { at, .. }) | ReadTile::Skipped(at)) = &item;
        let (slot, planned) = (at.job.slot, at.job.plan.tiles.len());
        let seen = self.seen.entry(slot).or_default();
        *seen += 1;
        let is_last = *seen == planned;
        if is_last {
            self.seen.remove(&slot);
        }
        match item {
            ReadTile::Skipped(at) => out.emit(Batch::Skipped(at))?,
            ReadTile::Tile(tile) => self.held.push(tile),
        }
        // A slide whose last tiles wait in a half batch would hold its place among the slides in flight for ever.
        if self.held.len() >= self.size || (is_last && !self.held.is_empty()) {
            out.emit(Batch::Tiles(std::mem::take(&mut self.held)))?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Emit<Batch>) -> Result<(), StageStop> {
        if !self.held.is_empty() {
            out.emit(Batch::Tiles(std::mem::take(&mut self.held)))?;
        }
        Ok(())
    }
}
