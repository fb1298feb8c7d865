//! Every network with a public PyTorch twin against it: names, shapes, and every head within 1e-4.
//!
//! Weights and images are computed from names on both sides (`fixtures/models/make.py`), so a tensor that is missing,
//! misnamed, misshapen or used in the wrong place cannot go unseen.

use super::{
    CLIN_SEG_NET_ORGANS, Head,
    autograd::{Mode, Network},
    backbone::{
        convnext::{ConvNextSize, ConvNextVersion, convnext},
        mobilenet_v2::mobilenet_v2,
        swin::swin_tiny,
    },
    clin_seg_net, crescent_dense_net, crescent_seg_net, ctranspath, deeplab_v3_plus_mobilenet_v2, deeplab_v3_resnet101,
    efficientnet_v2_b0,
    graph::{Conv, Graph, NodeId, Parameter},
    histonext,
    hover_net::{HoverNetMode, hover_net},
    hybrid_effnet_resnet, light_mu_seg, resnet_50, stardist_unet,
    u_net::{UNetEncoder, attention_u_net, u_net, u_net_on},
    weights::{Weights, random},
};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
struct Case {
    network: String,
    px: usize,
    /// Row of the network's embedding, if it has one.
    kind: usize,
    keys_sha256: String,
    heads: Vec<HeadCase>,
}

#[derive(serde::Deserialize)]
struct HeadCase {
    head: String,
    shape: Vec<usize>,
    mean: f64,
    mean_abs: f64,
    step: usize,
    values: Vec<f64>,
}

/// sha256 of all names and shapes.
fn keys_sha256(graph: &Graph) -> String {
    let shape = |p: &Parameter| p.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let mut lines: Vec<String> = graph.parameters().iter().map(|p| format!("{}\t{}\n", p.name, shape(p))).collect();
    lines.sort_unstable();
    Sha256::digest(lines.concat()).iter().map(|b| format!("{b:02x}")).collect()
}

fn check(network: &str, graph: Graph) {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../fixtures/models/parity.json")).unwrap();
    let case = cases.into_iter().find(|c| c.network == network).unwrap();
    assert_eq!(keys_sha256(&graph), case.keys_sha256, "names and shapes of {network}");
    let weights = Weights::from_names(&graph);
    let heads: Vec<&str> = graph.outputs().iter().map(|o| o.name).collect();
    assert_eq!(heads, case.heads.iter().map(|h| h.head.as_str()).collect::<Vec<_>>());
    let image: Vec<f32> = random::units(0, "image", 3 * case.px * case.px).map(|u| 2.0 * u - 1.0).collect();
    let image = Tensor::from_vec(image, (1, 3, case.px, case.px), &Device::Cpu).unwrap();
    let network = Network::new(graph, &weights, DType::F32, &Device::Cpu).unwrap();
    for (head, y) in case.heads.iter().zip(network.forward_of_kinds(&image, &[case.kind], Mode::INFER).unwrap()) {
        assert_eq!(y.dims()[1..], head.shape, "shape of `{}`", head.head);
        let y: Vec<f64> = y.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        let sampled = y.iter().step_by(head.step).zip(&head.values);
        let worst = sampled.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let mean_abs = y.iter().map(|v| v.abs()).sum::<f64>() / y.len() as f64;
        assert!(worst < 1e-4, "`{}`: worst difference {worst}", head.head);
        assert!((mean - head.mean).abs() < 1e-4, "`{}`: mean {mean}, expected {}", head.head, head.mean);
        assert!((mean_abs - head.mean_abs).abs() < 1e-4, "`{}`: {mean_abs}, expected {}", head.head, head.mean_abs);
    }
}

/// An encoder alone, its feature maps as heads.
fn features<const N: usize>(encoder: impl Fn(&mut Graph, &str, NodeId) -> [NodeId; N]) -> Graph {
    let mut g = Graph::new("encoder", 3);
    let image = g.input();
    let features = encoder(&mut g, "encoder.", image);
    for (name, node) in ["c0", "c1", "c2", "c3", "c4", "c5"].into_iter().zip(features) {
        g.output(name, Head::Semantic, node);
    }
    g
}

#[test]
fn crescent_seg_net_is_the_fpn_of_segmentation_models_pytorch() {
    check("crescent_seg_net", crescent_seg_net(1));
}

#[test]
fn crescent_dense_net_is_torchvisions_densenet121() {
    check("crescent_dense_net", crescent_dense_net(3));
}

