//! ResNet-50 with a classifier.
//!
//! Paper: He 2016, "Deep residual learning for image recognition"; a baseline of CrescentDenseNet's paper.
//! Code: names as in `torchvision.models.resnet50`.
//! Input: RGB, ImageNet mean and standard deviation; 256×256 in that paper, at least 32 px.
//! Head: `class`, logits `[classes, 1, 1]`.
//! Weights: `conv1`, `bn1`, `layer{1..4}`, `fc`. RetCCL's (Wang 2023, learned on slides without labels; `best_ckpt.pth` of
//! `Xiyue-Wang/RetCCL`, GPL-3.0, not for commerce) are the same tensors without `fc`, 23,508,032 parameters; its authors
//! advise 1 µm/px to begin with.

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
