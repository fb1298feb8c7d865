//! U-Net, as drawn, with attention gates, and on pretrained encoders.
//!
//! Paper: Ronneberger 2015, "U-Net: convolutional networks for biomedical image segmentation"; Oktay 2018, "Attention
//! U-Net"; baselines of most papers here.
//! Code: `milesial/Pytorch-UNet` (padded convolutions, batch norm, transposed convolutions) for [`u_net`], with the gates
//! of `LeeJunHyun/Image_Segmentation` for [`attention_u_net`];
//! `segmentation_models_pytorch.Unet` for [`u_net_on`]. Names are theirs.
//! Input: RGB, ImageNet mean and standard deviation; any multiple of 16 (of 32 on an encoder).
//! Head: `mask`, logits `[classes, h, w]`.
//!
//! Two classes have 31,037,698 parameters and 48.2 thousand million MACs at 256×256; papers print 54.7, which is what
//! a tool gives that counts a transposed convolution once per pixel of its output (54.6).
//!
//! Weights: `inc`, `down{1..4}`, `up{1..4}`, `outc`, gates `att{1..4}`; `encoder.*`, `decoder.blocks.{0..4}`, `segmentation_head.0`.

use super::{
    backbone::{
        efficientnet::efficientnet_b5,
        mix_transformer::mix_transformer_b0,
        mobilenet_v2::mobilenet_v2,
        resnet::{ResNetSize, resnet},
    },
    graph::{Conv, Graph, NodeId, Pool, ResizeMode, TransposedConv},
    spec::Head,
};

/// An encoder under a U-Net's decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UNetEncoder {
    /// ResNet-34.
    ResNet34,
    /// EfficientNet-B5.
    EfficientNetB5,
    /// MobileNetV2.
    MobileNetV2,
    /// SegFormer's MiT-B0, which has no map at stride 2.
    MitB0,
}

/// U-Net as drawn, 64 to 1024 channels.
pub fn u_net(classes: usize) -> Graph {
    plain("u_net", classes, false)
}

/// [`u_net`] whose skips pass a gate that what comes from below opens. Two classes have 31.39 M parameters.
pub fn attention_u_net(classes: usize) -> Graph {
    plain("attention_u_net", classes, true)
}

fn plain(name: &'static str, classes: usize, gated: bool) -> Graph {
    let mut g = Graph::new(name, 3);
    let image = g.input();
    let mut x = double_conv(&mut g, "inc.double_conv", image, 64);
    let mut skips = vec![];
    for (i, width) in [128, 256, 512, 1024].into_iter().enumerate() {
        skips.push(x);
        x = g.max_pool(x, Pool { kernel: 2, stride: 2, pad: 0 });
        x = double_conv(&mut g, &format!("down{}.maxpool_conv.1.double_conv", i + 1), x, width);
    }
    for (i, skip) in skips.into_iter().rev().enumerate() {
        let width = g.channels(skip);
        let half = TransposedConv { out: width, kernel: 2, stride: 2 };
        x = g.transposed_conv(&format!("up{}.up", i + 1), x, half);
        let skip = if gated { gate(&mut g, &format!("att{}", i + 1), skip, x) } else { skip };
        x = g.concat(&[skip, x]);
        x = double_conv(&mut g, &format!("up{}.conv.double_conv", i + 1), x, width);
    }
    let x = g.conv("outc.conv", x, Conv::new(classes, 1));
    g.output("mask", Head::Semantic, x);
    g
}

/// U-Net's decoder on a pretrained encoder.
pub fn u_net_on(encoder: UNetEncoder, classes: usize) -> Graph {
    let (name, prefix) = match encoder {
        UNetEncoder::ResNet34 => ("u_net_resnet34", "encoder."),
        UNetEncoder::EfficientNetB5 => ("u_net_efficientnet_b5", "encoder."),
        UNetEncoder::MobileNetV2 => ("u_net_mobilenet_v2", "encoder.features."),
        UNetEncoder::MitB0 => ("u_net_mit_b0", "encoder."),
    };
    let mut g = Graph::new(name, 3);
    let image = g.input();
    let (f1, [f2, f3, f4, mut x]) = match encoder {
        UNetEncoder::ResNet34 => {
            let [f1, rest @ ..] = resnet(&mut g, prefix, image, ResNetSize::R34, 32);
            (Some(f1), rest)
        }
        UNetEncoder::EfficientNetB5 => {
            let [f1, rest @ ..] = efficientnet_b5(&mut g, prefix, image);
            (Some(f1), rest)
        }
        UNetEncoder::MobileNetV2 => {
            let [f1, f2, f3, f4, _, last] = mobilenet_v2(&mut g, prefix, image, 32);
            (Some(f1), [f2, f3, f4, last])
        }
        UNetEncoder::MitB0 => (None, mix_transformer_b0(&mut g, prefix, image)),
    };
    let stages = [(Some(f4), 256), (Some(f3), 128), (Some(f2), 64), (f1, 32), (None, 16)];
    for (i, (skip, width)) in stages.into_iter().enumerate() {
        x = g.resize(x, 2, ResizeMode::Nearest);
        if let Some(skip) = skip {
            x = g.concat(&[x, skip]);
        }
        for part in ["conv1", "conv2"] {
            x = conv_norm_relu(&mut g, [0, 1].map(|n| format!("decoder.blocks.{i}.{part}.{n}")), x, width);
        }
    }
    let x = g.conv("segmentation_head.0", x, Conv::new(classes, 3).pad(1));
    g.output("mask", Head::Semantic, x);
    g
}

/// `skip · σ(psi(ReLU(W_g · below + W_x · skip)))`, one factor per pixel.
fn gate(g: &mut Graph, name: &str, skip: NodeId, below: NodeId) -> NodeId {
    let half = g.channels(skip) / 2;
    let mut project = |layer: &str, x: NodeId, out: usize| {
        let x = g.conv(&format!("{name}.{layer}.0"), x, Conv::new(out, 1));
        g.batch_norm(&format!("{name}.{layer}.1"), x)
    };
    let parts = [project("W_g", below, half), project("W_x", skip, half)];
    let sum = g.add(&parts);
    let sum = g.relu(sum);
    let psi = g.conv(&format!("{name}.psi.0"), sum, Conv::new(1, 1));
    let psi = g.batch_norm(&format!("{name}.psi.1"), psi);
    let psi = g.sigmoid(psi);
    g.multiply(skip, psi)
}

fn double_conv(g: &mut Graph, name: &str, x: NodeId, width: usize) -> NodeId {
    let x = conv_norm_relu(g, [0, 1].map(|n| format!("{name}.{n}")), x, width);
    conv_norm_relu(g, [3, 4].map(|n| format!("{name}.{n}")), x, width)
}

/// 3×3, batch norm, ReLU; `names` are those of the first two.
fn conv_norm_relu(g: &mut Graph, names: [String; 2], x: NodeId, width: usize) -> NodeId {
    let x = g.conv(&names[0], x, Conv::new(width, 3).pad(1).no_bias());
    let x = g.batch_norm(&names[1], x);
    g.relu(x)
}
