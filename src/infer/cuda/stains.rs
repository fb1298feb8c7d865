//! Tables of stain normalisation on a GPU.
//!
//! Owns: [`Stains`]: which slide's tables are where. Must not know: slides, what the tables say.
//!
//! There is room for as many tables as a batch has images. A slide's tables stay until others need the place, so they
//! cross the bus about once per slide; what a batch brings along is a number per image.

use super::{
    buffer::{Buffer, Pinned},
    driver::{Device, DeviceError},
    lower::StainPass,
    stream::Stream,
};
use crate::model::{ModelTile, StainTables};
use std::sync::Arc;

/// A region [`Stain`](super::Region::Stain), here and on the device.
pub(super) struct Stains {
    pass: StainPass,
    here: Pinned,
    there: Buffer,
    held: Vec<Option<Arc<StainTables>>>,
}

impl Stains {
    /// Room for batches of `most` images.
    pub(super) fn new(device: &Arc<Device>, most: usize) -> Result<Self, DeviceError> {
        let pass = StainPass { tables: most, is_kept: false };
        let bytes = pass.numbers_at() + 4 * most;
        Ok(Self { pass, here: Pinned::new(device, bytes)?, there: Buffer::new(device, bytes)?, held: vec![None; most] })
    }

    /// Where it is on the device.
    pub(super) fn address(&self) -> u64 {
        self.there.address()
    }

    /// Finds a place for each tile's tables, starts copies of those that are new, and notes the tiles' numbers.
    ///
    /// Nothing of the stream may be under way.
    pub(super) fn take(&mut self, stream: &Stream, tiles: &[ModelTile<'_>]) -> Result<(), DeviceError> {
        let needed = |tables: &Arc<StainTables>| tiles.iter().any(|t| t.stain.is_some_and(|s| Arc::ptr_eq(s, tables)));
        for (i, tile) in tiles.iter().enumerate() {
            let number = match tile.stain {
                None => 0,
                Some(tables) => {
                    let is_it = |held: &Option<Arc<StainTables>>| held.as_ref().is_some_and(|h| Arc::ptr_eq(h, tables));
                    let place = match self.held.iter().position(is_it) {
                        Some(place) => place,
                        None => {
                            let is_free = |held: &Option<Arc<StainTables>>| !held.as_ref().is_some_and(needed);
                            let place = self.held.iter().position(is_free).expect("as many places as images");
                            self.put(stream, place, tables)?;
                            place
                        }
                    };
                    StainPass::number(place, tables.method())
                }
            };
            let at = self.pass.numbers_at() + 4 * i;
            self.here.bytes_mut()[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        Ok(())
    }

    fn put(&mut self, stream: &Stream, place: usize, tables: &Arc<StainTables>) -> Result<(), DeviceError> {
        let (at, bytes) = (place * StainTables::MOST_BYTES, tables.bytes());
        self.here.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        // SAFETY: both are this value's, and nobody writes them before the stream was waited for.
        unsafe { stream.upload((&self.here, at), (&self.there, at), bytes.len()) }?;
        self.held[place] = Some(tables.clone());
        Ok(())
    }

    /// Starts the copy of the numbers of the first `count` images.
    ///
    /// # Safety
    /// As of [`Stream::upload`].
    pub(super) unsafe fn upload_numbers(&self, stream: &Stream, count: usize) -> Result<(), DeviceError> {
        let at = self.pass.numbers_at();
        // SAFETY: the caller's promise.
        unsafe { stream.upload((&self.here, at), (&self.there, at), 4 * count) }
    }
}
