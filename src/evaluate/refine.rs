//! A human in the loop: which images to correct, and what becomes of the corrections.
//!
//! Source: Yu 2025 (ClinSegNet), "Expert-guided refinement": images are ranked by the mean entropy of what the model says,
//! the most uncertain of each organ are corrected by an expert, and decoder and conditioning alone are trained on.

mod learnable; // What may still learn?
mod export; // Images, predictions and outlines for correction.
mod import; // Corrections as a data set.
mod outlines; // GeoJSON that QuPath reads and writes.
mod rank; // Which images are corrected first?
mod tiles; // Where images come from.

pub use export::{Exported, export};
pub use import::{Imported, import};
pub use learnable::learnable_prefixes;
// For those who feed it strange bytes.
#[doc(hidden)]
pub use outlines::{Outline, read_outlines};
pub use rank::{Stratum, most_uncertain};
pub use tiles::{FolderTiles, RefineTile, RefineTiles, SlideTiles};
