//! MiT-B0, SegFormer's encoder.
//!
//! Owns: [`mix_transformer_b0`]. Must not know: decoders, heads.
//!
//! Source: Xie 2021, table 6 of the appendix; names and details as in NVlabs' `mix_transformer.py`: norms inside blocks
//! and after stages have eps 1e-6, those of patches and of reduced keys 1e-5.

use crate::model::graph::{Activation, Conv, Graph, NodeId};

const BLOCK_EPS: f64 = 1e-6;
const PATCH_EPS: f64 = 1e-5;
/// Blocks of each stage.
const BLOCKS: usize = 2;

/// One stage: channels, attention heads, and the factor by which keys and values are smaller than the map.
struct Stage {
    width: usize,
    heads: usize,
    reduction: usize,
}

const STAGES: [Stage; 4] = [
    Stage { width: 32, heads: 1, reduction: 8 },
    Stage { width: 64, heads: 2, reduction: 4 },
    Stage { width: 160, heads: 5, reduction: 2 },
    Stage { width: 256, heads: 8, reduction: 1 },
];

/// Adds MiT-B0 without its classifier; tensors are named `<prefix>patch_embed1.proj.weight`,
/// `<prefix>block1.0.attn.q.weight`, …
///
/// Returns the feature maps at strides 4, 8, 16, 32, of 32, 64, 160, 256 channels.
pub fn mix_transformer_b0(g: &mut Graph, prefix: &str, mut x: NodeId) -> [NodeId; 4] {
    let mut features = [x; 4];
    for (i, stage) in STAGES.iter().enumerate() {
        let (number, patch) = (i + 1, format!("{prefix}patch_embed{}", i + 1));
        let (kernel, stride) = if i == 0 { (7, 4) } else { (3, 2) };
        x = g.conv(&format!("{patch}.proj"), x, Conv::new(stage.width, kernel).stride(stride).pad(kernel / 2));
        x = g.layer_norm(&format!("{patch}.norm"), x, PATCH_EPS);
        for block in 0..BLOCKS {
            let name = format!("{prefix}block{number}.{block}");
            x = attend(g, &name, x, stage);
            x = mix(g, &name, x);
        }
        x = g.layer_norm(&format!("{prefix}norm{number}"), x, BLOCK_EPS);
        features[i] = x;
    }
    features
}

/// Attention of every pixel to a smaller map of keys and values, added to what came in.
fn attend(g: &mut Graph, name: &str, x: NodeId, stage: &Stage) -> NodeId {
    let y = g.layer_norm(&format!("{name}.norm1"), x, BLOCK_EPS);
    let queries = g.linear(&format!("{name}.attn.q"), y, stage.width);
    let mut seen = y;
    if stage.reduction > 1 {
        let conv = Conv::new(stage.width, stage.reduction).stride(stage.reduction);
        seen = g.conv(&format!("{name}.attn.sr"), seen, conv);
        seen = g.layer_norm(&format!("{name}.attn.norm"), seen, PATCH_EPS);
    }
    let keys_values = g.linear(&format!("{name}.attn.kv"), seen, 2 * stage.width);
    let y = g.attention(queries, keys_values, stage.heads);
    let y = g.linear(&format!("{name}.attn.proj"), y, stage.width);
    g.add(&[x, y])
}

/// Four times wider, 3×3 per channel, GELU, back; added to what came in.
fn mix(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let width = g.channels(x);
    let y = g.layer_norm(&format!("{name}.norm2"), x, BLOCK_EPS);
    let y = g.linear(&format!("{name}.mlp.fc1"), y, 4 * width);
    let per_channel = Conv::new(4 * width, 3).pad(1).groups(4 * width);
    let y = g.conv(&format!("{name}.mlp.dwconv.dwconv"), y, per_channel);
    let y = g.activation(y, Activation::Gelu);
    let y = g.linear(&format!("{name}.mlp.fc2"), y, width);
    g.add(&[x, y])
}
