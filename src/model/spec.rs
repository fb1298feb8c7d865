//! What a model says of itself, and what it gives back for a tile.
//!
//! Owns: [`ModelSpec`], [`Head`], [`HeadMap`], [`Wanted`]. Must not know: slides, tiles' positions, stitching.

use super::blend::{Blend, BlendForm};
use crate::{pixels::stain::StainTables, units::Mpp};
use rayon::prelude::*;
use std::sync::Arc;

/// What one output of a model means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Head {
    /// `[C, h, w]` probability of each class at each pixel. With `C = 1`: of the one class against background.
    Semantic,
    /// `[1, h, w]` probability that a pixel lies in a nucleus.
    NuclearPixel,
    /// `[2, h, w]` horizontal and vertical distance to the nucleus' centre, each in [-1, 1].
    HorizontalVertical,
    /// `[C, h, w]` probability of each nucleus type, background first.
    TypeProbability,
    /// `[R, h, w]` distances in px from a pixel to its object's edge along `R` rays.
    StarDistance,
    /// `[C, 1, 1]` probability of each class for the whole tile.
    Classification,
}

impl Head {
    /// Fixed-point units per 1.0: a map stores `round(value · scale)` as `i16`.
    ///
    /// Integers make stitching independent of the order in which tiles arrive. Probabilities and HV keep 6e-5,
    /// star distances (up to 2,047 px) keep 1/16 px.
    pub fn scale(self) -> f32 {
        match self {
            Self::StarDistance => 16.0,
            _ => 16384.0,
        }
    }
}

/// One head's output for one tile, in fixed point.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadMap {
    /// What it means.
    pub head: Head,
    /// Number of channels.
    pub channels: u32,
    /// Width: the tile's core, `(tile_px − 2·margin_px) / out_stride`.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// `round(value · head.scale())`: `[channels, h, w]` of all pixels, or `[pixels.len(), channels]` of those listed.
    pub data: Vec<i16>,
    /// The pixels that `data` is of, `y · w + x`; `None`: all.
    pub pixels: Option<Vec<u32>>,
}

impl HeadMap {
    /// The square of `side_px` in the middle of a map of all pixels.
    #[must_use]
    pub fn middle(self, side_px: u32) -> Self {
        if (self.w <= side_px && self.h <= side_px) || self.head == Head::Classification {
            return self;
        }
        let (w, h, side) = (self.w as usize, self.h as usize, side_px as usize);
        let (left, top) = ((w - side) / 2, (h - side) / 2);
        let mut data = Vec::with_capacity(self.channels as usize * side * side);
        for plane in self.data.chunks_exact(w * h) {
            plane.chunks_exact(w).skip(top).take(side).for_each(|row| data.extend_from_slice(&row[left..left + side]));
        }
        Self { w: side_px, h: side_px, data, ..self }
    }

    /// A map of all pixels as one of those where `nuclear`, a map of the same size, is above `above`.
    #[must_use]
    pub fn listed(self, nuclear: &HeadMap, above: i16) -> Self {
        let px = self.w as usize * self.h as usize;
        let pixels: Vec<u32> = (0..).zip(&nuclear.data).filter(|(_, v)| **v > above).map(|(at, _)| at).collect();
        let of = |&at: &u32| self.data.iter().skip(at as usize).step_by(px).copied();
        let data = pixels.iter().flat_map(of).collect();
        Self { data, pixels: Some(pixels), ..self }
    }
}

/// How much of its maps a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Side of the square in the middle of each map, in px of the map.
    pub core_px: u32,
    /// Star distances are listed, where the nuclear-pixel head is above this in fixed point; `None`: all of them.
    pub rays_above: Option<i16>,
}

impl Wanted {
    /// What is wanted of one tile's whole maps.
    pub fn of(&self, maps: Vec<HeadMap>) -> Vec<HeadMap> {
        let mut maps: Vec<HeadMap> = maps.into_iter().map(|map| map.middle(self.core_px)).collect();
        let nuclear = maps.iter().position(|map| map.head == Head::NuclearPixel);
        let rays = maps.iter().position(|map| map.head == Head::StarDistance);
        if let (Some(above), Some(nuclear), Some(rays)) = (self.rays_above, nuclear, rays) {
            let dense = maps.remove(rays);
            let nuclear = nuclear - usize::from(rays < nuclear);
            let listed = dense.listed(&maps[nuclear], above);
            maps.insert(rays, listed);
        }
        maps
    }
}

/// A class a model can tell.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClassInfo {
    /// Name as written into tables: `tumour`, `lymphocyte`, …
    pub name: String,
    /// Colour in overviews, masks and QuPath.
    pub color: [u8; 3],
}

/// One head and its channel count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSpec {
    /// What it means.
    pub head: Head,
    /// Number of channels.
    pub channels: u32,
}

/// What a model needs and what it gives.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Name as in the YAML file.
    pub name: &'static str,
    /// sha256 of its weights, for a model that has some.
    pub weights_sha256: Option<String>,
    /// Resolution the model wants; a run may override it where the model takes any.
    pub input_mpp: Mpp,
    /// Whether `input_mpp` may be overridden.
    pub any_mpp: bool,
    /// Side of the tile the model wants, or a good default when it takes others.
    pub tile_px: u32,
    /// A tile may have any side that is a multiple of this; `None`: only `tile_px`.
    pub tile_step_px: Option<u32>,
    /// Ring of each tile for which the model gives no output, or none that may be used.
    pub margin_px: u32,
    /// Ring that is dropped unless a run says otherwise: at least `margin_px`, more where context is missing.
    pub usual_margin_px: u32,
    /// Px of the tile along one px of the output.
    pub out_stride: u32,
    /// For star-convex nuclei: the probability above which its weights best propose one.
    pub prob_threshold: Option<f64>,
    /// Whether its probabilities are but 0 and 1: nothing is lost with them.
    pub is_certain: bool,
    /// Outputs, in the order `forward` gives them.
    pub heads: Vec<HeadSpec>,
    /// Classes, background left out: class `i` has label value `i + 1`.
    pub classes: Vec<ClassInfo>,
}

