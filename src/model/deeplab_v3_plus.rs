//! DeepLabV3+ on MobileNetV2.
//!
//! Paper: Chen 2018, "Encoder-decoder with atrous separable convolution for semantic image segmentation"; a baseline of
//! several papers here.
//! Code: names and details as in `segmentation_models_pytorch.DeepLabV3Plus("mobilenet_v2")`, output stride 16.
//! Input: RGB, ImageNet mean and standard deviation; any multiple of 16.
//! Head: `mask`, logits `[classes, h, w]`.
//! Weights: `encoder.features.*`, `decoder.{aspp,block1,block2}.*`, `segmentation_head.0`.

use super::{
    backbone::mobilenet_v2::mobilenet_v2,
    graph::{Conv, Graph, NodeId, ResizeMode},
    spec::Head,
};

/// Channels of the decoder.
const WIDTH: usize = 256;
/// Channels of the fine map (Chen 2018, section 4.1).
const FINE: usize = 48;
/// Distances of the taps in the pyramid's 3×3 convolutions.
const RATES: [usize; 3] = [12, 24, 36];

/// The network for this many classes.
pub fn deeplab_v3_plus_mobilenet_v2(classes: usize) -> Graph {
    let mut g = Graph::new("deeplab_v3_plus_mobilenet_v2", 3);
    let image = g.input();
    let [_, fine, .., coarse] = mobilenet_v2(&mut g, "encoder.features.", image, 16);
    let x = pyramid(&mut g, "decoder.aspp.0", coarse);
    let x = separable(&mut g, "decoder.aspp.1", x, 1);
    let x = norm_relu(&mut g, "decoder.aspp.2", x);
    let x = g.resize(x, 4, ResizeMode::BilinearCorners);
    let fine = conv_1x1(&mut g, "decoder.block1", 0, fine, FINE);
    let x = g.concat(&[x, fine]);
    let x = separable(&mut g, "decoder.block2.0", x, 1);
    let x = norm_relu(&mut g, "decoder.block2.1", x);
    let x = g.conv("segmentation_head.0", x, Conv::new(classes, 1));
    let x = g.resize(x, 4, ResizeMode::BilinearCorners);
    g.output("mask", Head::Semantic, x);
    g
}

/// ASPP: the same map seen at four reaches and as a whole.
fn pyramid(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let mut branches = vec![conv_1x1(g, &format!("{name}.convs.0"), 0, x, WIDTH)];
    for (i, rate) in RATES.into_iter().enumerate() {
        let layer = format!("{name}.convs.{}", i + 1);
        let y = separable(g, &format!("{layer}.0"), x, rate);
        branches.push(norm_relu(g, &format!("{layer}.1"), y));
    }
    let whole = g.global_avg_pool(x);
    let whole = conv_1x1(g, &format!("{name}.convs.4"), 1, whole, WIDTH);
    branches.push(g.spread_like(whole, x));
    let x = g.concat(&branches);
    let x = conv_1x1(g, &format!("{name}.project"), 0, x, WIDTH);
    g.dropout(x, 0.5)
}

/// 3×3 per channel, then 1×1.
fn separable(g: &mut Graph, name: &str, x: NodeId, rate: usize) -> NodeId {
    let width = g.channels(x);
    let filter = Conv::new(width, 3).pad(rate).dilation(rate).groups(width).no_bias();
    let x = g.conv(&format!("{name}.0"), x, filter);
    g.conv(&format!("{name}.1"), x, Conv::new(WIDTH, 1).no_bias())
}

/// 1×1, batch norm, ReLU; the convolution is layer `first`, the norm the next.
fn conv_1x1(g: &mut Graph, name: &str, first: usize, x: NodeId, out: usize) -> NodeId {
    let x = g.conv(&format!("{name}.{first}"), x, Conv::new(out, 1).no_bias());
    norm_relu(g, &format!("{name}.{}", first + 1), x)
}

fn norm_relu(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let x = g.batch_norm(name, x);
    g.relu(x)
}
