//! ConvNeXt, first and second version, as an encoder.
//!
//! Owns: [`convnext`], [`ConvNextSize`], [`ConvNextVersion`]. Must not know: decoders, heads.
//!
//! Source: Liu 2022, table 9 of the appendix; Woo 2023 for version 2 (global response norm instead of layer scale);
//! names and details as in timm's `convnext_*` and `convnextv2_*` (LayerNorm eps 1e-6).

use crate::model::graph::{Activation, Conv, Graph, NodeId};

const NORM_EPS: f64 = 1e-6;
/// Layer scale before training (Liu 2022, table 5).
const LAYER_SCALE: f64 = 1e-6;

/// Published sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvNextSize {
    /// 3/3/9/3 blocks of 96 to 768 channels.
    Tiny,
    /// 3/3/27/3 blocks of 128 to 1024 channels.
    Base,
    /// 3/3/27/3 blocks of 192 to 1536 channels.
    Large,
    /// 3/3/27/3 blocks of 256 to 2048 channels.
    XLarge,
}

impl ConvNextSize {
    /// Channels of the four stages.
    pub fn widths(self) -> [usize; 4] {
        let first = match self {
            Self::Tiny => 96,
            Self::Base => 128,
            Self::Large => 192,
            Self::XLarge => 256,
        };
        [first, 2 * first, 4 * first, 8 * first]
    }

    fn blocks(self) -> [usize; 4] {
        if self == Self::Tiny { [3, 3, 9, 3] } else { [3, 3, 27, 3] }
    }
}

/// What follows the widened layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvNextVersion {
    /// Layer scale at the block's end.
    V1,
    /// Global response normalisation.
    V2,
}

/// Adds ConvNeXt without its classifier; tensors are named `<prefix>stem.0.weight`,
/// `<prefix>stages.0.blocks.0.conv_dw.weight`, …
///
/// Returns the feature maps at strides 4, 8, 16, 32.
pub fn convnext(g: &mut Graph, prefix: &str, x: NodeId, size: ConvNextSize, version: ConvNextVersion) -> [NodeId; 4] {
    let widths = size.widths();
    let x = g.conv(&format!("{prefix}stem.0"), x, Conv::new(widths[0], 4).stride(4));
    let mut x = g.layer_norm(&format!("{prefix}stem.1"), x, NORM_EPS);
    let mut features = [x; 4];
    for (stage, (width, blocks)) in widths.into_iter().zip(size.blocks()).enumerate() {
        let name = format!("{prefix}stages.{stage}");
        if stage > 0 {
            x = g.layer_norm(&format!("{name}.downsample.0"), x, NORM_EPS);
            x = g.conv(&format!("{name}.downsample.1"), x, Conv::new(width, 2).stride(2));
        }
        for block in 0..blocks {
            x = convnext_block(g, &format!("{name}.blocks.{block}"), x, version);
        }
        features[stage] = x;
    }
    features
}

/// 7×7 per channel, norm, four times wider, GELU, back, added to what came in.
fn convnext_block(g: &mut Graph, name: &str, x: NodeId, version: ConvNextVersion) -> NodeId {
    let width = g.channels(x);
    let y = g.conv(&format!("{name}.conv_dw"), x, Conv::new(width, 7).pad(3).groups(width));
    let y = g.layer_norm(&format!("{name}.norm"), y, NORM_EPS);
    let y = g.linear(&format!("{name}.mlp.fc1"), y, 4 * width);
    let mut y = g.activation(y, Activation::Gelu);
    if version == ConvNextVersion::V2 {
        y = g.global_response_norm(&format!("{name}.mlp.grn"), y);
    }
    let mut y = g.linear(&format!("{name}.mlp.fc2"), y, width);
    if version == ConvNextVersion::V1 {
        y = g.layer_scale(&format!("{name}.gamma"), y, LAYER_SCALE);
    }
    g.add(&[x, y])
}
