//! StarDist: nuclei as star-convex polygons, with types.
//!
//! Paper: Schmidt 2018, "Cell detection with star-convex polygons"; Weigert 2022 for types.
//! Code: `stardist/models/model2d.py` and `csbdeep/internals/blocks.py`; names are those of the Keras layers (the two
//! nameless ones before the U-Net are `grid_0`, `grid_1`), shapes are PyTorch's.
//! Input: RGB in 0–1, 256×256 in the paper, any multiple of 16; output at half the size.
//! Heads: `prob` `[1, h/2, w/2]`, a probability already; `dist` `[rays, h/2, w/2]`, px of the input from a pixel to its
//! object's edge along `rays` directions, ray `k` at the angle `2πk/rays` (row + sin, column + cos); `prob_class`
//! `[classes + 1, h/2, w/2]`, probabilities already, background first (left out without classes).
//! Weights: `grid_{0,1}`, `down_level_{n}_no_{i}`, `middle_{0,2}`, `up_level_{n}_no_{0,2}`, `features`, `prob`, `dist`,
//! `features_class`, `prob_class`.
//!
//! 1,425,761 parameters with 32 rays and no classes, as the `stardist` package counts.

use super::{
    graph::{Activation, Conv, Graph, NodeId, Pool, ResizeMode},
    spec::Head,
};

/// Channels of the first level; each level has twice as many.
const BASE: usize = 32;
/// Times the size is halved inside the U-Net.
const DEPTH: usize = 3;
const HALVE: Pool = Pool { kernel: 2, stride: 2, pad: 0 };

/// The network for this many rays; `classes` does not count the background.
pub fn stardist_unet(rays: usize, classes: Option<usize>) -> Graph {
    let mut g = Graph::new("stardist_unet", 3);
    let image = g.input();
    let x = conv_relu(&mut g, "grid_0", image, BASE);
    let x = conv_relu(&mut g, "grid_1", x, BASE);
    let x = g.max_pool(x, HALVE);
    let unet = unet(&mut g, x);
    let features = conv_relu(&mut g, "features", unet, 128);
    let prob = g.conv("prob", features, Conv::new(1, 1));
    let prob = g.sigmoid(prob);
    g.output("prob", Head::NuclearPixel, prob);
    let dist = g.conv("dist", features, Conv::new(rays, 1));
    g.output("dist", Head::StarDistance, dist);
    if let Some(classes) = classes {
        let x = conv_relu(&mut g, "features_class", unet, 128);
        let x = g.conv("prob_class", x, Conv::new(classes + 1, 1));
        let x = g.activation(x, Activation::Softmax);
        g.output("prob_class", Head::TypeProbability, x);
    }
    g
}

fn unet(g: &mut Graph, mut x: NodeId) -> NodeId {
    let mut skips = vec![];
    for level in 0..DEPTH {
        for i in 0..2 {
            x = conv_relu(g, &format!("down_level_{level}_no_{i}"), x, BASE << level);
        }
        skips.push(x);
        x = g.max_pool(x, HALVE);
    }
    x = conv_relu(g, "middle_0", x, BASE << DEPTH);
    x = conv_relu(g, "middle_2", x, BASE << (DEPTH - 1));
    for (level, skip) in skips.into_iter().enumerate().rev() {
        x = g.resize(x, 2, ResizeMode::Nearest);
        x = g.concat(&[x, skip]);
        x = conv_relu(g, &format!("up_level_{level}_no_0"), x, BASE << level);
        x = conv_relu(g, &format!("up_level_{level}_no_2"), x, BASE << level.saturating_sub(1));
    }
    x
}

fn conv_relu(g: &mut Graph, name: &str, x: NodeId, out: usize) -> NodeId {
    let x = g.conv(name, x, Conv::new(out, 3).pad(1));
    g.relu(x)
}
