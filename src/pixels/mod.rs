//! What does the model see? Reading regions at the target resolution, stain, buffers.

mod image;
mod levels;
mod pool;
mod read;
mod resample;
pub mod stain;

pub use image::RgbImage;
pub use pool::{BufferPool, PooledBuf};
pub use read::{ReadScratch, TargetReader, Thumbnail, thumbnail};
pub use resample::{Axis, resample};
