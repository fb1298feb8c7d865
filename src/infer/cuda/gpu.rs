//! A GPU with a network on it.
//!
//! Owns: [`Gpu`], [`Task`]: plans and weights by size of image. Must not know: streams, batches.

use super::{
    buffer::Buffer,
    driver::{Device, DeviceError},
    lane::LaneError,
    lower::{Batch, CudaNetwork, HeadForm, StainPass},
    share::Chip,
    store::Store,
};
use crate::{
    infer::plan::Plan,
    model::{ModelError, ModelTile, weights::Normalisation},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Share of the second-level cache that maps may take; weights need the rest.
const CACHE_SHARE: f64 = 0.6;

/// What all batches of a run have in common.
#[derive(Debug)]
pub struct Task {
    /// The network.
    pub network: CudaNetwork,
    /// How bytes are normalised.
    pub normalisation: Normalisation,
    /// The row of every embedding.
    pub kind: usize,
    /// Whether wide convolutions are those of warpgroups, where the device has them.
    pub wgmma: bool,
}

impl Task {
    /// Whether these are images of that side.
    pub(super) fn check(&self, tiles: &[ModelTile<'_>], side_px: usize) -> Result<(), ModelError> {
        let expected = side_px * side_px * 3;
        if let Some(image) = tiles.iter().map(ModelTile::rgb).find(|image| image.len() != expected) {
            return Err(ModelError(format!(
                "image has the wrong size: `{}` bytes, expected `{expected}`",
                image.len()
            )));
        }
        if self.kind >= self.network.kinds() {
            return Err(ModelError(format!("kind is `{}`, expected less than `{}`", self.kind, self.network.kinds())));
        }
        Ok(())
    }
}

/// A GPU with the weights it was given.
pub struct Gpu {
    device: Arc<Device>,
    pub(super) task: Arc<Task>,
    /// By side of the images.
    loaded: Mutex<HashMap<usize, Arc<Loaded>>>,
}

/// A plan and its weights on the device.
pub(super) struct Loaded {
    pub(super) plan: Plan,
    pub(super) store: Mutex<Store>,
    pub(super) weights: Buffer,
}

impl Gpu {
    /// Opens a GPU for a network.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn open(gpu: usize, task: &Arc<Task>) -> Result<Self, DeviceError> {
        let device = Arc::new(Device::open(gpu, task.network.format())?);
        Ok(Self { device, task: task.clone(), loaded: Mutex::default() })
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The plan for images of this side, with its weights where they are needed.
    pub(super) fn loaded(&self, side_px: usize) -> Result<Arc<Loaded>, LaneError> {
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = all.get(&side_px) {
            return Ok(loaded.clone());
        }
        let plan = self.task.network.plan(side_px, side_px)?;
        let mut store = self.task.network.store();
        // What lies in the store does not depend on how many images there are.
        self.task.network.launches(&plan, &self.batch(1, &[], None), &mut store);
        let weights = Buffer::of(&self.device, store.bytes())?;
        let loaded = Arc::new(Loaded { plan, store: Mutex::new(store), weights });
        all.insert(side_px, loaded.clone());
        Ok(loaded)
    }

    pub(super) fn batch<'a>(&'a self, images: usize, heads: &'a [HeadForm], stain: Option<StainPass>) -> Batch<'a> {
        let cache_bytes = (self.device.cache_bytes() as f64 * CACHE_SHARE) as usize;
        let chip = Chip { cache_bytes, multiprocessors: self.device.multiprocessors() };
        let chip = Some(chip).filter(|chip| chip.cache_bytes > 0);
        let Task { normalisation, kind, .. } = &*self.task;
        let wgmma = self.task.wgmma && self.device.has_wgmma();
        Batch { images, kind: *kind, normalisation, stain, heads, chip, wgmma }
    }
}
