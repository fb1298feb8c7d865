//! The list of networks.
//!
//! Owns: [`ZooEntry`], [`zoo`]. Must not know: the insides of any network, weights, how a graph is run.

use super::{
    backbone::convnext::{ConvNextSize, ConvNextVersion},
    clin_seg_net::{CLIN_SEG_NET_ORGANS, clin_seg_net},
    crescent_dense_net::crescent_dense_net,
    crescent_seg_net::crescent_seg_net,
    ctranspath::ctranspath,
    deeplab_v3::deeplab_v3_resnet101,
    deeplab_v3_plus::deeplab_v3_plus_mobilenet_v2,
    efficientnet_v2_b0::efficientnet_v2_b0,
    graph::{Graph, Shape, ShapeError},
    histonext::histonext,
    hover_net::{HoverNetMode, hover_net},
    hybrid_effnet_resnet::hybrid_effnet_resnet,
    light_mu_seg::light_mu_seg,
    resnet_50::resnet_50,
    stardist::stardist_unet,
    u_net::{UNetEncoder, attention_u_net, u_net, u_net_on},
};

/// A network with the settings its paper prints numbers for.
#[derive(Debug, Clone, Copy)]
pub struct ZooEntry {
    /// Name of the network and of its weights.
    pub name: &'static str,
    /// What it gives: `semantic`, `classification` or `nuclei`.
    pub task: &'static str,
    /// Side of the image its paper counts with.
    pub input_px: usize,
    /// Makes the network.
    pub build: fn() -> Graph,
    /// Parameters as printed by the paper, in millions; `None` where it prints none.
    pub paper_parameters_m: Option<f64>,
    /// Multiply-accumulates as printed by the paper (there called FLOPs, and one each unless its file says otherwise), in
    /// thousand millions.
    pub paper_gmacs: Option<f64>,
}

