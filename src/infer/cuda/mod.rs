//! How does a network run on a GPU? The same plan, in 16-bit numbers, as a list of kernel launches.
//!
//! Owns: [`Launches`]: which kernel, how many blocks, which argument, for a batch; and, with the `cuda` feature, the
//! device that runs them. Must not know: which network it is, slides.
//!
//! A launch is data ([`launch`]): a kernel's name and its argument as bytes, in which pointers are places in regions of
//! memory. So the same list is run by a GPU's driver and by the emulation on the processor that the tests use. The
//! kernels are in `/kernels`, one file per kind; sums are in f32, maps between kernels are half or bfloat16.

mod argument;
#[cfg(feature = "cuda")]
mod blend;
#[cfg(feature = "cuda")]
pub mod blocks;
#[cfg(feature = "cuda")]
pub mod buffer;
pub mod canvas;
#[cfg(feature = "cuda")]
mod code;
mod convolution;
pub mod devices;
#[cfg(feature = "cuda")]
pub mod driver;
#[cfg(feature = "cuda")]
mod execute;
#[cfg(feature = "cuda")]
pub mod gpu;
#[cfg(feature = "cuda")]
pub mod lane;
#[cfg(feature = "cuda")]
mod lanes;
pub mod launch;
mod lower;
mod map;
#[cfg(not(feature = "cuda"))]
mod no_device;
#[cfg(feature = "cuda")]
mod ptx;
pub mod share;
#[cfg(feature = "cuda")]
pub mod spots;
#[cfg(feature = "cuda")]
mod stains;
mod steps;
mod store;
#[cfg(feature = "cuda")]
pub mod stream;

pub use canvas::CanvasPass;
#[cfg(feature = "cuda")]
pub use execute::CudaExecute;
pub use launch::{Format, Launch, Pointer, Region};
pub use lower::{Batch, CudaError, CudaNetwork, HeadForm, Launches, StainPass};
#[cfg(not(feature = "cuda"))]
pub use no_device::CudaExecute;
pub use share::Chip;
pub use store::Store;
