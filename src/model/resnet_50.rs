//! ResNet-50 with a classifier.
//!
//! Paper: He 2016, "Deep residual learning for image recognition"; a baseline of CrescentDenseNet's paper. RetCCL's
//! weights (Wang 2023) have the same tensors without `fc`.
//! Code: names as in `torchvision.models.resnet50`.
//! Input: RGB, ImageNet mean and standard deviation; 256×256 in that paper, at least 32 px.
//! Head: `class`, logits `[classes, 1, 1]`.
//! Weights: `conv1`, `bn1`, `layer{1..4}`, `fc`.

use super::{
    backbone::resnet::{ResNetSize, resnet},
    graph::Graph,
    spec::Head,
};

/// The network for this many classes.
pub fn resnet_50(classes: usize) -> Graph {
    let mut g = Graph::new("resnet_50", 3);
    let image = g.input();
    let [.., x] = resnet(&mut g, "", image, ResNetSize::R50, 32);
    let x = g.global_avg_pool(x);
    let x = g.linear("fc", x, classes);
    g.output("class", Head::Classification, x);
    g
}