impl ModelSpec {
    /// Whether the model has `head`.
    pub fn has(&self, head: Head) -> bool {
        self.heads.iter().any(|h| h.head == head)
    }
}

/// The pixels of a tile.
#[derive(Debug)]
pub enum TilePixels<'a> {
    /// To be looked at.
    Shared(&'a [u8]),
    /// To be looked at, and to become what the model saw.
    Own(&'a mut [u8]),
}

/// A tile, and what is still to be done to its colours.
#[derive(Debug)]
pub struct ModelTile<'a> {
    /// `[tile_px, tile_px, 3]` u8 RGB.
    pub rgb: TilePixels<'a>,
    /// Stain normalisation that a model with [`Model::normalises_stain`] does first.
    pub stain: Option<&'a Arc<StainTables>>,
}

impl<'a> ModelTile<'a> {
    /// A tile as the model is to see it.
    pub fn plain(rgb: &'a [u8]) -> Self {
        Self { rgb: TilePixels::Shared(rgb), stain: None }
    }

    /// Its pixels.
    pub fn rgb(&self) -> &[u8] {
        match &self.rgb {
            TilePixels::Shared(rgb) => rgb,
            TilePixels::Own(rgb) => rgb,
        }
    }

    /// Where its pixels go as the model saw them, if somebody wants those and they are others.
    pub fn seen(&mut self) -> Option<&mut [u8]> {
        match (&mut self.rgb, self.stain) {
            (TilePixels::Own(rgb), Some(_)) => Some(rgb),
            _ => None,
        }
    }
}

/// Why a forward pass failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModelError(pub String);

/// A network or a classical method. Knows its resolution and its heads; knows nothing of slides.
pub trait Model: Send + Sync {
    /// What it needs and gives.
    fn spec(&self) -> &ModelSpec;

    /// Whether a batch is best left to the one thread that asks, of which there are as many as cores; otherwise a batch
    /// takes the whole machine, or a GPU.
    fn is_one_core(&self) -> bool;

    /// Whether predicting a pixel again costs less than remembering it.
    fn is_cheap(&self) -> bool {
        false
    }

    /// How many batches may be run at once with gain by a model that is not of one core: one per stream of a GPU.
    fn batches_at_once(&self) -> usize {
        1
    }

    /// Runs a batch.
    ///
    /// # Shapes
    /// - `images`: `N` tiles `[tile_px, tile_px, 3]` u8 RGB, where `tile_px` is the side given (equal for all).
    /// - returns `N` lists, one [`HeadMap`] per head of the spec, each `(tile_px − 2·margin_px) / out_stride` wide and
    ///   high (1 × 1 for classification), where `margin_px` is the spec's.
    ///
    /// # Errors
    /// [`ModelError`] when the device failed; the run stops.
    fn forward(&self, images: &[&[u8]], tile_px: u32) -> Result<Vec<Vec<HeadMap>>, ModelError>;

    /// Whether it normalises the stain of tiles itself, in [`Model::forward_tiles`].
    fn normalises_stain(&self) -> bool {
        false
    }

    /// [`Model::forward`], of which only a part is wanted: [`Wanted::of`] it.
    ///
    /// # Errors
    /// As [`Model::forward`].
    fn forward_tiles(
        &self,
        tiles: &mut [ModelTile<'_>],
        tile_px: u32,
        wanted: &Wanted,
    ) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        debug_assert!(tiles.iter().all(|tile| tile.stain.is_none()), "only for models that normalise stain");
        let images: Vec<&[u8]> = tiles.iter().map(ModelTile::rgb).collect();
        // On all threads: while one copies, the others would wait for the next batch.
        Ok(self.forward(&images, tile_px)?.into_par_iter().map(|maps| wanted.of(maps)).collect())
    }

    /// Blocks of slides where it runs, for a model that can add overlapping maps there: with the bytes of the same sums
    /// here.
    fn blend(&self, form: &BlendForm) -> Option<Arc<dyn Blend>> {
        let _ = form;
        None
    }

    /// Bytes it holds while it runs batches of `batch` tiles, weights included.
    fn bytes(&self, tile_px: u32, batch: u32) -> u64 {
        let _ = (tile_px, batch);
        0
    }

    /// Bytes of the weights, as they are kept for running.
    fn weight_bytes(&self) -> u64 {
        0
    }
}

/// Whether `rgb` is a tile of side `tile_px`, larger than its margins.
pub(super) fn check_tile(rgb: &[u8], tile_px: u32, margin_px: u32) -> Result<(), ModelError> {
    let expected = tile_px as usize * tile_px as usize * 3;
    if rgb.len() != expected {
        return Err(ModelError(format!("tile has the wrong size: `{}` bytes, expected `{expected}`", rgb.len())));
    }
    if tile_px <= 2 * margin_px {
        return Err(ModelError(format!("tile is too small: `{tile_px}` px, expected more than `{}`", 2 * margin_px)));
    }
    Ok(())
}
