//! Where are the pixels? Finding slides, opening them, reading regions.

mod reader;

pub use reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader};
