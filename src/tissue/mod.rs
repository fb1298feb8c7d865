//! Which pixels matter? Finding tissue on a small picture of the slide.

mod mask;

pub use mask::TissueMask;
