//! Gradients of the operations on batches of maps, spread over threads.
//!
//! Owns: the arithmetic of training. Must not know: graphs, tapes, candle.
//!
//! Unlike the kernels beside this folder, these work on whole batches and share the work out themselves. What is summed
//! over pixels is summed in parts that depend on the sizes alone, and the parts are added in order: the result has the
//! same bits for any number of threads.

mod channels;
mod data;
mod depthwise;
mod maps;
mod pool;
mod resize;
mod weight;

pub use channels::{Clamp, Factors, affine_gradient, channel_sums, clamped, moments, norm_sums};
pub use data::DataGradient;
pub use depthwise::depthwise_weight_gradient;
pub use maps::{Maps, with_scratch};
pub use pool::{max_pool_gradient, max_pool_winners};
pub use resize::{AxisTaps, resize_gradient};
pub use weight::weight_gradient;

#[cfg(test)]
mod tests;
