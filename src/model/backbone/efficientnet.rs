//! EfficientNet-B5 as an encoder.
//!
//! Owns: [`efficientnet_b5`]. Must not know: decoders, heads.
//!
//! Source: Tan 2019, table 1, widths × 1.6, depths × 2.2; names and details as in `efficientnet-pytorch` (batch norm eps
//! 1e-3). Its padding is TensorFlow's for an image of 456 px, whatever the image: even maps down to stride 8, odd ones
//! below, so that the last two strides pad both sides.

use crate::model::graph::{Activation, Conv, Graph, NodeId, Padding};

const NORM_EPS: f64 = 1e-3;

/// Blocks of one shape; the first strides.
struct Stage {
    blocks: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
    expansion: usize,
    width: usize,
}

const fn stage(blocks: usize, kernel: usize, stride: usize, padding: Padding, expansion: usize, width: usize) -> Stage {
    Stage { blocks, kernel, stride, padding, expansion, width }
}

const STAGES: [Stage; 7] = [
    stage(3, 3, 1, Padding::Each(1), 1, 24),
    stage(5, 3, 2, Padding::TfSame, 6, 40),
    stage(5, 5, 2, Padding::TfSame, 6, 64),
    stage(7, 3, 2, Padding::Each(1), 6, 128),
    stage(7, 5, 1, Padding::Each(2), 6, 176),
    stage(9, 5, 2, Padding::Each(2), 6, 304),
    stage(3, 3, 1, Padding::Each(1), 6, 512),
];

/// Adds EfficientNet-B5 without its classifier; tensors are named `<prefix>_conv_stem.weight`,
/// `<prefix>_blocks.0._depthwise_conv.weight`, … The last layer, of 2048 channels, is there as in its checkpoints and is
/// not used.
///
/// Returns the feature maps at strides 2, 4, 8, 16, 32, of 48, 40, 64, 176, 512 channels, for images whose sides are
/// multiples of 32.
pub fn efficientnet_b5(g: &mut Graph, prefix: &str, x: NodeId) -> [NodeId; 5] {
    let x = g.conv(&format!("{prefix}_conv_stem"), x, Conv::new(48, 3).stride(2).tf_same().no_bias());
    let stem = norm_silu(g, &format!("{prefix}_bn0"), x);
    let (mut x, mut number, mut maps) = (stem, 0, vec![]);
    for stage in &STAGES {
        for block in 0..stage.blocks {
            let name = format!("{prefix}_blocks.{number}");
            x = inverted_residual(g, &name, x, stage, block == 0);
            number += 1;
        }
        maps.push(x);
    }
    let last = g.conv(&format!("{prefix}_conv_head"), x, Conv::new(2048, 1).no_bias());
    g.batch_norm_eps(&format!("{prefix}_bn1"), last, NORM_EPS);
    [stem, maps[1], maps[2], maps[4], maps[6]]
}

/// Widen by a 1×1, filter each channel, squeeze and excite, narrow by a 1×1; added to what came in if that has the same
/// shape.
fn inverted_residual(g: &mut Graph, name: &str, x: NodeId, stage: &Stage, is_first: bool) -> NodeId {
    let (channels, mut y) = (g.channels(x), x);
    let wide = channels * stage.expansion;
    if stage.expansion != 1 {
        y = g.conv(&format!("{name}._expand_conv"), y, Conv::new(wide, 1).no_bias());
        y = norm_silu(g, &format!("{name}._bn0"), y);
    }
    let filter = Conv { padding: stage.padding, ..Conv::new(wide, stage.kernel).groups(wide).no_bias() };
    let filter = if is_first { filter.stride(stage.stride) } else { filter.pad(stage.kernel / 2) };
    y = g.conv(&format!("{name}._depthwise_conv"), y, filter);
    y = norm_silu(g, &format!("{name}._bn1"), y);
    let gate = g.global_avg_pool(y);
    let gate = g.conv(&format!("{name}._se_reduce"), gate, Conv::new(channels / 4, 1));
    let gate = g.activation(gate, Activation::Silu);
    let gate = g.conv(&format!("{name}._se_expand"), gate, Conv::new(wide, 1));
    let gate = g.sigmoid(gate);
    y = g.multiply(y, gate);
    y = g.conv(&format!("{name}._project_conv"), y, Conv::new(stage.width, 1).no_bias());
    y = g.batch_norm_eps(&format!("{name}._bn2"), y, NORM_EPS);
    let keeps_shape = channels == stage.width && !(is_first && stage.stride > 1);
    if keeps_shape { g.add(&[x, y]) } else { y }
}

fn norm_silu(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let x = g.batch_norm_eps(name, x, NORM_EPS);
    g.activation(x, Activation::Silu)
}
