//! The list of networks.
//!
//! Owns: [`ZooEntry`], [`zoo`]. Must not know: the insides of any network, weights, how a graph is run.

use super::{
    backbone::convnext::{ConvNextSize, ConvNextVersion},
    crescent_dense_net::crescent_dense_net,
    crescent_seg_net::crescent_seg_net,
    deeplab_v3::deeplab_v3_resnet101,
    deeplab_v3_plus::deeplab_v3_plus_mobilenet_v2,
    graph::{Graph, Shape, ShapeError},
    histonext::histonext,
    hover_net::{HoverNetMode, hover_net},
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
    /// Multiply-accumulates as printed by the paper (there called FLOPs), in thousand millions.
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
    ]
}

/// HistoNeXt as published: first version of ConvNeXt, PanNuke's five types and the background.
fn next(size: ConvNextSize) -> Graph {
    histonext(size, ConvNextVersion::V1, 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::graph::Op;

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

    /// Networks whose count is not within 5 % of their paper's, with ours, in thousand millions.
    const SHORT_OF_THEIR_PAPER: &[(&str, f64)] = &[("histonext_tiny", 31.85), ("histonext_base", 65.996)];

    #[test]
    fn every_network_has_its_papers_numbers() {
        for e in &zoo() {
            let n = e.numbers().unwrap();
            let (m, g) = (n.parameters as f64 / 1e6, n.macs as f64 / 1e9);
            if let Some(paper) = e.paper_parameters_m {
                assert!((m / paper - 1.0).abs() < 0.005, "{}: {m} M parameters, paper {paper}", e.name);
            }
            // The tool of U-Net's table counts a transposed convolution once per pixel of its output, four times too
            // much.
            let g = if e.name == "u_net" { g + 3.0 * transposed_gmacs(e) } else { g };
            let Some(paper) = e.paper_gmacs else { continue };
            // Open: the paper's text leaves part of the decoder to the reader, and our reading is 5.1–5.5 % short of two
            // of its counts (see `histonext.rs`). Pinned, so that a better reading shows here.
            match SHORT_OF_THEIR_PAPER.iter().find(|(name, _)| *name == e.name) {
                Some((name, ours)) => assert!((g / ours - 1.0).abs() < 1e-3, "{name}: {g} GMACs, pinned {ours}"),
                None => assert!((g / paper - 1.0).abs() < 0.05, "{}: {g} GMACs, paper {paper}", e.name),
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
        assert_eq!(count(light_mu_seg(3, false)), 7_052_676);
        assert_eq!(count(light_mu_seg(3, true)), 7_077_167);
        assert_eq!(count(stardist_unet(32, None)), 1_425_761);
        assert_eq!(count(stardist_unet(32, Some(6))), 1_463_656);
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
