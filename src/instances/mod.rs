//! What is an object? From stitched maps to instances, and what is measured of each.

mod distance;
mod extract;
mod foreground;
mod instance;
mod own;
mod semantic;
mod watershed;

pub use extract::{extract_nuclei, halo_px, scratch_bytes};
pub use instance::{Features, Instance, Run};
pub use semantic::{prob_u8, semantic_classes};
pub use watershed::WATERSHED_DEFAULTS;
