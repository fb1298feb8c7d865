//! Each operation of a graph in candle's words.
//!
//! Owns: [`Network::run`]. Must not know: the order of operations. Where candle's gradient is wrong, `kernels` has ours.

use super::{Mode, Network, batch_norm, dropout, window_attention};
use crate::{
    kernels,
    model::graph::{Activation, Conv, Crop, Node, Op, ResizeMode},
};
use candle_core::{Result, Tensor};
use candle_nn::{GroupNorm, Module, ops};

impl Network {
    /// Applies node `i` to its inputs.
    pub(super) fn run(&self, i: usize, node: &Node, inputs: &[Tensor], mode: Mode) -> Result<Tensor> {
        let x = &inputs[0];
        let value = |suffix: &str| self.value(&format!("{}.{suffix}", node.name), mode);
        match &node.op {
            Op::Input { .. } | Op::Embedding { .. } => Ok(x.clone()),
            Op::Conv(conv) => with_bias(convolve(x, &value("weight"), conv)?, conv.bias.then(|| value("bias"))),
            Op::TransposedConv(conv) => {
                with_bias(x.conv_transpose2d(&value("weight"), 0, 0, conv.stride, 1)?, Some(value("bias")))
            }
            Op::Linear { out, bias } => {
                let weight = value("weight").reshape((*out, x.dim(1)?, 1, 1))?;
                with_bias(x.conv2d(&weight, 0, 1, 1, 1)?, bias.then(|| value("bias")))
            }
            Op::BatchNorm { eps } => {
                let running = [
                    &self.values[&format!("{}.running_mean", node.name)],
                    &self.values[&format!("{}.running_var", node.name)],
                ];
                let of_batch = self.takes_batch_statistics(node, mode);
                batch_norm::batch_norm(x, &value("weight"), &value("bias"), running, *eps, of_batch)
            }
            Op::GroupNorm { groups, eps } => {
                GroupNorm::new(value("weight"), value("bias"), x.dim(1)?, *groups, *eps)?.forward(x)
            }
            Op::LayerNorm { eps } => kernels::layer_norm(x, &value("weight"), &value("bias"), *eps),
            Op::GlobalResponseNorm => global_response_norm(x, &value("weight"), &value("bias")),
            Op::LayerScale { .. } => x.broadcast_mul(&per_channel(&self.value(&node.name, mode))?),
            Op::Attention { heads } => attend(x, &inputs[1], *heads),
            Op::WindowAttention { heads, window_px, shift_px } => window_attention::window_attention(
                x,
                &value("relative_position_bias_table"),
                *heads,
                *window_px,
                *shift_px,
            ),
            Op::Activation(activation) => activate(x, *activation),
            Op::Add => inputs[1..].iter().try_fold(x.clone(), |sum, y| sum + y),
            Op::Multiply => x.broadcast_mul(&inputs[1]),
            Op::Concat => Tensor::cat(inputs, 1),
            Op::MaxPool(pool) => kernels::max_pool(x, pool.kernel, pool.stride, pool.pad),
            Op::AvgPool(pool) => kernels::avg_pool(x, pool.kernel, pool.stride),
            Op::SpaceToDepth => space_to_depth(x),
            Op::GlobalAvgPool => x.mean_keepdim((2, 3)),
            Op::GlobalMaxPool => x.max_keepdim(3)?.max_keepdim(2),
            Op::SpreadLike => {
                let (n, c, _, _) = x.dims4()?;
                let (_, _, h, w) = inputs[1].dims4()?;
                x.broadcast_as((n, c, h, w))?.contiguous()
            }
            Op::ChannelMean => x.mean_keepdim(1),
            Op::ChannelMax => x.max_keepdim(1),
            Op::Resize { factor, mode } => resize(x, *factor, *mode),
            Op::Crop(rule) => crop(x, *rule, inputs.get(1)),
            Op::Dropout { prob, whole_channels } => match mode.dropout_seed {
                Some(seed) => dropout::dropout(x, *prob, *whole_channels, seed, i as u64),
                None => Ok(x.clone()),
            },
        }
    }
}

/// `[C]` as `[1, C, 1, 1]`.
pub(super) fn per_channel(value: &Tensor) -> Result<Tensor> {
    value.reshape((1, value.elem_count(), 1, 1))
}

fn with_bias(y: Tensor, bias: Option<Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => y.broadcast_add(&per_channel(&bias)?),
        None => Ok(y),
    }
}

fn convolve(x: &Tensor, weight: &Tensor, conv: &Conv) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let (top, bottom) = conv.padding.before_after(h, conv.kernel, conv.stride);
    let (left, right) = conv.padding.before_after(w, conv.kernel, conv.stride);
    if top == bottom && top == left && top == right {
        return x.conv2d(weight, top, conv.stride, conv.dilation, conv.groups);
    }
    let padded = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
    padded.conv2d(weight, 0, conv.stride, conv.dilation, conv.groups)
}

fn attend(queries: &Tensor, keys_values: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, c, h, w) = queries.dims4()?;
    // `[N, heads, channels of a head, pixels]`
    let in_heads = |x: &Tensor| x.contiguous()?.reshape((n, heads, c / heads, ()));
    let (queries, keys) = (in_heads(queries)?, in_heads(&keys_values.narrow(1, 0, c)?)?);
    let values = in_heads(&keys_values.narrow(1, c, c)?)?;
    let scores = (queries.transpose(2, 3)?.contiguous()?.matmul(&keys)? * (c as f64 / heads as f64).powf(-0.5))?;
    let seen = values.matmul(&ops::softmax(&scores, 3)?.transpose(2, 3)?.contiguous()?)?;
    seen.reshape((n, c, h, w))
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Relu => kernels::relu(x),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Gelu => x.gelu_erf(),
        Activation::Silu => x.silu(),
        Activation::Sigmoid => ops::sigmoid(x),
        Activation::Softmax => ops::softmax(x, 1),
    }
}

fn space_to_depth(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    // Row and column inside a block come first, the column slower.
    let blocks = x.contiguous()?.reshape(vec![n, c, h / 2, 2, w / 2, 2])?.permute(vec![0, 5, 3, 1, 2, 4])?;
    blocks.contiguous()?.reshape((n, 4 * c, h / 2, w / 2))
}

fn global_response_norm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let norm = x.sqr()?.sum_keepdim((2, 3))?.sqrt()?;
    let response = norm.broadcast_div(&(norm.mean_keepdim(1)? + 1e-6)?)?;
    let scaled = x.broadcast_mul(&response)?.broadcast_mul(&per_channel(weight)?)?;
    x + scaled.broadcast_add(&per_channel(bias)?)?
}

fn resize(x: &Tensor, factor: usize, mode: ResizeMode) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let size = (h * factor, w * factor);
    match mode {
        ResizeMode::Nearest => kernels::resize_nearest(x, size),
        ResizeMode::Bilinear => kernels::resize_bilinear(x, size, false),
        ResizeMode::BilinearCorners => kernels::resize_bilinear(x, size, true),
    }
}

fn crop(x: &Tensor, rule: Crop, like: Option<&Tensor>) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let (out_h, out_w) = match (rule, like) {
        (Crop::By(px), _) => (h - px, w - px),
        (Crop::To(px), _) => (px, px),
        (Crop::Like, Some(like)) => (like.dim(2)?, like.dim(3)?),
        (Crop::Like, None) => candle_core::bail!("a crop needs a second input to be like"),
    };
    x.narrow(2, (h - out_h) / 2, out_h)?.narrow(3, (w - out_w) / 2, out_w)?.contiguous()
}
