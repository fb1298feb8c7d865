//! How pixels are read and coloured.
//!
//! Owns: [`Pixels`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What happens to pixels before the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pixels {
    /// How pixels are brought to `input_mpp`.
    pub resample: Resample,
    /// Stain normalisation.
    pub stain: Stain,
}

/// How pixels are brought to another resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// Mean over the area of each target px.
    Area,
    /// Bilinear with support widened to the scale (anti-aliased).
    Bilinear,
    /// Lanczos-3 with support widened to the scale.
    Lanczos,
}

/// Stain normalisation, fitted once per slide.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stain {
    /// Pixels as they are.
    None,
    /// Macenko 2009.
    Macenko(StainReference),
    /// Reinhard 2001.
    Reinhard(StainReference),
    /// Vahadane 2016.
    Vahadane(StainReference),
    /// The fixed vectors of Ruifrok and Johnston 2001, concentrations scaled to the reference's.
    Ruifrok(StainReference),
}

/// The look that slides are brought to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StainReference {
    /// The published reference (Macenko's H&E vectors and maximum concentrations), built in.
    Standard,
    /// Fitted on a picture of the user's.
    Image(PathBuf),
}
