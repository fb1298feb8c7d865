//! Where tissue is looked for.
//!
//! Owns: [`Tissue`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use crate::units::Mpp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How tissue is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tissue {
    /// The method.
    pub method: TissueMethod,
    /// Resolution of the picture it works on.
    pub mpp: Mpp,
    /// Smaller pieces of tissue are dropped.
    pub min_area_um2: f64,
    /// Smaller holes are filled.
    pub max_hole_um2: f64,
    /// Leave out felt-pen marks (red, green, blue, black).
    pub exclude_pen: bool,
    /// Leave out areas out of focus.
    pub exclude_blur: bool,
}

/// The ways to find tissue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TissueMethod {
    /// Otsu's threshold on `channel`.
    Otsu {
        /// What is thresholded.
        channel: TissueChannel,
    },
    /// A fixed threshold on `channel`.
    Fixed {
        /// What is thresholded.
        channel: TissueChannel,
        /// Tissue is above it: saturation 0–1, or optical density.
        threshold: f64,
    },
    /// A picture per slide, `<dir>/<slide stem>.png` or `.tif`, scaled to the slide; tissue where it is not 0.
    MaskDir(PathBuf),
    /// GeoJSON per slide, `<dir>/<slide stem>.geojson`, polygons in level-0 px.
    GeojsonDir(PathBuf),
    /// Everything is tissue.
    Everything,
}

/// What the tissue threshold looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TissueChannel {
    /// HSV saturation.
    Saturation,
    /// Mean optical density of red, green, blue.
    OpticalDensity,
}
