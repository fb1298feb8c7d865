//! Which pixels matter? Finding tissue on a small picture of the slide.

mod channel;
mod color;
mod find;
mod fixed;
mod focus;
mod geojson;
mod mask;
mod mask_file;
mod morphology;
mod otsu;
mod outline;
mod pen;

pub use color::{ColorKind, ColorVerdict, check_color};
pub use find::{FoundTissue, find_tissue};
pub(crate) use geojson::read_geojson_text;
pub use geojson::{fill_geojson, fill_polygon};
pub use mask::TissueMask;
// For those who feed it strange bytes.
#[doc(hidden)]
pub use mask_file::read_mask;
pub use morphology::{close, drop_small, fill_holes, open};
pub use otsu::otsu_level;
pub use outline::outlines;
