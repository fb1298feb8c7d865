//! What does the model see? Reading regions at the target resolution, stain, buffers.

mod image;
pub mod stain;

pub use image::RgbImage;
