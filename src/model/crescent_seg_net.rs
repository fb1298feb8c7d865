//! CrescentSegNet: glomerular crescents against everything else.
//!
//! Paper: CrescentSegNet and CrescentDenseNet (segmentation of crescents, then their stage); its network is an FPN on
//! ResNet-34.
//! Code: the paper's numbers are those of `segmentation_models_pytorch.FPN("resnet34")`, and so are the names here:
//! its checkpoints load unchanged.
//! Input: RGB, ImageNet mean and standard deviation; 256×256 in the paper, any multiple of 32.
//! Head: `mask`, logits `[classes, h, w]` (one class: of the crescent).
//! Weights: `encoder.*` (torchvision's ResNet), `decoder.p5`, `decoder.p{4,3,2}.skip_conv`, `decoder.seg_blocks.*`,
//! `segmentation_head.0`.
//!
//! The paper prints 23.156 M parameters: one class has 23,155,393 and each further one 129 more.

use super::{
    backbone::resnet::{ResNetSize, resnet},
    graph::{Conv, Graph, NodeId, ResizeMode},
    spec::Head,
};

/// Channels of the pyramid.
const PYRAMID: usize = 256;
/// Channels of the segmentation blocks.
const SEGMENTATION: usize = 128;

/// The network for this many classes.
pub fn crescent_seg_net(classes: usize) -> Graph {
    let mut g = Graph::new("crescent_seg_net", 3);
    let image = g.input();
    let [_, c2, c3, c4, c5] = resnet(&mut g, "encoder.", image, ResNetSize::R34, 32);
    let p5 = g.conv("decoder.p5", c5, Conv::new(PYRAMID, 1));
    let p4 = top_down(&mut g, "decoder.p4", p5, c4);
    let p3 = top_down(&mut g, "decoder.p3", p4, c3);
    let p2 = top_down(&mut g, "decoder.p2", p3, c2);
    let s: Vec<NodeId> = [(p5, 3), (p4, 2), (p3, 1), (p2, 0)]
        .into_iter()
        .enumerate()
        .map(|(i, (p, doublings))| segmentation_block(&mut g, &format!("decoder.seg_blocks.{i}"), p, doublings))
        .collect();
    let x = g.add(&s);
    let x = g.dropout_channels(x, 0.2);
    let x = g.conv("segmentation_head.0", x, Conv::new(classes, 1));
    let x = g.resize(x, 4, ResizeMode::BilinearCorners);
    g.output("mask", Head::Semantic, x);
    g
}

/// `upsample2x(above) + conv1x1(skip)`.
fn top_down(g: &mut Graph, name: &str, above: NodeId, skip: NodeId) -> NodeId {
    let above = g.resize(above, 2, ResizeMode::Nearest);
    let skip = g.conv(&format!("{name}.skip_conv"), skip, Conv::new(PYRAMID, 1));
    g.add(&[above, skip])
}

/// 3×3, group norm, ReLU, ×2, as often as there are doublings; at least once, then without ×2.
fn segmentation_block(g: &mut Graph, name: &str, mut x: NodeId, doublings: usize) -> NodeId {
    for i in 0..doublings.max(1) {
        let name = format!("{name}.block.{i}.block");
        x = g.conv(&format!("{name}.0"), x, Conv::new(SEGMENTATION, 3).pad(1).no_bias());
        x = g.group_norm(&format!("{name}.1"), x, 32);
        x = g.relu(x);
        if doublings > 0 {
            x = g.resize(x, 2, ResizeMode::BilinearCorners);
        }
    }
    x
}
