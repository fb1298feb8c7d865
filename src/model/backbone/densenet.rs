//! DenseNet-121 as an encoder.
//!
//! Owns: [`densenet121`]. Must not know: heads.
//!
//! Source: Huang 2017, table 1; names and details as in torchvision's `densenet121` (`norm1`; old checkpoints spell
//! `norm.1`).

use crate::model::graph::{Conv, Graph, NodeId, Pool};

/// Channels each layer adds.
const GROWTH: usize = 32;
/// Channels of the 1×1 bottleneck, in growths.
const BOTTLENECK: usize = 4;

/// Adds DenseNet-121 up to its last norm and ReLU; tensors are named `<prefix>conv0.weight`,
/// `<prefix>denseblock1.denselayer1.norm1.weight`, …
///
/// Returns 1024 channels at stride 32.
pub fn densenet121(g: &mut Graph, prefix: &str, x: NodeId) -> NodeId {
    let x = g.conv(&format!("{prefix}conv0"), x, Conv::new(64, 7).stride(2).pad(3).no_bias());
    let x = g.batch_norm(&format!("{prefix}norm0"), x);
    let x = g.relu(x);
    let mut x = g.max_pool(x, Pool { kernel: 3, stride: 2, pad: 1 });
    for (block, layers) in [(1, 6), (2, 12), (3, 24), (4, 16)] {
        for layer in 1..=layers {
            x = dense_layer(g, &format!("{prefix}denseblock{block}.denselayer{layer}"), x);
        }
        if block < 4 {
            x = transition(g, &format!("{prefix}transition{block}"), x);
        }
    }
    let x = g.batch_norm(&format!("{prefix}norm5"), x);
    g.relu(x)
}

/// Norm, ReLU, 1×1, norm, ReLU, 3×3; the result joins what came in.
fn dense_layer(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let y = g.batch_norm(&format!("{name}.norm1"), x);
    let y = g.relu(y);
    let y = g.conv(&format!("{name}.conv1"), y, Conv::new(BOTTLENECK * GROWTH, 1).no_bias());
    let y = g.batch_norm(&format!("{name}.norm2"), y);
    let y = g.relu(y);
    let y = g.conv(&format!("{name}.conv2"), y, Conv::new(GROWTH, 3).pad(1).no_bias());
    g.concat(&[x, y])
}

/// Half the channels, half the size.
fn transition(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let half = g.channels(x) / 2;
    let x = g.batch_norm(&format!("{name}.norm"), x);
    let x = g.relu(x);
    let x = g.conv(&format!("{name}.conv"), x, Conv::new(half, 1).no_bias());
    g.avg_pool(x, Pool { kernel: 2, stride: 2, pad: 0 })
}
