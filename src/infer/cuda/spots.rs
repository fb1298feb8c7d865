//! Where a batch's maps are added: tables on a GPU, and the blocks held meanwhile.
//!
//! Owns: [`Adding`], [`Spots`]. Must not know: slides' ends, what is read of blocks.

use super::{
    blocks::Blocks,
    buffer::{Buffer, Pinned},
    canvas::CanvasPass,
    driver::{Device, DeviceError},
    stream::Stream,
};
use crate::model::Placement;
use std::sync::Arc;

/// That a batch's maps are added to blocks, instead of coming back.
#[derive(Clone, Copy)]
pub struct Adding<'a> {
    /// Sizes.
    pub pass: CanvasPass,
    /// `[core_px]` weights along a side.
    pub window: &'a [u8],
    /// All blocks.
    pub blocks: &'a Blocks,
    /// Where each image goes.
    pub placements: &'a [Placement],
}

impl Adding<'_> {
    /// The same for some of the images.
    #[must_use]
    pub(super) fn part(self, first: usize, count: usize) -> Self {
        Self { placements: &self.placements[first..][..count], ..self }
    }
}

/// A region [`Canvas`](super::Region::Canvas) of a batch, here and on the device.
pub(super) struct Spots {
    pub(super) pass: CanvasPass,
    here: Pinned,
    there: Buffer,
    /// Those of the batch under way: whoever frees them meanwhile does not free their memory.
    blocks: Vec<Arc<Buffer>>,
}

impl Spots {
    /// Room for batches of `most` images.
    pub(super) fn new(device: &Arc<Device>, adding: &Adding<'_>, most: usize) -> Result<Self, DeviceError> {
        let pass = adding.pass;
        let bytes = pass.table_bytes(most);
        let mut here = Pinned::new(device, bytes)?;
        pass.write_window(here.bytes_mut(), adding.window);
        Ok(Self { pass, here, there: Buffer::new(device, bytes)?, blocks: vec![] })
    }

    /// Where the region is on the device.
    pub(super) fn address(&self) -> u64 {
        self.there.address()
    }

    /// Holds the blocks that the images need, and notes where they are.
    ///
    /// Nothing of the stream may be under way.
    pub(super) fn take(&mut self, adding: &Adding<'_>) -> Result<(), DeviceError> {
        self.blocks = adding.blocks.take(adding.placements)?;
        let mut held = self.blocks.iter();
        for (image, placement) in adding.placements.iter().enumerate() {
            let addresses: Vec<u64> = held.by_ref().take(placement.blocks.len()).map(|b| b.address()).collect();
            let place_of = |column: i64, row: i64| {
                let at = placement.blocks.iter().position(|at| (i64::from(at.0), i64::from(at.1)) == (column, row));
                at.map(|at| addresses[at])
            };
            self.pass.write_spot(self.here.bytes_mut(), image, placement, &place_of);
        }
        Ok(())
    }

    /// Lets go of the blocks: the stream was waited for.
    pub(super) fn done(&mut self) {
        self.blocks.clear();
    }

    /// Starts the copy of what is said of the first `count` images.
    ///
    /// # Safety
    /// As of [`Stream::upload`].
    pub(super) unsafe fn upload(&self, stream: &Stream, count: usize) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { stream.upload((&self.here, 0), (&self.there, 0), self.pass.table_bytes(count)) }
    }
}
