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
/// channels at stride 32.
pub fn mobilenet_v2(g: &mut Graph, prefix: &str, x: NodeId) -> [NodeId; 6] {
    let mut x = conv_norm_relu6(g, &format!("{prefix}0"), x, Conv::new(32, 3).stride(2).pad(1));
    let (mut features, mut layer) = (vec![], 1);
    for (expansion, width, blocks, first_stride) in STAGES {
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            x = inverted_residual(g, &format!("{prefix}{layer}.conv"), x, expansion, width, stride);
            layer += 1;
        }
        features.push(x);
    }
    let last = conv_norm_relu6(g, &format!("{prefix}{layer}"), x, Conv::new(1280, 1));
    [features[0], features[1], features[2], features[4], features[6], last]
}

/// Widen by a 1×1, filter each channel, narrow by a 1×1 without activation; added to what came in if that has the
/// same shape.
fn inverted_residual(g: &mut Graph, name: &str, x: NodeId, expansion: usize, width: usize, stride: usize) -> NodeId {
    let (mut y, mut part) = (x, 0);
    let wide = g.channels(x) * expansion;
    if expansion != 1 {
        y = conv_norm_relu6(g, &format!("{name}.{part}"), y, Conv::new(wide, 1));
        part += 1;
    }
    y = conv_norm_relu6(g, &format!("{name}.{part}"), y, Conv::new(wide, 3).stride(stride).pad(1).groups(wide));
    y = g.conv(&format!("{name}.{}", part + 1), y, Conv::new(width, 1).no_bias());
    y = g.batch_norm(&format!("{name}.{}", part + 2), y);
    if stride == 1 && g.channels(x) == width { g.add(&[x, y]) } else { y }
}

fn conv_norm_relu6(g: &mut Graph, name: &str, x: NodeId, conv: Conv) -> NodeId {
    let x = g.conv(&format!("{name}.0"), x, conv.no_bias());
    let x = g.batch_norm(&format!("{name}.1"), x);
    g.activation(x, Activation::Relu6)
}
