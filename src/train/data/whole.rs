//! Pictures as they are, at the training's resolution: what a trained network is judged on.
//!
//! Owns: [`Whole`]. Must not know: layouts.

use super::source::Source;
use crate::train::{
    TrainError,
    augment::{Map, warp},
    sample::{Sample, Samples},
};
use std::sync::Arc;

/// Whole pictures of a data set, each of its own size.
pub struct Whole {
    source: Arc<dyn Source>,
    entries: Vec<usize>,
}

impl Whole {
    /// These pictures. Slides are read whole too: they must be small.
    pub fn new(source: Arc<dyn Source>, entries: Vec<usize>) -> Self {
        Self { source, entries }
    }
}

/// Larger pictures are not read whole.
const MAX_PX: u64 = 64 << 20;

impl Samples for Whole {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn sample(&self, index: usize, _: u64, _: u64) -> Result<Sample, TrainError> {
        let entry = self.entries[index];
        let (w, h) = self.source.size(entry)?;
        if u64::from(w) * u64::from(h) > MAX_PX {
            let message = format!("[{w}, {h}] px are too many to be read at once: {}", self.name(index));
            return Err(TrainError::new(message));
        }
        let middle = (f64::from(w) / 2.0, f64::from(h) / 2.0);
        let piece = self.source.piece(entry, middle, middle.0.max(middle.1) + 1.0)?;
        if piece.corner == (0, 0) && (piece.sample.image.w, piece.sample.image.h) == (w, h) {
            return Ok((*piece.sample).clone());
        }
        let map = Map::centred((w, h), middle).from_corner(piece.corner.0, piece.corner.1);
        Ok(warp(&piece.sample, &map, (w, h), piece.beyond))
    }

    fn name(&self, index: usize) -> String {
        self.source.entries()[self.entries[index]].name.clone()
    }

    fn patient(&self, index: usize) -> Option<String> {
        Some(self.source.entries()[self.entries[index]].patient.clone())
    }
}
