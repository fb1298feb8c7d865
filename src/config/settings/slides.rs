//! Which slides, and how they are opened.
//!
//! Owns: [`Slides`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use crate::units::{Mpp, MppXy};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which slides, and what to believe of their resolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slides {
    /// Where they come from.
    pub source: SlideSource,
    /// Globs of what to leave out, matched like `glob`.
    pub exclude: Vec<String>,
    /// Resolution of every slide, over whatever the file says.
    pub mpp: Option<MppXy>,
    /// CSV with columns `slide,mpp_x[,mpp_y]`; the slide's file name, stem or relative path.
    pub mpp_csv: Option<PathBuf>,
    /// Which reader to use.
    pub reader: ReaderChoice,
}

/// Where slides come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlideSource {
    /// Files matching any of the globs, relative to the current directory.
    Glob(Vec<String>),
    /// Every slide under a directory, by file extension.
    Dir(PathBuf),
    /// Exactly these files.
    List(Vec<PathBuf>),
    /// Slides drawn by the program, with known nuclei.
    Synthetic(Synthetic),
}

/// Slides drawn by the program: H&E-like, the position of every nucleus known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Synthetic {
    /// How many slides; each has its own seed.
    pub count: u32,
    /// Width in level-0 px.
    pub width_px: u32,
    /// Height in level-0 px.
    pub height_px: u32,
    /// Resolution of level 0.
    pub mpp: Mpp,
    /// Seed of the first.
    pub seed: u64,
}

/// Which reader opens the slides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderChoice {
    /// Our TIFF reader where it can, else plain images, else OpenSlide.
    Auto,
    /// OpenSlide only.
    Openslide,
    /// Our TIFF reader only.
    Tiff,
}
