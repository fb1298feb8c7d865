//! How does a model learn? Data sets, augmentation, targets, losses, the loop.

pub mod class_tree;
mod error;
pub mod loss;
pub mod sample;
pub mod target;

pub use error::TrainError;
