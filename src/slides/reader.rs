//! What every slide looks like to the rest of the program.
//!
//! Owns: [`SlideReader`], [`SlideInfo`], [`ReadError`]. Must not know: tiles, models, any one file format.

use crate::{
    geometry::{InLevel, Level0, Rect, Size},
    units::MppXy,
};
use std::{collections::BTreeMap, path::PathBuf};

/// Index of a pyramid level; 0 is the finest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Level(pub u8);

/// One pyramid level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelInfo {
    /// Size in px of this level.
    pub size: Size<InLevel>,
    /// Level-0 px per px of this level, along x (≥ 1).
    pub downsample_x: f64,
    /// Level-0 px per px of this level, along y (≥ 1).
    pub downsample_y: f64,
    /// Size of the tiles the file stores, when known: reads aligned to it are cheapest.
    pub tile_px: Option<(u32, u32)>,
}

/// Where a slide's mpp came from; recorded in `slides.parquet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MppSource {
    /// `slides.mpp` of the YAML file or the command line.
    User,
    /// The user's CSV of `slide,mpp_x,mpp_y`.
    Csv,
    /// A property of the scanner's vendor (`aperio.MPP`, `openslide.mpp-x`, …).
    Vendor,
    /// `PhysicalSizeX` of OME-XML.
    Ome,
    /// XResolution and ResolutionUnit of the TIFF.
    TiffResolution,
    /// The slide is synthetic and knows.
    Synthetic,
}

impl MppSource {
    /// The name written into tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Csv => "csv",
            Self::Vendor => "vendor",
            Self::Ome => "ome",
            Self::TiffResolution => "tiff_resolution",
            Self::Synthetic => "synthetic",
        }
    }
}

/// What is known of a slide before any pixel is read.
#[derive(Debug, Clone)]
pub struct SlideInfo {
    /// The file (or folder) it was opened from.
    pub path: PathBuf,
    /// Which of our readers opened it: `openslide`, `tiff`, `image`, `synthetic`.
    pub reader: &'static str,
    /// The format, in OpenSlide's words: `aperio`, `hamamatsu`, `generic-tiff`, `ome-tiff`, …
    pub vendor: String,
    /// The levels, finest first; never empty.
    pub levels: Vec<LevelInfo>,
    /// Resolution of level 0 and its source; `None` when nothing told it. Not yet checked for plausibility.
    pub mpp: Option<(MppXy, MppSource)>,
    /// Objective magnification, for text shown to users only.
    pub objective_power: Option<f64>,
    /// The part of level 0 that was scanned (MRXS); `None` means all of it.
    pub bounds: Option<Rect<Level0>>,
    /// Identity by content, where the reader has one (`openslide.quickhash-1`).
    pub quickhash: Option<String>,
    /// Everything the file says of itself, as `name → value`.
    pub properties: BTreeMap<String, String>,
}

impl SlideInfo {
    /// Size of level 0.
    pub fn level0(&self) -> Size<Level0> {
        let s = self.levels[0].size;
        Size::new(s.w, s.h)
    }

    /// What every reader does before it reads `region` of `level` into `rgb`: the level and the buffer are checked,
    /// and the buffer made white where not all of the region lies inside. Returns the level and the part inside.
    pub(super) fn prepare(
        &self,
        level: Level,
        region: Rect<InLevel>,
        rgb: &mut [u8],
    ) -> Result<(&LevelInfo, Rect<InLevel>), ReadError> {
        let Some(found) = self.levels.get(usize::from(level.0)) else {
            return Err(ReadError::NoLevel { found: level.0, levels: self.levels.len() });
        };
        let expected = region.area() as usize * 3;
        if rgb.len() != expected {
            let reason = format!("the buffer has {} bytes, expected {expected}", rgb.len());
            return Err(ReadError::pixels(level, region, reason));
        }
        let inside = region.intersect(&found.size.rect());
        if inside != region {
            rgb.fill(255);
        }
        Ok((found, inside))
    }
}

/// Why pixels could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file has no such level.
    #[error("no level {found} in the slide: it has {levels}")]
    NoLevel {
        /// The level asked for.
        found: u8,
        /// How many there are.
        levels: usize,
    },
    /// The decoder refused, or the file ends early.
    #[error("cannot read [{w}, {h}] px at ({x}, {y}) of level {level}: {reason}")]
    Pixels {
        /// Level asked for.
        level: u8,
        /// Left edge, px of the level.
        x: i64,
        /// Top edge, px of the level.
        y: i64,
        /// Width, px.
        w: u32,
        /// Height, px.
        h: u32,
        /// The decoder's words.
        reason: String,
    },
}

impl ReadError {
    /// `region` of `level` cannot be read, for `reason`.
    pub fn pixels(level: Level, region: Rect<InLevel>, reason: impl Into<String>) -> Self {
        Self::Pixels { level: level.0, x: region.x, y: region.y, w: region.w, h: region.h, reason: reason.into() }
    }
}

/// Reads pixels of one slide; callable from many threads at once. Backends whose decoder is not thread-safe keep a
/// pool of decoders inside.
pub trait SlideReader: Send + Sync {
    /// What is known of the slide.
    fn info(&self) -> &SlideInfo;

    /// Fills `rgb` with `region`.
    ///
    /// # Shapes
    /// - `rgb`: `[region.h, region.w, 3]` u8; pixels outside the level, and transparent ones, become white (255).
    ///
    /// # Errors
    /// [`ReadError`]; then the content of `rgb` is unspecified, and other regions may still be read.
    fn read_region(&self, level: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError>;
}
