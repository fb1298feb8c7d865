//! What is an object? From stitched maps to instances, and what is measured of each.

mod instance;
mod colour;
mod components;
mod contour;
mod hull;
mod lesions;
mod measure;
mod moments;
mod perimeter;
mod run_lists;
mod stretches;

pub use contour::rings;
pub use instance::{Features, Instance, Run};
pub use lesions::{Lesion, LesionFinder};
pub use measure::{RgbWindow, centroid, measure};
