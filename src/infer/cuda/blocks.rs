//! Blocks of slides' canvases in a GPU's memory.
//!
//! Owns: [`Blocks`]: which there are, and memory of those that went. Must not know: what is added to them.
//!
//! A block is zeros before anybody sees it. What goes is kept for the next; where memory ends, it is given back.

use super::{
    buffer::Buffer,
    driver::{Device, DeviceError},
    stream::Stream,
};
use crate::{
    infer::lock,
    model::{BlockAt, Placement},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// Number of a slide, and which of its blocks.
type Key = (u64, BlockAt);

/// All blocks of a run.
pub struct Blocks {
    device: Arc<Device>,
    block_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    held: HashMap<Key, Arc<Buffer>>,
    spare: Vec<Buffer>,
    /// On which blocks become zeros.
    stream: Option<Stream>,
}

impl Blocks {
    /// None yet, of `block_bytes` each.
    pub fn new(device: &Arc<Device>, block_bytes: usize) -> Self {
        Self { device: device.clone(), block_bytes, inner: Mutex::default() }
    }

    /// The blocks that tiles need, one after the other; those that are not there yet are made, all or none.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] when there is not enough for all; a device that fails.
    pub(super) fn take(&self, placements: &[Placement]) -> Result<Vec<Arc<Buffer>>, DeviceError> {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        let keys: Vec<Key> = placements.iter().flat_map(|p| p.blocks.iter().map(|at| (p.slide, *at))).collect();
        let mut made: HashMap<Key, Buffer> = HashMap::new();
        for key in &keys {
            if inner.held.contains_key(key) || made.contains_key(key) {
                continue;
            }
            match inner.spare.pop().map_or_else(|| Buffer::new(&self.device, self.block_bytes), Ok) {
                Ok(buffer) => drop(made.insert(*key, buffer)),
                Err(why) => {
                    inner.spare.extend(made.into_values());
                    return Err(why);
                }
            }
        }
        if !made.is_empty() {
            let stream = match inner.stream.take() {
                Some(stream) => stream,
                None => Stream::new(&self.device)?,
            };
            stream.enter()?;
            for buffer in made.values() {
                // SAFETY: nobody else has the buffer before the stream was waited for.
                unsafe { stream.clear(buffer) }?;
            }
            // Other streams do not wait for this one: zeros must be there before anybody adds to them.
            stream.wait()?;
            inner.stream = Some(stream);
            inner.held.extend(made.into_iter().map(|(key, buffer)| (key, Arc::new(buffer))));
        }
        Ok(keys.iter().map(|key| inner.held[key].clone()).collect())
    }

    /// A block, if it is there.
    pub(super) fn get(&self, slide: u64, at: BlockAt) -> Option<Arc<Buffer>> {
        lock(&self.inner).held.get(&(slide, at)).cloned()
    }

    /// Forgets a block.
    pub(super) fn free(&self, slide: u64, at: BlockAt) {
        let mut inner = lock(&self.inner);
        let gone = inner.held.remove(&(slide, at));
        // One that a batch under way still adds to goes with that batch.
        inner.spare.extend(gone.and_then(Arc::into_inner));
    }

    /// Forgets a slide's blocks.
    pub(super) fn end(&self, slide: u64) {
        let mut inner = lock(&self.inner);
        let gone: Vec<Arc<Buffer>> = inner.held.extract_if(|key, _| key.0 == slide).map(|(_, block)| block).collect();
        inner.spare.extend(gone.into_iter().filter_map(Arc::into_inner));
    }

    /// Gives back the memory of blocks that went.
    pub(super) fn forget_spare(&self) {
        lock(&self.inner).spare.clear();
    }
}
