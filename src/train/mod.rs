//! How does a model learn? Data sets, augmentation, targets, losses, the loop.

pub mod augment;
pub mod class_tree;
pub mod data;
mod error;
pub mod rng;
pub mod sample;
pub mod target;

pub use error::TrainError;
