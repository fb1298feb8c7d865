//! LightMuSeg: light segmentation of tissue and tumours.
//!
//! Paper: LightMuSeg (MobileNetV2 encoder, multi-scale feature fusion after each level, feature refinement in the
//! decoder).
//! Code: the authors' leaves one module undefined, the spatial attention; it is CBAM's here (Woo 2018: mean and maximum
//! over channels, 7×7 convolution, sigmoid). Names are the authors'.
//! Input: RGB, ImageNet mean and standard deviation; 512×512 in the paper, any multiple of 32.
//! Heads: `mask`, logits `[classes, h, w]`; with deep supervision also `side4`, `side3`, `side2`, logits `[1, h, w]` of
//! foreground, for training.
//! Weights: `encoder.*` (torchvision's MobileNetV2), `mltslayer{1..5}`, `s{5..2}_up_conv`, `lca{45,34,23,12}`,
//! `last_conv`, `sideout{4,3,2}`.
//!
//! The paper's v1 (frozen encoder) and v2 (trained encoder) are one network, v3 is the one with deep supervision. Three
//! classes have 7,052,676 parameters, the 7.05 M of the paper's comparison; its 6.64 M leave out the 412,160 of
//! MobileNetV2's last layer, which the encoder owns and nothing uses, and its 4.83 M the whole encoder.

use super::{
    backbone::mobilenet_v2::mobilenet_v2,
    graph::{Conv, Graph, NodeId, ResizeMode},
    spec::Head,
};

/// Channels of a gate's narrow layer, as a part of its input's.
const REDUCTION: usize = 4;

/// The network for this many classes.
pub fn light_mu_seg(classes: usize, deep_supervision: bool) -> Graph {
    let mut g = Graph::new(if deep_supervision { "light_mu_seg_v3" } else { "light_mu_seg" }, 3);
    let image = g.input();
    let [e1, e2, e3, e4, e5, _] = mobilenet_v2(&mut g, "encoder.", image, 32);
    let [m1, m2, m3, m4, m5] =
        [(1, e1), (2, e2), (3, e3), (4, e4), (5, e5)].map(|(i, e)| multi_scale(&mut g, &format!("mltslayer{i}"), e));
    let x = up(&mut g, "s5_up_conv", m5, m4);
    let d4 = refine(&mut g, "lca45", m4, x);
    let x = up(&mut g, "s4_up_conv", d4, m3);
    let d3 = refine(&mut g, "lca34", m3, x);
    let x = up(&mut g, "s3_up_conv", d3, m2);
    let d2 = refine(&mut g, "lca23", m2, x);
    let x = up(&mut g, "s2_up_conv", d2, m1);
    let x = refine(&mut g, "lca12", m1, x);
    let x = g.conv("last_conv", x, Conv::new(classes, 3).pad(1));
    let x = g.resize(x, 2, ResizeMode::Bilinear);
    g.output("mask", Head::Semantic, x);
    if deep_supervision {
        for (name, layer, x, factor) in
            [("side4", "sideout4", d4, 16), ("side3", "sideout3", d3, 8), ("side2", "sideout2", d2, 4)]
        {
            let x = side(&mut g, layer, x, factor);
            g.output(name, Head::Semantic, x);
        }
    }
    g
}

/// MSFFM: three kernel sizes side by side, then a gate for the channels and one for the pixels.
fn multi_scale(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let c = g.channels(x);
    let scales =
        [(1, 1), (2, 3), (3, 5)].map(|(i, k)| g.conv(&format!("{name}.scale{i}"), x, Conv::new(c, k).pad(k / 2)));
    let x = g.concat(&scales);
    let x = g.conv(&format!("{name}.reduce_channel"), x, Conv::new(c, 1));
    let gate = g.global_avg_pool(x);
    let gate = g.conv(&format!("{name}.fc1"), gate, Conv::new(c / REDUCTION, 1));
    let gate = g.relu(gate);
    let gate = g.conv(&format!("{name}.fc2"), gate, Conv::new(c, 1));
    let gate = g.sigmoid(gate);
    let x = g.multiply(x, gate);
    let (mean, maximum) = (g.channel_mean(x), g.channel_max(x));
    let gate = g.concat(&[mean, maximum]);
    let gate = g.conv(&format!("{name}.spatialatt.conv2d"), gate, Conv::new(1, 7).pad(3));
    let gate = g.sigmoid(gate);
    let x = g.multiply(x, gate);
    g.conv(&format!("{name}.fusion_conv"), x, Conv::new(c, 1))
}

/// ×2, then 3×3 to the skip's channels.
fn up(g: &mut Graph, name: &str, x: NodeId, skip: NodeId) -> NodeId {
    let x = g.resize(x, 2, ResizeMode::BilinearCorners);
    let x = g.conv(&format!("{name}.1"), x, Conv::new(g.channels(skip), 3).pad(1));
    let x = g.batch_norm(&format!("{name}.2"), x);
    g.relu(x)
}

/// FRFM: one gate, made of the sum, for both the skip and what comes from below.
fn refine(g: &mut Graph, name: &str, skip: NodeId, below: NodeId) -> NodeId {
    let c = g.channels(skip);
    let sum = g.add(&[skip, below]);
    let gate = g.global_avg_pool(sum);
    let gate = g.linear_no_bias(&format!("{name}.channel_fc.0"), gate, c / REDUCTION);
    let gate = g.relu(gate);
    let gate = g.linear_no_bias(&format!("{name}.channel_fc.2"), gate, c);
    let gate = g.sigmoid(gate);
    let both = [g.multiply(skip, gate), g.multiply(below, gate)];
    let x = g.concat(&both);
    g.conv(&format!("{name}.spatial_fusion"), x, Conv::new(c, 1).no_bias())
}

/// A side head for deep supervision, at the image's size.
fn side(g: &mut Graph, name: &str, x: NodeId, factor: usize) -> NodeId {
    let x = g.conv(&format!("{name}.conv1.conv"), x, Conv::new(g.channels(x) / 4, 3).pad(1));
    let x = g.batch_norm(&format!("{name}.conv1.bn"), x);
    let x = g.relu(x);
    let x = g.conv(&format!("{name}.conv2"), x, Conv::new(1, 1));
    g.resize(x, factor, ResizeMode::Bilinear)
}
