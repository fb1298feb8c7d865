//! How each network of the zoo is used on slides: with which tiles and resolution.
//!
//! Owns: [`SlideUse`], [`slide_use`]. Must not know: weights' values, how a graph is run, slides.

use super::graph::Graph;
use super::spec::Head;

/// How a network is used on slides.
#[derive(Debug, Clone, Copy)]
pub struct SlideUse {
    /// Resolution its paper's images had, µm/px; weights that say otherwise win.
    pub input_mpp: f64,
    /// Side of its paper's tile.
    pub tile_px: u32,
    /// A tile may have any side that is a multiple of this; `None`: only `tile_px`.
    pub tile_step_px: Option<u32>,
    /// Ring of a tile that is not cut off by the network and yet lacks context.
    pub context_px: u32,
    /// Px of the tile along one px of the output.
    pub out_stride: u32,
}

/// How the network of this name is used on slides; nothing for a name that is not in [`zoo`](super::zoo).
pub fn slide_use(name: &str) -> Option<SlideUse> {
    let map = |tile_px, step| SlideUse {
        input_mpp: 0.5,
        tile_px,
        tile_step_px: Some(step),
        context_px: tile_px / 8,
        out_stride: 1,
    };
    let tile = |tile_px| SlideUse { context_px: 0, ..map(tile_px, 32) };
    let nuclei = |tile_px, step, out_stride| SlideUse {
        input_mpp: 0.25,
        tile_px,
        tile_step_px: step,
        context_px: 0,
        out_stride,
    };
    Some(match name {
        "crescent_seg_net"
        | "u_net_resnet34"
        | "u_net_efficientnet_b5"
        | "u_net_mobilenet_v2"
        | "u_net_mit_b0"
        | "deeplab_v3_plus_mobilenet_v2"
        | "deeplab_v3_resnet101" => map(256, 32),
        "u_net" | "attention_u_net" => map(256, 16),
        "clin_seg_net" => map(256, 8),
        "light_mu_seg" | "light_mu_seg_v3" => map(512, 32),
        "crescent_dense_net" | "resnet_50" | "efficientnet_v2_b0" | "hybrid_effnet_resnet" => tile(224),
        "ctranspath" => SlideUse { tile_step_px: Some(224), ..tile(224) },
        "histonext_tiny" | "histonext_base" | "histonext_large" | "histonext_xlarge" => nuclei(270, None, 2),
        "stardist_unet" => SlideUse { context_px: 32, ..nuclei(256, Some(16), 2) },
        "hover_net" => nuclei(270, None, 1),
        "hover_net_fast" => nuclei(256, None, 1),
        _ => return None,
    })
}

/// The head that tells the classes of a network apart, if it has one.
pub fn class_head(graph: &Graph) -> Option<Head> {
    [Head::Semantic, Head::TypeProbability, Head::Classification]
        .into_iter()
        .find(|&head| graph.outputs().iter().any(|o| o.head == head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::zoo::zoo;

    #[test]
    fn every_network_has_a_use_whose_tiles_it_takes() {
        for entry in zoo() {
            let used = slide_use(entry.name).unwrap_or_else(|| panic!("`{}` has no use", entry.name));
            let graph = (entry.build)();
            // The usual side, and the next that is allowed.
            for side in [used.tile_px, used.tile_px + used.tile_step_px.unwrap_or(0)] {
                let shapes = graph.shapes(side as usize, side as usize).unwrap();
                for output in graph.outputs().iter().filter(|o| o.head != Head::Classification) {
                    let shape = shapes[output.node.index()];
                    let covered = shape.h as u32 * used.out_stride;
                    assert!(covered <= side && (side - covered).is_multiple_of(2), "{}: {shape}", entry.name);
                }
            }
        }
    }
}
