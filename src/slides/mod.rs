//! Where are the pixels? Finding slides, opening them, reading regions.

mod reader; // What does every slide look like?
mod discover; // Which files are slides?
mod open; // Which reader opens this one?
mod mpp; // Which resolution, and who says so?
mod identity; // Is it the same slide?
mod downsample; // How coarse is a level?
mod tiff; // Our own reader of TIFF, SVS, OME-TIFF.
mod openslide; // Every other format.
mod picture; // PNG and JPEG, decoded whole.
mod image; // Plain pictures.
mod synthetic; // Slides drawn by the program.

pub use discover::{DiscoverError, EntrySource, SlideEntry, discover};
pub use identity::{content_hash, files_of};
pub use mpp::{check_mpp, stated_mpp};
pub use open::{open, open_file};
pub use picture::{Picture, decode_jpeg, decode_png, encode_jpeg, over_white};
pub use reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader};
pub use synthetic::{SyntheticNucleus, SyntheticSlide};
pub use tiff::{ByteSource, TiffError, TiffSlide};
