//! ResNet-34 as an encoder.
//!
//! Owns: [`resnet34`]. Must not know: decoders, heads.
//!
//! Source: He 2016, table 1; names and details as in torchvision's `resnet34`.

use crate::model::graph::{Conv, Graph, NodeId, Pool};

/// Adds ResNet-34 without its classifier; its tensors are named `<prefix>conv1.weight`, `<prefix>layer1.0.conv1.weight`, …
///
/// Returns the feature maps at strides 2, 4, 8, 16, 32, of 64, 64, 128, 256, 512 channels.
pub fn resnet34(g: &mut Graph, prefix: &str, x: NodeId) -> [NodeId; 5] {
    let x = g.conv(&format!("{prefix}conv1"), x, Conv::new(64, 7).stride(2).pad(3).no_bias());
    let x = g.batch_norm(&format!("{prefix}bn1"), x);
    let stem = g.relu(x);
    let mut x = g.max_pool(stem, Pool { kernel: 3, stride: 2, pad: 1 });
    let mut features = [stem; 5];
    for (i, (blocks, width)) in [(3, 64), (4, 128), (6, 256), (3, 512)].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if i > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(g, &format!("{prefix}layer{}.{block}", i + 1), x, width, stride);
        }
        features[i + 1] = x;
    }
    features
}

/// Two 3×3 convolutions around a shortcut, which is a 1×1 convolution where the shape changes.
fn basic_block(g: &mut Graph, name: &str, x: NodeId, width: usize, stride: usize) -> NodeId {
    let y = g.conv(&format!("{name}.conv1"), x, Conv::new(width, 3).stride(stride).pad(1).no_bias());
    let y = g.batch_norm(&format!("{name}.bn1"), y);
    let y = g.relu(y);
    let y = g.conv(&format!("{name}.conv2"), y, Conv::new(width, 3).pad(1).no_bias());
    let y = g.batch_norm(&format!("{name}.bn2"), y);
    let shortcut = if stride == 1 && g.channels(x) == width {
        x
    } else {
        let s = g.conv(&format!("{name}.downsample.0"), x, Conv::new(width, 1).stride(stride).no_bias());
        g.batch_norm(&format!("{name}.downsample.1"), s)
    };
    let y = g.add(&[y, shortcut]);
    g.relu(y)
}
