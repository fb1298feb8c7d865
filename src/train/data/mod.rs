//! Where do samples come from? Data sets of every layout, splits, mixtures.

mod annotated;
pub mod array;
mod build;
mod dots;
mod geojson;
mod labels;
mod layout;
pub mod mat;
mod mixture;
pub mod npy;
mod outline_xml;
mod outlines;
mod pannuke;
mod patches;
mod picture;
mod pictures;
mod slide_mask;
mod slides;
mod source;
mod split;
mod whole;

pub use build::{DataSets, build, class_tree};
pub use mixture::{InTurn, Joined, Mixture};
pub use patches::Patches;
pub use source::{Entry, Piece, Place, Source, Window};
pub use split::{Side, Sides, split};
pub use whole::Whole;
// For those who feed them strange files; data sets read their own.
#[doc(hidden)]
pub use {
    dots::read as read_dots, geojson::read as read_outline_geojson, labels::LabelMap,
    outline_xml::read as read_outline_xml, outlines::Outline, picture::read_labels, picture::read_rgb,
    slide_mask::SlideMask,
};
