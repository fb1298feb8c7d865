//! CTransPath: Swin-T on a convolutional stem, trained on slides without labels, with a classifier.
//!
//! Paper: Wang 2022, "Transformer-based unsupervised contrastive learning for histopathological image classification"; a
//! baseline of CrescentDenseNet's paper.
//! Code: `Xiyue-Wang/TransPath`, `ctran.py`: timm's Swin-T with its 4×4 patches replaced by a stem of two strided 3×3 and
//! a 1×1. Names are theirs (timm 0.5.4).
//! Input: RGB, ImageNet mean and standard deviation; 224×224 (the authors advise 1 µm/px to begin with), or multiples of
//! 224 px on each side.
//! Head: `class`, logits `[classes, 1, 1]`.
//! Weights: `patch_embed.{proj,norm}`, `layers.{0..3}`, `norm`, `head`. The published `ctranspath.pth` (GPL-3.0, not for
//! commerce) holds them under `model`, without `head` and with the buffers `relative_position_index` and `attn_mask`,
//! which are constants here.
//!
//! Without classifier 27,520,038 parameters; the 27.519 M of CrescentDenseNet's paper are Swin-T's with its own patches
//! (27,519,354). Of our 4.49 thousand million MACs, against its 4.371, 0.14 are products inside attention, which its
//! tool seems not to see.

use super::{
    backbone::swin::swin_tiny,
    graph::{Conv, Graph, NodeId},
    spec::Head,
};

/// Channels of the patches.
const WIDTH: usize = 96;

/// The network for this many classes.
pub fn ctranspath(classes: usize) -> Graph {
    let mut g = Graph::new("ctranspath", 3);
    let image = g.input();
    let x = stem(&mut g, image);
    let x = swin_tiny(&mut g, "", x);
    let x = g.global_avg_pool(x);
    let x = g.linear("head", x, classes);
    g.output("class", Head::Classification, x);
    g
}

/// A quarter of the size.
fn stem(g: &mut Graph, mut x: NodeId) -> NodeId {
    for (i, width) in [WIDTH / 8, WIDTH / 4].into_iter().enumerate() {
        let conv = Conv::new(width, 3).stride(2).pad(1).no_bias();
        x = g.conv(&format!("patch_embed.proj.{}", 3 * i), x, conv);
        x = g.batch_norm(&format!("patch_embed.proj.{}", 3 * i + 1), x);
        x = g.relu(x);
    }
    let x = g.conv("patch_embed.proj.6", x, Conv::new(WIDTH, 1));
    g.layer_norm("patch_embed.norm", x, 1e-5)
}
