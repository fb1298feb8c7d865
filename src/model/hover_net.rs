//! HoVer-Net: nuclei by their pixels, their distance maps and their types.
//!
//! Paper: Graham 2019, "HoVer-Net: simultaneous segmentation and classification of nuclei in multi-tissue histology
//! images"; the fast form is that of PanNuke (Gamper 2020).
//! Code: `vqdang/hover_net` and TIAToolbox, `models/architecture/hovernet.py`; names as there, slashes included.
//! Input: RGB in 0–1. Original 270×270 → 80×80, fast 256×256 → 164×164; other sizes must give the same parities.
//! Heads: `tp` logits `[types, h, w]`, type 0 is background (left out without types); `np` logits `[2, h, w]`,
//! background and nucleus; `hv` `[2, h, w]`, horizontal and vertical distance.
//! Weights: `conv0./`, `conv0.bn`, `d0`–`d3`, `conv_bot`, `decoder.{tp,np,hv}.{u3,u2,u1,u0}`. The authors' files also
//! hold `upsample2x.unpool_mat`, a 2×2 of ones, which is no weight.
//!
//! Parameters: original 54,744,457 with 5 types, fast 37,639,626 with 6.

use super::{
    graph::{Conv, Graph, NodeId, ResizeMode},
    spec::Head,
};

/// The two published forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoverNetMode {
    /// 270×270 → 80×80, 5×5 kernels in the decoder.
    Original,
    /// 256×256 → 164×164, 3×3 kernels in the decoder.
    Fast,
}

/// Channels a dense unit adds.
const GROWTH: usize = 32;

/// The network; `types` counts the background and is `None` for nuclei without types.
pub fn hover_net(mode: HoverNetMode, types: Option<usize>) -> Graph {
    let (name, kernel, cuts) = match mode {
        HoverNetMode::Original => ("hover_net", 5, [184, 72]),
        HoverNetMode::Fast => ("hover_net_fast", 3, [92, 36]),
    };
    let mut g = Graph::new(name, 3);
    let stem = Conv::new(64, 7).no_bias();
    let stem = if mode == HoverNetMode::Fast { stem.tf_same() } else { stem };
    let x = g.conv("conv0./", g.input(), stem);
    let x = g.batch_norm("conv0.bn", x);
    let x = g.relu(x);
    let d0 = residual_block(&mut g, "d0", x, 64, 3, 1);
    let d1 = residual_block(&mut g, "d1", d0, 128, 4, 2);
    let d2 = residual_block(&mut g, "d2", d1, 256, 6, 2);
    let d3 = residual_block(&mut g, "d3", d2, 512, 3, 2);
    let bottom = g.conv("conv_bot", d3, Conv::new(1024, 1).no_bias());
    let skips = [g.crop_by(d0, cuts[0]), g.crop_by(d1, cuts[1]), d2];
    if let Some(types) = types {
        let tp = branch(&mut g, "decoder.tp", bottom, skips, kernel, types);
        g.output("tp", Head::TypeProbability, tp);
    }
    let np = branch(&mut g, "decoder.np", bottom, skips, kernel, 2);
    g.output("np", Head::NuclearPixel, np);
    let hv = branch(&mut g, "decoder.hv", bottom, skips, kernel, 2);
    g.output("hv", Head::HorizontalVertical, hv);
    g
}

/// Bottleneck units with norm and ReLU before each convolution; the first unit's come with the block before it.
fn residual_block(g: &mut Graph, name: &str, x: NodeId, width: usize, units: usize, stride: usize) -> NodeId {
    let mut shortcut = g.conv(&format!("{name}.shortcut"), x, Conv::new(4 * width, 1).stride(stride).no_bias());
    let mut sum = x;
    for unit in 0..units {
        let (name, stride) = (format!("{name}.units.{unit}"), if unit == 0 { stride } else { 1 });
        let mut y = sum;
        if unit > 0 {
            y = g.batch_norm(&format!("{name}.preact/bn"), y);
            y = g.relu(y);
        }
        let y = g.conv(&format!("{name}.conv1"), y, Conv::new(width, 1).no_bias());
        let y = g.batch_norm(&format!("{name}.conv1/bn"), y);
        let y = g.relu(y);
        let y = g.conv(&format!("{name}.conv2"), y, Conv::new(width, 3).stride(stride).tf_same().no_bias());
        let y = g.batch_norm(&format!("{name}.conv2/bn"), y);
        let y = g.relu(y);
        let y = g.conv(&format!("{name}.conv3"), y, Conv::new(4 * width, 1).no_bias());
        sum = g.add(&[y, shortcut]);
        shortcut = sum;
    }
    let x = g.batch_norm(&format!("{name}.blk_bna.bn"), sum);
    g.relu(x)
}

/// One head's decoder: twice ×2, add the skip, 5×5 (or 3×3) and dense units; then ×2, add, and two convolutions.
fn branch(g: &mut Graph, name: &str, bottom: NodeId, skips: [NodeId; 3], kernel: usize, out: usize) -> NodeId {
    let [d0, d1, d2] = skips;
    let x = up_and_add(g, bottom, d2);
    let x = g.conv(&format!("{name}.u3.conva"), x, Conv::new(256, kernel).no_bias());
    let x = dense_block(g, &format!("{name}.u3.dense"), x, 8, kernel);
    let x = g.conv(&format!("{name}.u3.convf"), x, Conv::new(512, 1).no_bias());
    let x = up_and_add(g, x, d1);
    let x = g.conv(&format!("{name}.u2.conva"), x, Conv::new(128, kernel).no_bias());
    let x = dense_block(g, &format!("{name}.u2.dense"), x, 4, kernel);
    let x = g.conv(&format!("{name}.u2.convf"), x, Conv::new(256, 1).no_bias());
    let x = up_and_add(g, x, d0);
    let x = g.conv(&format!("{name}.u1.conva"), x, Conv::new(64, kernel).tf_same().no_bias());
    let x = g.batch_norm(&format!("{name}.u0.bn"), x);
    let x = g.relu(x);
    g.conv(&format!("{name}.u0.conv"), x, Conv::new(out, 1))
}

fn up_and_add(g: &mut Graph, x: NodeId, skip: NodeId) -> NodeId {
    let x = g.resize(x, 2, ResizeMode::Nearest);
    g.add(&[x, skip])
}

/// Units without padding: each shrinks what came before to its own size and joins it.
fn dense_block(g: &mut Graph, name: &str, mut x: NodeId, units: usize, kernel: usize) -> NodeId {
    for unit in 0..units {
        let name = format!("{name}.units.{unit}");
        let y = g.batch_norm(&format!("{name}.preact_bna/bn"), x);
        let y = g.relu(y);
        let y = g.conv(&format!("{name}.conv1"), y, Conv::new(128, 1).no_bias());
        let y = g.batch_norm(&format!("{name}.conv1/bn"), y);
        let y = g.relu(y);
        let y = g.conv(&format!("{name}.conv2"), y, Conv::new(GROWTH, kernel).groups(4).no_bias());
        let kept = g.crop_like(x, y);
        x = g.concat(&[kept, y]);
    }
    let x = g.batch_norm(&format!("{name}.blk_bna.bn"), x);
    g.relu(x)
}
