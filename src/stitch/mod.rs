//! How do tiles become a slide? Windows, the canvas, finished regions.

mod block;
mod canvas;
mod canvas_maps;
mod placement;
mod pool;
mod region;
mod window;

pub use canvas::{ReadyRegions, SlideCanvas, StitchError};
pub use canvas_maps::CanvasMaps;
pub use placement::placement;
pub use pool::RegionPool;
pub use region::{Plane, Region};
pub use window::hann;
