//! Kernels of the CPU: each works on one image and a band of output rows.
//!
//! Owns: the arithmetic of every operation. Must not know: graphs, plans, threads.
//!
//! Every kernel is single-threaded, allocates nothing, checks its bounds once, and gives the same bits whatever the
//! bands are. An activation is a [`View`]: `[h, w, c]` with the channels of a pixel side by side. What is global over an
//! image comes in two steps: one partial result per row, then [`norm`] or [`pool`] add the rows in their order.
//!
//! The code is written once over [`simd::Simd`] and compiled for each [`Isa`]; the plain definitions of the heavy ones
//! are in [`reference`](mod@reference), against which all are tested.

pub mod aligned;
pub mod attention;
pub mod conv;
pub mod elementwise;
pub mod gradient;
pub mod isa;
mod math;
pub mod norm;
pub mod pool;
pub mod reference;
pub mod resize;
mod simd;
pub mod transposed;
pub mod view;
pub mod window_attention;

pub use aligned::Aligned;
pub use conv::{Cascade, ConvSpec, Epilogue, PackedConv, Prologue, cascade, conv, conv_part, share};
pub use isa::{Isa, Precision};
pub use transposed::{PackedTransposed, TransposedSpec, transposed_conv};
pub use view::{View, ViewMut};
