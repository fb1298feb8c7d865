//! Which tiles are read? From a tissue mask to an ordered plan.

mod cells;
mod plan;

pub use cells::{CELL_PX, CellMask};
pub use plan::{Borders, STRIP_PX, TilePlan, TileSpec, Tiler};
