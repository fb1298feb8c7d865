//! How each network of the zoo is used on slides: with which classes, tiles and resolution.
//!
//! Owns: [`SlideUse`], [`slide_use`]. Must not know: weights' values, how a graph is run, slides.

use super::{
    CLIN_SEG_NET_ORGANS,
    backbone::convnext::{ConvNextSize, ConvNextVersion},
    clin_seg_net, crescent_dense_net, crescent_seg_net, ctranspath, deeplab_v3_plus_mobilenet_v2, deeplab_v3_resnet101,
    efficientnet_v2_b0,
    graph::Graph,
    histonext,
    hover_net::{HoverNetMode, hover_net},
    hybrid_effnet_resnet, light_mu_seg, resnet_50,
    spec::Head,
    stardist_unet,
    u_net::{UNetEncoder, attention_u_net, u_net, u_net_on},
};

/// How a network is used on slides.
#[derive(Debug, Clone, Copy)]
pub struct SlideUse {
    /// Makes the network's forms whose class head has this many channels; the first is the published one.
    pub forms: fn(usize) -> Vec<Graph>,
    /// What tells classes apart, and how they are counted.
    pub classes: ClassHead,
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

/// How the channels of the head that tells classes apart follow from their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassHead {
    /// A channel each, background first; one class may also have a channel alone.
    Semantic,
    /// A channel each, background first; no such head without types.
    Types,
    /// A channel each.
    Tile,
}

impl SlideUse {
    /// Every form the network can have with `classes` classes, background left out.
    pub fn graphs(&self, classes: usize) -> Vec<Graph> {
        let channels = match (self.classes, classes) {
            (ClassHead::Semantic, 1) => vec![1, 2],
            (ClassHead::Semantic, n) => vec![n + 1],
            // Nuclei of one kind may have come from a network without types, or from one with a type and background.
            (ClassHead::Types, 1) => vec![0, 2],
            (ClassHead::Types, n) => vec![n + 1],
            (ClassHead::Tile, n) => vec![n],
        };
        channels.into_iter().flat_map(|n| (self.forms)(n)).collect()
    }
}

/// How the network of this name is used on slides; nothing for a name that is not in [`zoo`](super::zoo).
pub fn slide_use(name: &str) -> Option<SlideUse> {
    use ClassHead::{Semantic, Tile, Types};
    let map = |forms, tile_px, step| SlideUse {
        forms,
        classes: Semantic,
        input_mpp: 0.5,
        tile_px,
        tile_step_px: Some(step),
        context_px: tile_px / 8,
        out_stride: 1,
    };
    let tile = |forms, tile_px| SlideUse { classes: Tile, context_px: 0, ..map(forms, tile_px, 32) };
    let nuclei = |forms, tile_px, step, out_stride| SlideUse {
        forms,
        classes: Types,
        input_mpp: 0.25,
        tile_px,
        tile_step_px: step,
        context_px: 0,
        out_stride,
    };
    Some(match name {
        "crescent_seg_net" => map(|n| vec![crescent_seg_net(n)], 256, 32),
        "crescent_dense_net" => tile(|n| vec![crescent_dense_net(n)], 224),
        "histonext_tiny" => nuclei(|n| histonexts(ConvNextSize::Tiny, n), 270, None, 2),
        "histonext_base" => nuclei(|n| histonexts(ConvNextSize::Base, n), 270, None, 2),
        "histonext_large" => nuclei(|n| histonexts(ConvNextSize::Large, n), 270, None, 2),
        "histonext_xlarge" => nuclei(|n| histonexts(ConvNextSize::XLarge, n), 270, None, 2),
        "light_mu_seg" => map(|n| vec![light_mu_seg(n, false)], 512, 32),
        "light_mu_seg_v3" => map(|n| vec![light_mu_seg(n, true)], 512, 32),
        "stardist_unet" => {
            SlideUse { context_px: 32, ..nuclei(|n| vec![stardist_unet(32, (n > 0).then(|| n - 1))], 256, Some(16), 2) }
        }
        "hover_net" => nuclei(|n| vec![hover_net(HoverNetMode::Original, (n > 0).then_some(n))], 270, None, 1),
        "hover_net_fast" => nuclei(|n| vec![hover_net(HoverNetMode::Fast, (n > 0).then_some(n))], 256, None, 1),
        "u_net" => map(|n| vec![u_net(n)], 256, 16),
        "attention_u_net" => map(|n| vec![attention_u_net(n)], 256, 16),
        "u_net_resnet34" => map(|n| vec![u_net_on(UNetEncoder::ResNet34, n)], 256, 32),
        "u_net_efficientnet_b5" => map(|n| vec![u_net_on(UNetEncoder::EfficientNetB5, n)], 256, 32),
        "u_net_mobilenet_v2" => map(|n| vec![u_net_on(UNetEncoder::MobileNetV2, n)], 256, 32),
        "u_net_mit_b0" => map(|n| vec![u_net_on(UNetEncoder::MitB0, n)], 256, 32),
        "deeplab_v3_plus_mobilenet_v2" => map(|n| vec![deeplab_v3_plus_mobilenet_v2(n)], 256, 32),
        "deeplab_v3_resnet101" => map(|n| vec![deeplab_v3_resnet101(n)], 256, 32),
        "clin_seg_net" => map(|n| clin_seg_nets(n), 256, 64),
        "efficientnet_v2_b0" => tile(|n| vec![efficientnet_v2_b0(n)], 224),
        "hybrid_effnet_resnet" => tile(|n| vec![hybrid_effnet_resnet(n)], 224),
        "ctranspath" => SlideUse { tile_step_px: Some(224), ..tile(|n| vec![ctranspath(n)], 224) },
        "resnet_50" => tile(|n| vec![resnet_50(n)], 224),
        _ => return None,
    })
}

/// It tells one kind of lesion from the rest.
fn clin_seg_nets(channels: usize) -> Vec<Graph> {
    (channels == 1).then(|| clin_seg_net(CLIN_SEG_NET_ORGANS.len(), 32)).into_iter().collect()
}

fn histonexts(size: ConvNextSize, types: usize) -> Vec<Graph> {
    // Its decoder always tells types.
    let types = types.max(2);
    [ConvNextVersion::V1, ConvNextVersion::V2].map(|version| histonext(size, version, types)).into()
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
    fn every_network_can_be_used_with_one_class_and_with_five() {
        for entry in zoo() {
            let used = slide_use(entry.name).unwrap_or_else(|| panic!("`{}` has no use", entry.name));
            for classes in [1, 5] {
                for graph in used.graphs(classes) {
                    assert_eq!(graph.name(), entry.name);
                    let side = used.tile_px as usize;
                    let shapes = graph.shapes(side, side).unwrap();
                    for output in graph.outputs() {
                        let shape = shapes[output.node.index()];
                        let covered = shape.h * used.out_stride as usize;
                        let fits = covered <= side && (side - covered).is_multiple_of(2);
                        assert!(output.head == Head::Classification || fits, "{}: {shape}", entry.name);
                    }
                }
            }
        }
    }
}
