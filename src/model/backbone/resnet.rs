//! ResNet as an encoder.
//!
//! Owns: [`resnet`], [`ResNetSize`]. Must not know: decoders, heads.
//!
//! Source: He 2016, table 1; names and details as in torchvision's `resnet34`, `resnet50`, `resnet101`: a bottleneck
//! strides in its 3×3. Dilation instead of stride as in torchvision's `replace_stride_with_dilation` (Chen 2017).

use crate::model::graph::{Conv, Graph, NodeId, Pool};

/// Published sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetSize {
    /// 3/4/6/3 basic blocks.
    R34,
    /// 3/4/6/3 bottlenecks.
    R50,
    /// 3/4/23/3 bottlenecks.
    R101,
}

/// Shape of one block.
struct Block {
    width: usize,
    stride: usize,
    dilation: usize,
}

/// Adds ResNet without its classifier; its tensors are named `<prefix>conv1.weight`, `<prefix>layer1.0.conv1.weight`, …
///
/// Returns the feature maps of the stem (before its pool) and the four stages, at strides 2, 4, 8, 16, 32; with
/// `output_stride` 8, the last two stages are dilated and stay at stride 8.
pub fn resnet(g: &mut Graph, prefix: &str, x: NodeId, size: ResNetSize, output_stride: usize) -> [NodeId; 5] {
    let x = g.conv(&format!("{prefix}conv1"), x, Conv::new(64, 7).stride(2).pad(3).no_bias());
    let x = g.batch_norm(&format!("{prefix}bn1"), x);
    let stem = g.relu(x);
    let mut x = g.max_pool(stem, Pool { kernel: 3, stride: 2, pad: 1 });
    let mut features = [stem; 5];
    let blocks = if size == ResNetSize::R101 { [3, 4, 23, 3] } else { [3, 4, 6, 3] };
    let (mut reached, mut dilation) = (4, 1);
    for (stage, (blocks, width)) in blocks.into_iter().zip([64, 128, 256, 512]).enumerate() {
        let (mut stride, before) = (if stage > 0 { 2 } else { 1 }, dilation);
        if reached * stride > output_stride {
            (dilation, stride) = (dilation * stride, 1);
        }
        reached *= stride;
        for block in 0..blocks {
            let name = format!("{prefix}layer{}.{block}", stage + 1);
            let first = Block { width, stride, dilation: before };
            let shape = if block == 0 { first } else { Block { width, stride: 1, dilation } };
            x = residual_block(g, &name, x, size, &shape);
        }
        features[stage + 1] = x;
    }
    features
}

/// Convolutions around a shortcut, which is a 1×1 convolution where the shape changes.
fn residual_block(g: &mut Graph, name: &str, x: NodeId, size: ResNetSize, block: &Block) -> NodeId {
    let wide = |conv: Conv| conv.pad(block.dilation).dilation(block.dilation).no_bias();
    let convs = if size == ResNetSize::R34 {
        vec![wide(Conv::new(block.width, 3).stride(block.stride)), Conv::new(block.width, 3).pad(1).no_bias()]
    } else {
        vec![
            Conv::new(block.width, 1).no_bias(),
            wide(Conv::new(block.width, 3).stride(block.stride)),
            Conv::new(4 * block.width, 1).no_bias(),
        ]
    };
    let (last, mut y) = (convs.len(), x);
    for (i, conv) in convs.into_iter().enumerate() {
        y = g.conv(&format!("{name}.conv{}", i + 1), y, conv);
        y = g.batch_norm(&format!("{name}.bn{}", i + 1), y);
        if i + 1 < last {
            y = g.relu(y);
        }
    }
    let out = g.channels(y);
    let shortcut = if block.stride == 1 && g.channels(x) == out {
        x
    } else {
        let s = g.conv(&format!("{name}.downsample.0"), x, Conv::new(out, 1).stride(block.stride).no_bias());
        g.batch_norm(&format!("{name}.downsample.1"), s)
    };
    let y = g.add(&[y, shortcut]);
    g.relu(y)
}
