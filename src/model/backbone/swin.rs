//! Swin Transformer, Tiny, as an encoder.
//!
//! Owns: [`swin_tiny`]. Must not know: what makes the patches, classifiers.
//!
//! Source: Liu 2021, "Swin Transformer", §3 and table 7 of the appendix; names as in the authors' `swin_transformer.py`
//! and timm up to 0.6, where a stage's patch merging stands at its end (`layers.0.downsample`; timm now says
//! `layers.1.downsample`). The buffers `relative_position_index` and `attn_mask` of their checkpoints are constants here.

use crate::model::graph::{Activation, Graph, NodeId};

const NORM_EPS: f64 = 1e-5;
const WINDOW_PX: usize = 7;
/// Blocks of each stage, without and with shift in turn.
const BLOCKS: [usize; 4] = [2, 2, 6, 2];
/// Heads of each stage: 32 channels each.
const HEADS: [usize; 4] = [3, 6, 12, 24];

/// Adds Swin-T on patches `[96, h, w]` whose sides are multiples of 56; tensors are named
/// `<prefix>layers.0.blocks.0.norm1.weight`, …
///
/// Returns the normed map of the last stage, `[768, h/8, w/8]`.
pub fn swin_tiny(g: &mut Graph, prefix: &str, mut x: NodeId) -> NodeId {
    for (stage, (blocks, heads)) in BLOCKS.into_iter().zip(HEADS).enumerate() {
        let name = format!("{prefix}layers.{stage}");
        for block in 0..blocks {
            let shift = if block % 2 == 0 { 0 } else { WINDOW_PX / 2 };
            x = swin_block(g, &format!("{name}.blocks.{block}"), x, heads, shift);
        }
        if stage + 1 < BLOCKS.len() {
            x = merge_patches(g, &format!("{name}.downsample"), x);
        }
    }
    g.layer_norm(&format!("{prefix}norm"), x, NORM_EPS)
}

/// Attention inside windows, then two linear layers; each added to what came in.
fn swin_block(g: &mut Graph, name: &str, x: NodeId, heads: usize, shift_px: usize) -> NodeId {
    let width = g.channels(x);
    let y = g.layer_norm(&format!("{name}.norm1"), x, NORM_EPS);
    let y = g.linear(&format!("{name}.attn.qkv"), y, 3 * width);
    let y = g.window_attention(&format!("{name}.attn"), y, heads, WINDOW_PX, shift_px);
    let y = g.linear(&format!("{name}.attn.proj"), y, width);
    let x = g.add(&[x, y]);
    let y = g.layer_norm(&format!("{name}.norm2"), x, NORM_EPS);
    let y = g.linear(&format!("{name}.mlp.fc1"), y, 4 * width);
    let y = g.activation(y, Activation::Gelu);
    let y = g.linear(&format!("{name}.mlp.fc2"), y, width);
    g.add(&[x, y])
}

/// Half the size, twice the channels.
fn merge_patches(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let width = g.channels(x);
    let x = g.space_to_depth(x);
    let x = g.layer_norm(&format!("{name}.norm"), x, NORM_EPS);
    g.linear_no_bias(&format!("{name}.reduction"), x, 2 * width)
}
