//! MobileNetV2 as an encoder.
//!
//! Owns: [`mobilenet_v2`]. Must not know: decoders, heads.
//!
//! Source: Sandler 2018, table 2; names and details as in torchvision's `mobilenet_v2().features`.

use crate::model::graph::{Activation, Conv, Graph, NodeId};

/// Expansion, channels, blocks, stride of the first block.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// Adds MobileNetV2 without its classifier; tensors are named `<prefix>0.0.weight`, `<prefix>1.conv.0.0.weight`, …
///
/// Returns the feature maps at strides 2, 4, 8, 16, 32, of 16, 24, 32, 96, 320 channels, and the last layer's 1280
/// channels at stride 32. With `output_stride` 16, the layers after the fourth map are dilated by 2 and stay at 16.
pub fn mobilenet_v2(g: &mut Graph, prefix: &str, x: NodeId, output_stride: usize) -> [NodeId; 6] {
    let mut x = conv_norm_relu6(g, &format!("{prefix}0"), x, Conv::new(32, 3).stride(2).pad(1));
    let (mut features, mut layer, mut reached, mut dilation) = (vec![], 1, 2, 1);
    for (expansion, width, blocks, mut first_stride) in STAGES {
        if reached * first_stride > output_stride {
            (dilation, first_stride) = (dilation * first_stride, 1);
        }
        reached *= first_stride;
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            let shape = Block { expansion, width, stride, dilation };
            x = inverted_residual(g, &format!("{prefix}{layer}.conv"), x, &shape);
            layer += 1;
        }
        features.push(x);
    }
    let last = conv_norm_relu6(g, &format!("{prefix}{layer}"), x, Conv::new(1280, 1));
    [features[0], features[1], features[2], features[4], features[6], last]
}

/// Shape of one block.
struct Block {
    expansion: usize,
    width: usize,
    stride: usize,
    dilation: usize,
}

/// Widen by a 1×1, filter each channel, narrow by a 1×1 without activation; added to what came in if that has the
/// same shape.
fn inverted_residual(g: &mut Graph, name: &str, x: NodeId, block: &Block) -> NodeId {
    let (mut y, mut part) = (x, 0);
    let wide = g.channels(x) * block.expansion;
    if block.expansion != 1 {
        y = conv_norm_relu6(g, &format!("{name}.{part}"), y, Conv::new(wide, 1));
        part += 1;
    }
    let filter = Conv::new(wide, 3).stride(block.stride).pad(block.dilation).dilation(block.dilation).groups(wide);
    y = conv_norm_relu6(g, &format!("{name}.{part}"), y, filter);
    y = g.conv(&format!("{name}.{}", part + 1), y, Conv::new(block.width, 1).no_bias());
    y = g.batch_norm(&format!("{name}.{}", part + 2), y);
    if block.stride == 1 && g.channels(x) == block.width { g.add(&[x, y]) } else { y }
}

fn conv_norm_relu6(g: &mut Graph, name: &str, x: NodeId, conv: Conv) -> NodeId {
    let x = g.conv(&format!("{name}.0"), x, conv.no_bias());
    let x = g.batch_norm(&format!("{name}.1"), x);
    g.activation(x, Activation::Relu6)
}
