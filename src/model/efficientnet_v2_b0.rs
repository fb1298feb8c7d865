//! EfficientNetV2-B0 with a classifier.
//!
//! Paper: Tan 2021, "EfficientNetV2: smaller models and faster training"; a baseline of CrescentDenseNet's paper.
//! Code: names and details as in timm's `tf_efficientnetv2_b0`, whose weights are the authors' (also those of Keras).
//! Input: RGB, ImageNet mean and standard deviation; 256×256 in that paper, at least 32 px.
//! Head: `class`, logits `[classes, 1, 1]`.
//! Weights: `conv_stem`, `bn1`, `blocks.{0..5}`, `conv_head`, `bn2`, `classifier`.
//!
//! 1000 classes have 7,139,704 parameters. The 20.181 M and 3.787 thousand million MACs that CrescentDenseNet's paper
//! prints beside this name (table 12) are those of EfficientNetV2-S.

use super::{backbone::efficientnet_v2::efficientnet_v2_b0_features, graph::Graph, spec::Head};

/// The network for this many classes.
pub fn efficientnet_v2_b0(classes: usize) -> Graph {
    let mut g = Graph::new("efficientnet_v2_b0", 3);
    let image = g.input();
    let x = efficientnet_v2_b0_features(&mut g, "", image);
    let x = g.linear("classifier", x, classes);
    g.output("class", Head::Classification, x);
    g
}