#[test]
fn hover_net_is_that_of_tiatoolbox() {
    check("hover_net", hover_net(HoverNetMode::Original, Some(5)));
}

#[test]
fn hover_net_fast_is_that_of_tiatoolbox() {
    check("hover_net_fast", hover_net(HoverNetMode::Fast, Some(6)));
}

#[test]
fn convnext_is_that_of_timm() {
    check("convnext_tiny", features(|g, p, x| convnext(g, p, x, ConvNextSize::Tiny, ConvNextVersion::V1)));
}

#[test]
fn convnext_v2_is_that_of_timm() {
    check("convnextv2_tiny", features(|g, p, x| convnext(g, p, x, ConvNextSize::Tiny, ConvNextVersion::V2)));
}

#[test]
fn resnet_50_is_that_of_torchvision() {
    check("resnet_50", resnet_50(3));
}

#[test]
fn deeplab_v3_plus_is_that_of_segmentation_models_pytorch() {
    check("deeplab_v3_plus_mobilenet_v2", deeplab_v3_plus_mobilenet_v2(1));
}

#[test]
fn attention_u_net_is_what_its_file_says() {
    check("attention_u_net", attention_u_net(2));
}

#[test]
fn deeplab_v3_is_that_of_torchvision() {
    check("deeplab_v3_resnet101", deeplab_v3_resnet101(21));
}

#[test]
fn u_net_on_resnet34_is_that_of_segmentation_models_pytorch() {
    check("u_net_resnet34", u_net_on(UNetEncoder::ResNet34, 1));
}

#[test]
fn u_net_on_mobilenet_v2_is_that_of_segmentation_models_pytorch() {
    check("u_net_mobilenet_v2", u_net_on(UNetEncoder::MobileNetV2, 1));
}

#[test]
fn u_net_on_mit_b0_is_that_of_segmentation_models_pytorch() {
    check("u_net_mit_b0", u_net_on(UNetEncoder::MitB0, 1));
}

#[test]
fn u_net_on_efficientnet_b5_is_that_of_segmentation_models_pytorch() {
    check("u_net_efficientnet_b5", u_net_on(UNetEncoder::EfficientNetB5, 1));
}

#[test]
fn mobilenet_v2_is_that_of_torchvision() {
    check("mobilenet_v2", features(|g, p, x| mobilenet_v2(g, p, x, 32)));
}

#[test]
fn light_mu_seg_has_its_authors_names() {
    // The authors' state dict with CBAM's attention in place of the undefined one, names and shapes.
    let authors = "2c260a0d7fa6af1f1bb32b3384a55287a564ffa1f85ef33a93d6d69d7ef56e2c";
    assert_eq!(keys_sha256(&light_mu_seg(3, true)), authors);
}

#[test]
fn stardist_is_its_keras_code() {
    check("stardist_unet", stardist_unet(32, Some(6)));
}

#[test]
fn u_net_is_milesials() {
    check("u_net", u_net(2));
}

#[test]
fn light_mu_seg_is_its_authors() {
    check("light_mu_seg", light_mu_seg(3, false));
}

#[test]
fn histonext_is_what_its_file_says() {
    check("histonext_tiny", histonext(ConvNextSize::Tiny, ConvNextVersion::V1, 6));
}

#[test]
fn clin_seg_net_is_what_its_file_says() {
    check("clin_seg_net", clin_seg_net(CLIN_SEG_NET_ORGANS.len(), 32));
}

#[test]
fn efficientnet_v2_b0_is_that_of_timm() {
    check("efficientnet_v2_b0", efficientnet_v2_b0(3));
}

#[test]
fn hybrid_is_both_its_halves() {
    check("hybrid_effnet_resnet", hybrid_effnet_resnet(3));
}

#[test]
fn swin_is_that_of_timm() {
    let on_patches = |g: &mut Graph, prefix: &str, x: NodeId| {
        let x = g.conv(&format!("{prefix}patch_embed.proj"), x, Conv::new(96, 4).stride(4));
        let x = g.layer_norm(&format!("{prefix}patch_embed.norm"), x, 1e-5);
        [swin_tiny(g, prefix, x)]
    };
    check("swin_tiny", features(on_patches));
}

#[test]
fn ctranspath_is_timms_swin_on_its_authors_stem() {
    check("ctranspath", ctranspath(3));
}
