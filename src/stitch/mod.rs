//! How do tiles become a slide? Windows, the canvas, finished regions.

mod canvas;
mod pool;
mod region;
mod window;

pub use canvas::{SlideCanvas, StitchError};
pub use pool::RegionPool;
pub use region::{Plane, Region};
