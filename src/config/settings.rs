//! A run, resolved: every default filled in, every choice made. The only export of `config` the flow reads.
//!
//! Owns: [`Settings`], tiling, batches, stitching and limits; larger parts are in files of their names. Must not
//! know: how it was written (YAML, `--set`, environment).

pub mod data;
mod instances;
mod model;
mod output;
mod pixels;
mod slides;
mod tissue;
mod training;

pub use data::*;
pub use instances::*;
pub use model::*;
pub use output::*;
pub use pixels::*;
pub use slides::*;
pub use tissue::*;
pub use training::*;

use crate::units::Mpp;
use serde::{Deserialize, Serialize};

/// Everything a run does, in the order of the flow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Which slides.
    pub slides: Slides,
    /// How tissue is found.
    pub tissue: Tissue,
    /// How slides are cut into tiles.
    pub tiling: Tiling,
    /// What happens to pixels before the model.
    pub pixels: Pixels,
    /// How tiles are gathered.
    pub batch: Batch,
    /// Which model.
    pub model: ModelChoice,
    /// How tile predictions are put together.
    pub stitch: Stitch,
    /// How objects are found in the maps.
    pub instances: Instances,
    /// What is written.
    pub output: Output,
    /// Limits of the run.
    pub run: Run,
}

/// How slides are cut into tiles. `None` is the model's own value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tiling {
    /// Resolution of the pixels the model sees.
    pub input_mpp: Option<Mpp>,
    /// Side of a tile.
    pub tile_px: Option<u32>,
    /// Step between tiles; default `tile_px − 2·margin_px`.
    pub stride_px: Option<u32>,
    /// Ring of a tile whose prediction is dropped.
    pub margin_px: Option<u32>,
    /// A cell of `cell_px` is computed when at least this share of it is tissue (and more than none).
    pub min_tissue: f64,
}

/// How tiles are gathered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// Tiles per batch; `None`: 1 for models that run a tile on one core, 16 for the others.
    pub size: Option<u32>,
}

/// How tile predictions are put together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stitch {
    /// The weights.
    pub window: Window,
    /// Side of a canvas block; `None`: what suits the model.
    pub block_px: Option<u32>,
    /// Whether overlapping tiles are blended on the GPU, where there is one.
    pub on_device: bool,
}

/// Weights of overlapping predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Each pixel from the one tile whose stride cell holds it.
    Crop,
    /// All tiles that cover a pixel, weighted by a Hann window.
    Hann,
}

/// Limits of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Compute threads; default: the CPUs this process may use (affinity, cgroup, Slurm).
    pub threads: u32,
    /// Slides worked on at the same time.
    pub slides_in_flight: u32,
    /// Most memory a slide's plan may ask for.
    pub memory_bytes: Option<u64>,
    /// What an unreadable tile does to its slide.
    pub on_tile_error: OnTileError,
    /// Time after which the run ends, whatever is left.
    pub time_limit_secs: Option<u64>,
    /// Failed slides after which the run ends.
    pub max_failures: Option<u32>,
    /// A slide that changed less than this long ago may still be being written.
    pub settle_secs: u32,
    /// Silence after which another process takes a slide over.
    pub lease_secs: u32,
}

/// What an unreadable tile does to its slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTileError {
    /// The slide fails.
    FailSlide,
    /// The tile's pixels are marked not computed, and counted.
    LeaveUncomputed,
}
