//! Overlapping predictions that are summed where the model runs.
//!
//! Owns: [`Blend`], and what it is told: [`BlendForm`], [`Placement`], [`SlideBlend`]. Must not know: how regions are
//! planned, what runs the model.
//!
//! A slide's canvas is cut into square blocks. A block is made with the first tile that is added to it and freed by
//! whoever knows that nobody reads it any more; all of a slide's go with its [`SlideBlend`].

use super::spec::{ModelError, ModelTile};
use crate::geometry::{Rect, Target};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Column and row of a block, and the strip it is for.
pub type BlockAt = (u32, u32, u32);

/// What all tiles of a run have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlendForm {
    /// Weights along a side of what is used of a tile's maps; as many as that has px.
    pub window: Vec<u8>,
    /// Side of a block.
    pub block_px: u32,
    /// The longest side that is read at once.
    pub most_px: u32,
}

/// Where what is said of a tile is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Number of the slide.
    pub slide: u64,
    /// Where the middle of its maps lies on the slide, as wide as the window.
    pub core: Rect<Target>,
    /// The part of it that counts.
    pub used: Rect<Target>,
    /// The blocks that somebody will read there.
    pub blocks: Vec<BlockAt>,
}

/// Some rows of a slide's means.
#[derive(Debug, Clone, Copy)]
pub struct Blended<'a> {
    /// Where they are.
    pub rect: Rect<Target>,
    /// `[channels, rect.h, rect.w]` weighted means in fixed point, all heads' channels in their order; 0 where nothing
    /// was added.
    pub values: &'a [i16],
    /// `[rect.h, rect.w]`, 1 where something was added.
    pub computed: &'a [u8],
}

/// Blocks of slides where a model runs.
pub trait Blend: Send + Sync {
    /// Runs a batch, and adds what is said of each tile where it belongs, once.
    ///
    /// # Shapes
    /// - `tiles`: `N` times `[tile_px, tile_px, 3]`, as of [`Model::forward_tiles`](super::Model::forward_tiles)
    /// - `placements`: `N`
    ///
    /// # Errors
    /// [`ModelError`] when the device failed; the run stops.
    fn add(&self, tiles: &mut [ModelTile<'_>], tile_px: u32, placements: &[Placement]) -> Result<(), ModelError>;

    /// Gives the means of `rect` of a slide to `to`, a few rows at a time; rows without any block are left out.
    ///
    /// Tiles whose [`Blend::add`] has returned count; nobody may add to what is read.
    ///
    /// # Errors
    /// As of [`Blend::add`].
    fn read(
        &self,
        slide: u64,
        rect: Rect<Target>,
        strip: u32,
        to: &mut dyn FnMut(Blended<'_>),
    ) -> Result<(), ModelError>;

    /// Bytes that the blocks of all slides may take, which must leave room for batches.
    fn most_bytes(&self) -> u64;

    /// Forgets a block.
    fn free(&self, slide: u64, at: BlockAt);

    /// Forgets all blocks of a slide.
    fn end(&self, slide: u64);
}

/// A slide's blocks: forgotten with it, however the slide ended.
pub struct SlideBlend {
    blend: Arc<dyn Blend>,
    slide: u64,
}

impl SlideBlend {
    /// Of a slide that nothing was added to.
    pub fn new(blend: Arc<dyn Blend>) -> Self {
        static SLIDES: AtomicU64 = AtomicU64::new(0);
        Self { blend, slide: SLIDES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Where its blocks are.
    pub fn blend(&self) -> &dyn Blend {
        &*self.blend
    }

    /// The slide's number, like no other's.
    pub fn slide(&self) -> u64 {
        self.slide
    }

    /// [`Blend::read`] of this slide.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, rect: Rect<Target>, strip: u32, to: &mut dyn FnMut(Blended<'_>)) -> Result<(), ModelError> {
        self.blend.read(self.slide, rect, strip, to)
    }

    /// [`Blend::free`] of this slide.
    pub fn free(&self, at: BlockAt) {
        self.blend.free(self.slide, at);
    }
}

impl Drop for SlideBlend {
    fn drop(&mut self) {
        self.blend.end(self.slide);
    }
}