/// What a network costs and gives at its paper's image size.
#[derive(Debug, Clone, PartialEq)]
pub struct ZooNumbers {
    /// Learned values.
    pub parameters: usize,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Name and shape of each head.
    pub heads: Vec<(&'static str, Shape)>,
}

impl ZooEntry {
    /// Counts the network.
    ///
    /// # Errors
    /// [`ShapeError`] when the network cannot take `input_px`, which a test rules out for every entry.
    pub fn numbers(&self) -> Result<ZooNumbers, ShapeError> {
        let graph = (self.build)();
        let shapes = graph.shapes(self.input_px, self.input_px)?;
        Ok(ZooNumbers {
            parameters: graph.parameter_count(),
            macs: graph.macs(self.input_px, self.input_px)?,
            heads: graph.outputs().iter().map(|o| (o.name, shapes[o.node.index()])).collect(),
        })
    }
}

/// Every network there is.
pub fn zoo() -> Vec<ZooEntry> {
    let entry = |name, task, input_px, build, paper_parameters_m, paper_gmacs| ZooEntry {
        name,
        task,
        input_px,
        build,
        paper_parameters_m,
        paper_gmacs,
    };
    vec![
        entry("crescent_seg_net", "semantic", 256, || crescent_seg_net(2), Some(23.156), Some(6.878)),
        entry("crescent_dense_net", "classification", 256, || crescent_dense_net(3), Some(6.957), Some(3.783)),
        entry("histonext_tiny", "nuclei", 270, || next(ConvNextSize::Tiny), Some(82.6), Some(33.7)),
        entry("histonext_base", "nuclei", 270, || next(ConvNextSize::Base), Some(184.8), Some(69.5)),
        entry("histonext_large", "nuclei", 270, || next(ConvNextSize::Large), Some(414.0), Some(155.7)),
        entry("histonext_xlarge", "nuclei", 270, || next(ConvNextSize::XLarge), Some(734.4), Some(276.0)),
        // The paper's 83.9 GFLOPs are two operations per MAC (see `clin_seg_net.rs`).
        entry("clin_seg_net", "semantic", 256, || clin_seg_net(CLIN_SEG_NET_ORGANS.len(), 32), Some(9.79), Some(41.95)),
        entry("light_mu_seg", "semantic", 512, || light_mu_seg(3, false), Some(7.05), None),
        entry("light_mu_seg_v3", "semantic", 512, || light_mu_seg(3, true), None, None),
        entry("stardist_unet", "nuclei", 256, || stardist_unet(32, Some(6)), None, None),
        entry("hover_net", "nuclei", 270, || hover_net(HoverNetMode::Original, Some(5)), None, None),
        entry("hover_net_fast", "nuclei", 256, || hover_net(HoverNetMode::Fast, Some(6)), None, None),
        entry("u_net", "semantic", 256, || u_net(2), Some(31.04), Some(54.738)),
        entry("attention_u_net", "semantic", 256, || attention_u_net(2), Some(31.39), None),
        entry("u_net_resnet34", "semantic", 256, || u_net_on(UNetEncoder::ResNet34, 1), None, None),
        entry("u_net_efficientnet_b5", "semantic", 256, || u_net_on(UNetEncoder::EfficientNetB5, 1), None, None),
        entry("u_net_mobilenet_v2", "semantic", 256, || u_net_on(UNetEncoder::MobileNetV2, 1), None, None),
        entry("u_net_mit_b0", "semantic", 256, || u_net_on(UNetEncoder::MitB0, 1), Some(5.549), Some(2.926)),
        entry("deeplab_v3_plus_mobilenet_v2", "semantic", 256, || deeplab_v3_plus_mobilenet_v2(1), None, None),
        entry("deeplab_v3_resnet101", "semantic", 256, || deeplab_v3_resnet101(21), Some(61.0), None),
        entry("resnet_50", "classification", 256, || resnet_50(3), Some(23.514), Some(5.397)),
        entry("efficientnet_v2_b0", "classification", 256, || efficientnet_v2_b0(3), None, None),
        entry("hybrid_effnet_resnet", "classification", 256, || hybrid_effnet_resnet(3), None, None),
        entry("ctranspath", "classification", 224, || ctranspath(3), Some(27.519), Some(4.371)),
    ]
}

/// HistoNeXt as published: first version of ConvNeXt, PanNuke's five types and the background.
fn next(size: ConvNextSize) -> Graph {
    histonext(size, ConvNextVersion::V1, 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Head, backbone::convnext::convnext, graph::Op};

    fn transposed_gmacs(e: &ZooEntry) -> f64 {
        let graph = (e.build)();
        let shapes = graph.shapes(e.input_px, e.input_px).unwrap();
        let transposed = graph.nodes().iter().zip(&shapes).map(|(node, out)| match &node.op {
            Op::TransposedConv(conv) => {
                let x = shapes[node.inputs[0].index()];
                x.h * x.w * x.c * out.c * conv.kernel * conv.kernel
            }
            _ => 0,
        });
        transposed.sum::<usize>() as f64 / 1e9
    }

    /// What ConvNeXt counts at 270² px when its published count at 224² is scaled by the area, less what it counts: its
    /// maps of 67, 33, 16 and 8 px are smaller than 270/4, 270/8, …
    fn encoder_scaled_gmacs(size: ConvNextSize) -> f64 {
        let mut g = Graph::new("encoder", 3);
        let image = g.input();
        for node in convnext(&mut g, "", image, size, ConvNextVersion::V1) {
            g.output("map", Head::Semantic, node);
        }
        let gmacs = |px| g.macs(px, px).unwrap() as f64 / 1e9;
        gmacs(224) * (270.0 / 224.0_f64).powi(2) - gmacs(270)
    }

    /// What the tools behind the papers' tables count beyond ours, and ours alone, all in thousand millions.
    fn beyond_ours(e: &ZooEntry) -> Option<(f64, f64)> {
        match e.name {
            // A transposed convolution once per pixel of its output, four times too much.
            "u_net" => Some((3.0 * transposed_gmacs(e), 48.172)),
            "histonext_tiny" => Some((encoder_scaled_gmacs(ConvNextSize::Tiny), 31.847)),
            "histonext_base" => Some((encoder_scaled_gmacs(ConvNextSize::Base), 65.996)),
            "histonext_large" => Some((encoder_scaled_gmacs(ConvNextSize::Large), 148.952)),
            "histonext_xlarge" => Some((encoder_scaled_gmacs(ConvNextSize::XLarge), 263.283)),
            _ => None,
        }
    }

    #[test]
    fn every_network_has_its_papers_numbers() {
        for e in &zoo() {
            let n = e.numbers().unwrap();
            let (m, g) = (n.parameters as f64 / 1e6, n.macs as f64 / 1e9);
            if let Some(paper) = e.paper_parameters_m {
                assert!((m / paper - 1.0).abs() < 0.005, "{}: {m} M parameters, paper {paper}", e.name);
            }
            let beyond = beyond_ours(e).map_or(0.0, |(beyond, ours)| {
                assert!((g / ours - 1.0).abs() < 1e-3, "{}: {g} GMACs, pinned {ours}", e.name);
                beyond
            });
            if let Some(paper) = e.paper_gmacs {
                let counted = g + beyond;
                assert!((counted / paper - 1.0).abs() < 0.05, "{}: {counted} GMACs, paper {paper}", e.name);
            }
        }
    }

    #[test]
    fn parameters_are_those_of_the_authors_code_to_the_last_one() {
        let count = |g: Graph| g.parameter_count();
        assert_eq!(count(crescent_seg_net(1)), 23_155_393);
        assert_eq!(count(crescent_seg_net(3)), 23_155_651);
        assert_eq!(count(crescent_dense_net(3)), 6_956_931);
        assert_eq!(count(hover_net(HoverNetMode::Original, Some(6))), 54_744_522);
        assert_eq!(count(hover_net(HoverNetMode::Original, Some(5))), 54_744_457);
        assert_eq!(count(hover_net(HoverNetMode::Original, None)), 45_028_676);
        assert_eq!(count(hover_net(HoverNetMode::Fast, Some(6))), 37_639_626);
        assert_eq!(count(hover_net(HoverNetMode::Fast, None)), 33_625_412);
        assert_eq!(count(u_net(2)), 31_037_698);
        assert_eq!(count(u_net_on(UNetEncoder::EfficientNetB5, 1)), 31_216_001);
        assert_eq!(count(u_net_on(UNetEncoder::MitB0, 1)), 5_549_489);
        assert_eq!(count(deeplab_v3_plus_mobilenet_v2(1)), 4_378_513);
        assert_eq!(count(deeplab_v3_resnet101(21)), 60_996_202);
        assert_eq!(count(resnet_50(1000)), 25_557_032);
        assert_eq!(count(efficientnet_v2_b0(1000)), 7_139_704);
        assert_eq!(count(hybrid_effnet_resnet(3)), 7_139_704 - 1_281_000 + 25_557_032 - 2_049_000 + 3 * 3_329);
        assert_eq!(count(ctranspath(1000)), 27_520_038 + 769_000);
        assert_eq!(count(light_mu_seg(3, false)), 7_052_676);
        assert_eq!(count(light_mu_seg(3, true)), 7_077_167);
        assert_eq!(count(stardist_unet(32, None)), 1_425_761);
        assert_eq!(count(stardist_unet(32, Some(6))), 1_463_656);
    }

    #[test]
    fn clin_seg_net_grows_with_film_as_in_its_papers_table() {
        for (film_channels, paper_m) in [(32, 9.79), (64, 9.88), (128, 10.06), (256, 10.42)] {
            let m = clin_seg_net(CLIN_SEG_NET_ORGANS.len(), film_channels).parameter_count() as f64 / 1e6;
            assert!((m - paper_m).abs() < 0.005, "{film_channels}: {m} M parameters, paper {paper_m}");
        }
    }

    #[test]
    fn heads_have_their_papers_sizes() {
        let heads = |name| {
            let entry = zoo().into_iter().find(|e| e.name == name).unwrap();
            let numbers = entry.numbers().unwrap();
            numbers.heads.iter().map(|(n, s)| format!("{n} {s}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(heads("crescent_seg_net"), "mask [2, 256, 256]");
        assert_eq!(heads("crescent_dense_net"), "class [3, 1, 1]");
        assert_eq!(heads("hover_net"), "tp [5, 80, 80], np [2, 80, 80], hv [2, 80, 80]");
        assert_eq!(heads("hover_net_fast"), "tp [6, 164, 164], np [2, 164, 164], hv [2, 164, 164]");
        assert_eq!(heads("histonext_tiny"), "np [2, 80, 80], hv [2, 80, 80], tp [6, 80, 80]");
        assert_eq!(heads("clin_seg_net"), "mask [1, 256, 256], edge [1, 256, 256]");
        assert_eq!(heads("ctranspath"), "class [3, 1, 1]");
        assert_eq!(heads("stardist_unet"), "prob [1, 128, 128], dist [32, 128, 128], prob_class [7, 128, 128]");
    }

    #[test]
    fn names_are_unique_and_those_of_the_graphs() {
        let mut names: Vec<&str> = zoo().iter().map(|e| e.name).collect();
        assert!(zoo().iter().all(|e| (e.build)().name() == e.name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), zoo().len());
    }
}
