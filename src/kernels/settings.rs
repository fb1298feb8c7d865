//! What an operation is told that several kernels know.
//!
//! Owns: [`Activation`], [`Pool`], [`ResizeMode`]. Must not know: kernels, graphs.

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x · Φ(x)`, exact (by the error function).
    Gelu,
    /// `x / (1 + exp(−x))`.
    Silu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// `exp(x_c) / Σ exp(x)` over the channels of a pixel.
    Softmax,
}

impl Activation {
    /// Name in messages and tables.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::Gelu => "gelu",
            Self::Silu => "silu",
            Self::Sigmoid => "sigmoid",
            Self::Softmax => "softmax",
        }
    }
}

/// Windows of a pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Side of the window.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Ring around the input, less than half the window.
    pub pad: usize,
}

/// How a resize finds values between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeMode {
    /// The nearest pixel.
    Nearest,
    /// Between four pixels; pixel centres at half coordinates (PyTorch's `align_corners=False`).
    Bilinear,
    /// Between four pixels; corner pixels stay corners (PyTorch's `align_corners=True`).
    BilinearCorners,
}
