//! Where do samples come from? Data sets of every layout, splits, mixtures.

pub mod array;
pub mod mat;
pub mod npy;
