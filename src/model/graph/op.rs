//! The operations a network is made of.
//!
//! Owns: [`Op`] and the settings of each operation. Must not know: how an operation is run, which network uses it.
//! An operation is here because a network of `model/` needs it; all sizes are per image, `[channels, h, w]`.

use crate::kernels::{Activation, Pool, ResizeMode};

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The image, normalised as the network's weights want it.
    Input {
        /// 3 for RGB.
        channels: usize,
    },
    /// 2-D convolution (cross-correlation, as in PyTorch).
    Conv(Conv),
    /// Transposed 2-D convolution.
    TransposedConv(TransposedConv),
    /// The same linear layer at every pixel; its weight is `[out, in]`.
    Linear {
        /// Channels out.
        out: usize,
        /// Whether there is a bias.
        bias: bool,
    },
    /// Batch normalisation.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// Group normalisation.
    GroupNorm {
        /// Number of groups; divides the channels.
        groups: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// Layer normalisation over the channels of each pixel (one and the same for channels-first and channels-last).
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// Global response normalisation (ConvNeXt V2): `x + bias + weight · x · ‖x‖ / (mean over channels of ‖x‖ + 1e-6)`,
    /// where `‖x‖` is a channel's L2 norm over the image.
    GlobalResponseNorm,
    /// One learned factor per channel; the node's name is the parameter's.
    LayerScale {
        /// Value before training.
        init: f64,
    },
    /// Scaled dot-product attention. The first input holds queries `[C, h, w]`, the second keys and then values,
    /// `[2·C, h', w']`; every pixel of the first attends to every pixel of the second, in `heads` equal parts of the
    /// channels. `[C, h, w]`.
    Attention {
        /// Number of heads; divides the channels.
        heads: usize,
    },
    /// Scaled dot-product attention inside windows (Swin). The input holds queries, keys and values, `[3·C, h, w]`, and
    /// both sides are multiples of `window_px`; every pixel attends to every pixel of its window, in `heads` equal parts
    /// of the channels. To each score is added the learned bias of key relative to query: row
    /// `(y_q − y_k + window_px − 1) · (2·window_px − 1) + (x_q − x_k + window_px − 1)`, column `head`, of
    /// `<name>.relative_position_bias_table`, `[(2·window_px − 1)², heads]`. `[C, h, w]`.
    ///
    /// With a shift, the map is first rolled up and left by `shift_px` and rolled back at the end; pixels of one window
    /// that the roll brought together from opposite edges have `−100` added to their score. A side that is one window
    /// is not shifted.
    WindowAttention {
        /// Number of heads; divides `C`.
        heads: usize,
        /// Side of a window.
        window_px: usize,
        /// Shift of the windows, less than their side.
        shift_px: usize,
    },
    /// A learned vector for what the image is known to be (its organ, say): row `kind` of `<name>.weight`,
    /// `[kinds, C]`, as `[C, 1, 1]`. It has no inputs. Row 0 is for an image of which nothing is known. For one kind, it
    /// and all that is computed from it alone are constants.
    Embedding {
        /// Number of rows, row 0 counted.
        kinds: usize,
    },
    /// A function of each value (softmax: of each pixel's channels).
    Activation(Activation),
    /// Sum of two or more equal shapes.
    Add,
    /// Product of the first input with a gate `[C, 1, 1]`, `[1, h, w]` or `[C, h, w]`.
    Multiply,
    /// Channels of two or more inputs, one after the other.
    Concat,
    /// Largest value of each window; padding never wins.
    MaxPool(Pool),
    /// Mean of each window; windows that do not fit are left out.
    AvgPool(Pool),
    /// The four pixels of each 2×2 block as channels: those of the upper left pixel, then of the lower left, the upper
    /// right and the lower right one (Swin's order). Both sides are even. `[4·C, h/2, w/2]`.
    SpaceToDepth,
    /// Mean over the image: `[C, 1, 1]`.
    GlobalAvgPool,
    /// Largest value over the image: `[C, 1, 1]`.
    GlobalMaxPool,
    /// A `[C, 1, 1]` repeated over the size of the second input.
    SpreadLike,
    /// Mean over the channels: `[1, h, w]`.
    ChannelMean,
    /// Largest value over the channels: `[1, h, w]`.
    ChannelMax,
    /// Enlarges by a whole factor.
    Resize {
        /// Factor.
        factor: usize,
        /// How values between pixels are found.
        mode: ResizeMode,
    },
    /// Cuts the centre out; an odd rest is cut from the bottom and the right.
    Crop(Crop),
    /// Sets values to zero while training; nothing otherwise.
    Dropout {
        /// Probability of zero.
        prob: f64,
        /// Whole channels instead of single values.
        whole_channels: bool,
    },
}

