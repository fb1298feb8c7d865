//! EfficientNetV2-B0 and ResNet-50 side by side, with one classifier.
//!
//! Paper: the "hybrid CNN" among the baselines of CrescentDenseNet's paper, which names the two and leaves how they are
//! joined to its supplement. Here as is common (Alruwaili 2025, which that paper cites): both look at the same image,
//! their means over the image stand one after the other, 1280 + 2048 values, under one linear layer.
//! Code: none; each half has the names and details of its own network ([`efficientnet_v2_b0`](super::efficientnet_v2_b0)
//! as in timm, [`resnet_50`](super::resnet_50) as in torchvision).
//! Input: RGB, ImageNet mean and standard deviation; 256×256 in that paper, at least 32 px.
//! Head: `class`, logits `[classes, 1, 1]`.
//! Weights: `efficientnet.*`, `resnet.*`, `fc`; the first two load from either network's checkpoint under these prefixes.

use super::{
    backbone::{
        efficientnet_v2::efficientnet_v2_b0_features,
        resnet::{ResNetSize, resnet},
    },
    graph::Graph,
    spec::Head,
};

/// The network for this many classes.
pub fn hybrid_effnet_resnet(classes: usize) -> Graph {
    let mut g = Graph::new("hybrid_effnet_resnet", 3);
    let image = g.input();
    let efficientnet = efficientnet_v2_b0_features(&mut g, "efficientnet.", image);
    let [.., resnet] = resnet(&mut g, "resnet.", image, ResNetSize::R50, 32);
    let resnet = g.global_avg_pool(resnet);
    let x = g.concat(&[efficientnet, resnet]);
    let x = g.linear("fc", x, classes);
    g.output("class", Head::Classification, x);
    g
}
