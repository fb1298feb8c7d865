//! How do tiles become a slide? Windows, the canvas, finished regions.

mod canvas;
mod pool;
mod region;
mod window;

pub use canvas::{CanvasMaps, SlideCanvas, StitchError};
pub use pool::RegionPool;
pub use region::{Plane, Region};
