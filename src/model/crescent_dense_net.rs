//! CrescentDenseNet: the stage of a crescent, from a tile.
//!
//! Paper: CrescentSegNet and CrescentDenseNet; DenseNet-121 with dropout before the classifier.
//! Code: names as in `torchvision.models.densenet121`.
//! Input: RGB, ImageNet mean and standard deviation; 256×256 in the paper, 224×224 in its training; at least 32 px.
//! Head: `class`, logits `[classes, 1, 1]`: cellular, fibrocellular, fibrous in the paper.
//! Weights: `features.*`, `classifier`.
//!
//! Three classes have 6,956,931 parameters, the paper's 6.957 M.

use super::{backbone::densenet::densenet121, graph::Graph, spec::Head};

/// The network for this many classes.
pub fn crescent_dense_net(classes: usize) -> Graph {
    let mut g = Graph::new("crescent_dense_net", 3);
    let image = g.input();
    let x = densenet121(&mut g, "features.", image);
    let x = g.global_avg_pool(x);
    let x = g.dropout(x, 0.4);
    let x = g.linear("classifier", x, classes);
    g.output("class", Head::Classification, x);
    g
}
