//! DeepLabV3 on ResNet-101.
//!
//! Paper: Chen 2017, "Rethinking atrous convolution for semantic image segmentation"; a baseline of several papers here.
//! Code: names and details as in `torchvision.models.segmentation.deeplabv3_resnet101(aux_loss=True)`, output stride 8.
//! Input: RGB, ImageNet mean and standard deviation; any multiple of 8.
//! Heads: `out`, logits `[classes, h, w]`; `aux`, the same from the third stage, for training.
//! Weights: `backbone.*`, `classifier.{0,1,2,4}`, `aux_classifier.{0,1,4}`.

use super::{
    backbone::resnet::{ResNetSize, resnet},
    graph::{Conv, Graph, NodeId, ResizeMode},
    spec::Head,
};

/// Channels of the head.
const WIDTH: usize = 256;
/// Distances of the taps in the pyramid's 3×3 convolutions, for output stride 8.
const RATES: [usize; 3] = [12, 24, 36];

/// The network for this many classes, background counted.
pub fn deeplab_v3_resnet101(classes: usize) -> Graph {
    let mut g = Graph::new("deeplab_v3_resnet101", 3);
    let image = g.input();
    let [.., c4, c5] = resnet(&mut g, "backbone.", image, ResNetSize::R101, 8);
    let x = pyramid(&mut g, "classifier.0", c5);
    let x = conv_norm_relu(&mut g, ["classifier.1", "classifier.2"], x, Conv::new(WIDTH, 3).pad(1));
    let x = g.conv("classifier.4", x, Conv::new(classes, 1));
    let x = g.resize(x, 8, ResizeMode::Bilinear);
    g.output("out", Head::Semantic, x);
    let x = conv_norm_relu(&mut g, ["aux_classifier.0", "aux_classifier.1"], c4, Conv::new(WIDTH, 3).pad(1));
    let x = g.dropout(x, 0.1);
    let x = g.conv("aux_classifier.4", x, Conv::new(classes, 1));
    let x = g.resize(x, 8, ResizeMode::Bilinear);
    g.output("aux", Head::Semantic, x);
    g
}

/// ASPP: the same map seen at four reaches and as a whole.
fn pyramid(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let layer = |branch: usize, part: usize| format!("{name}.convs.{branch}.{part}");
    let mut branches = vec![conv_norm_relu(g, [&layer(0, 0), &layer(0, 1)], x, Conv::new(WIDTH, 1))];
    for (i, rate) in RATES.into_iter().enumerate() {
        let conv = Conv::new(WIDTH, 3).pad(rate).dilation(rate);
        branches.push(conv_norm_relu(g, [&layer(i + 1, 0), &layer(i + 1, 1)], x, conv));
    }
    let whole = g.global_avg_pool(x);
    let whole = conv_norm_relu(g, [&layer(4, 1), &layer(4, 2)], whole, Conv::new(WIDTH, 1));
    branches.push(g.spread_like(whole, x));
    let x = g.concat(&branches);
    let x = conv_norm_relu(g, [&format!("{name}.project.0"), &format!("{name}.project.1")], x, Conv::new(WIDTH, 1));
    g.dropout(x, 0.5)
}

fn conv_norm_relu(g: &mut Graph, names: [&str; 2], x: NodeId, conv: Conv) -> NodeId {
    let x = g.conv(names[0], x, conv.no_bias());
    let x = g.batch_norm(names[1], x);
    g.relu(x)
}