impl Op {
    /// Name in messages and tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Conv(_) => "conv",
            Self::TransposedConv(_) => "transposed_conv",
            Self::Linear { .. } => "linear",
            Self::BatchNorm { .. } => "batch_norm",
            Self::GroupNorm { .. } => "group_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::GlobalResponseNorm => "global_response_norm",
            Self::LayerScale { .. } => "layer_scale",
            Self::Attention { .. } => "attention",
            Self::WindowAttention { .. } => "window_attention",
            Self::Embedding { .. } => "embedding",
            Self::Activation(a) => a.kind(),
            Self::Add => "add",
            Self::Multiply => "multiply",
            Self::Concat => "concat",
            Self::MaxPool(_) => "max_pool",
            Self::AvgPool(_) => "avg_pool",
            Self::SpaceToDepth => "space_to_depth",
            Self::GlobalAvgPool => "global_avg_pool",
            Self::GlobalMaxPool => "global_max_pool",
            Self::SpreadLike => "spread_like",
            Self::ChannelMean => "channel_mean",
            Self::ChannelMax => "channel_max",
            Self::Resize { .. } => "resize",
            Self::Crop(_) => "crop",
            Self::Dropout { .. } => "dropout",
        }
    }
}

/// Zeros around a convolution's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// As many on every side.
    Each(usize),
    /// TensorFlow's `same`: `max(k − s, 0)` in all where the stride divides the size, `max(k − size mod s, 0)` where
    /// not; the odd one goes to the bottom and the right.
    TfSame,
}

impl Padding {
    /// Zeros before and after an axis of `size` px.
    pub fn before_after(self, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Self::Each(pad) => (pad, pad),
            Self::TfSame => {
                let rest = size % stride;
                let all = kernel.saturating_sub(if rest == 0 { stride } else { rest });
                (all / 2, all - all / 2)
            }
        }
    }
}

/// Settings of a convolution; starts as `k × k`, stride 1, no padding, with bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// Channels out.
    pub out: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Distance of the kernel's taps.
    pub dilation: usize,
    /// Groups; divides the channels in and out.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv {
    /// `kernel × kernel` to `out` channels.
    pub fn new(out: usize, kernel: usize) -> Self {
        Self { out, kernel, stride: 1, padding: Padding::Each(0), dilation: 1, groups: 1, bias: true }
    }

    /// With this step.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With `pad` zeros on every side.
    pub fn pad(self, pad: usize) -> Self {
        Self { padding: Padding::Each(pad), ..self }
    }

    /// With taps this far apart.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// With TensorFlow's `same` padding.
    pub fn tf_same(self) -> Self {
        Self { padding: Padding::TfSame, ..self }
    }

    /// In groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Without bias.
    pub fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }
}

/// Settings of a transposed convolution without padding, with bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposedConv {
    /// Channels out.
    pub out: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step in the output.
    pub stride: usize,
}

/// What is left by a crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// This many px less in all, on each axis.
    By(usize),
    /// This side.
    To(usize),
    /// The size of the second input.
    Like,
}
