//! How do tiles become a slide? Windows, the canvas, finished regions.

mod canvas;
mod region;
mod window;

pub use canvas::{SlideCanvas, StitchError};
pub use region::{Plane, Region};
