//! How do tiles become a slide? Windows, the canvas, finished regions.

mod region;

pub use region::{Plane, Region};
