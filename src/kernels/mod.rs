//! The arithmetic of networks: kernels of the CPU in [`cpu`], and here tensor operations of ours, where candle 0.11.1 has
//! none or a wrong one.
//!
//! Each file of the latter holds one operation: plain loops that are its specification, and the candle operation with its
//! gradient. Every gradient is checked against central finite differences in f64.
//!
//! | here | candle 0.11.1 |
//! |---|---|
//! | [`max_pool`] | no padding; gradient refused for overlapping windows and wrong for the others |
//! | [`avg_pool`] | gradient wrong for odd sizes, refused for overlapping windows |
//! | [`resize_nearest`] | gradient overwrites that of the input's other uses |
//! | [`resize_bilinear`] | no gradient |
//! | [`layer_norm`] | no gradient at all, silently |
//! | [`relu`] | gradient 1 at exactly 0, where PyTorch has 0 |

pub mod cpu;

mod adam;
mod avg_pool;
mod axis_map;
mod layer_norm;
mod max_pool;
mod on_floats;
mod relu;
mod resize;
mod settings;

#[cfg(test)]
mod finite_differences;

pub use adam::adam;
pub use avg_pool::avg_pool;
pub use layer_norm::layer_norm;
pub use max_pool::{max_pool, max_pool_reference};
pub use relu::relu;
pub use resize::{resize_bilinear, resize_nearest};
pub use settings::{Activation, Pool, ResizeMode};
