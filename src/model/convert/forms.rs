//! What checkpoints of each network look like: its head, its encoder, its input, and the names others give its tensors.
//!
//! Owns: [`Form`], [`form`]. Must not know: files, the insides of networks.
//!
//! Sources of names: torchvision (`densenet.py` joins `norm.1` of its oldest files in the same way; `resnet.py`,
//! `mobilenetv2.py`), timm (`features_only` writes `stem_0` for `stem.0`; `convnext.py`, `checkpoint_filter_fn` for the
//! authors' ConvNeXt), efficientnet-pytorch, NVlabs' SegFormer, `vqdang/hover_net`, RetCCL and CTransPath's ResNet-50
//! (torchvision's without `fc`, or with the projection head of MoCo in its place).

use super::rename::Rule;
use crate::model::{
    CLIN_SEG_NET_ORGANS,
    backbone::convnext::{ConvNextSize, ConvNextVersion},
    clin_seg_net, crescent_dense_net, crescent_seg_net, ctranspath, deeplab_v3_plus_mobilenet_v2, deeplab_v3_resnet101,
    efficientnet_v2_b0,
    graph::Graph,
    histonext,
    hover_net::{HoverNetMode, hover_net},
    hybrid_effnet_resnet, light_mu_seg, resnet_50, stardist_unet,
    u_net::{UNetEncoder, attention_u_net, u_net, u_net_on},
    weights::Normalisation,
};

/// Makes a network with this many outputs of its class head; `None` is without that head.
pub type Build = fn(Option<usize>) -> Graph;

/// How outputs of the class head and classes go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// One per class.
    Classes,
    /// Background and one per class; or one, of the one class.
    Semantic,
    /// Background and one per class.
    Types,
    /// The same; without the head, nuclei have no types.
    TypesOrNone,
    /// One, of the one class.
    One,
}

impl Outputs {
    /// Whether a head of `outputs` can tell `classes`; `None` is no head.
    pub fn fit(self, outputs: Option<usize>, classes: usize) -> bool {
        match (self, outputs) {
            (Self::Classes, Some(n)) => n == classes,
            (Self::Semantic, Some(n)) => n == classes + 1 || n == 1 && classes == 1,
            (Self::Types | Self::TypesOrNone, Some(n)) => n == classes + 1,
            (Self::TypesOrNone, None) => classes == 1,
            (Self::One, Some(n)) => n == 1 && classes == 1,
            (_, None) => false,
        }
    }

    /// How many outputs `classes` need, as a head of its own would be made for them.
    pub fn of(self, classes: usize) -> Option<usize> {
        match self {
            Self::Classes => Some(classes),
            Self::One => Some(1),
            Self::Semantic if classes == 1 => Some(1),
            Self::TypesOrNone if classes == 1 => None,
            _ => Some(classes + 1),
        }
    }
}

/// What checkpoints of a network look like.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Makes the network.
    pub build: Build,
    /// The same network in another version, and what a tensor of that version's files is named.
    pub version: Option<(&'static str, Build)>,
    /// Weight of the class head: its first axis are the outputs.
    pub head: &'static str,
    /// How outputs and classes go together.
    pub outputs: Outputs,
    /// What names of the encoder's tensors start with.
    pub encoder: &'static [&'static str],
    /// Resolution the published weights want, µm/px; `None` where each training has its own.
    pub input_mpp: Option<f64>,
    /// Normalisation of the authors' code.
    pub normalisation: Normalisation,
    /// Names that others give.
    pub(super) names: &'static [Rule],
    /// Names in checkpoints of the encoder alone, as its own package saves it.
    pub(super) encoder_names: &'static [Rule],
}

/// The form of the network `name`.
pub fn form(name: &str) -> Option<Form> {
    use ConvNextVersion::{V1, V2};
    Some(match name {
        "crescent_seg_net" => {
            let build = |n: Option<usize>| crescent_seg_net(n.unwrap_or(1));
            let form = semantic(build, "segmentation_head.0.weight", &["encoder."]);
            Form { encoder_names: RESNET_UNDER_ENCODER, ..form }
        }
        "crescent_dense_net" => {
            let form = semantic(|n| crescent_dense_net(n.unwrap_or(1)), "classifier.weight", &["features."]);
            Form { outputs: Outputs::Classes, names: DENSENET, encoder_names: DENSENET_ENCODER, ..form }
        }
        "histonext_tiny" => histonext_form(|n| next(ConvNextSize::Tiny, V1, n), |n| next(ConvNextSize::Tiny, V2, n)),
        "histonext_base" => histonext_form(|n| next(ConvNextSize::Base, V1, n), |n| next(ConvNextSize::Base, V2, n)),
        "histonext_large" => histonext_form(|n| next(ConvNextSize::Large, V1, n), |n| next(ConvNextSize::Large, V2, n)),
        "histonext_xlarge" => {
            histonext_form(|n| next(ConvNextSize::XLarge, V1, n), |n| next(ConvNextSize::XLarge, V2, n))
        }
        "light_mu_seg" => light_form(|n| light_mu_seg(n.unwrap_or(1), false)),
        "light_mu_seg_v3" => light_form(|n| light_mu_seg(n.unwrap_or(1), true)),
        "stardist_unet" => Form {
            outputs: Outputs::TypesOrNone,
            normalisation: Normalisation::UNIT,
            ..semantic(
                |n| stardist_unet(32, n.map(|n| n.saturating_sub(1))),
                "prob_class.weight",
                &["grid_", "down_level_", "middle_"],
            )
        },
        "hover_net" => hover_form(|n| hover_net(HoverNetMode::Original, n)),
        "hover_net_fast" => hover_form(|n| hover_net(HoverNetMode::Fast, n)),
        "u_net" => semantic(|n| u_net(n.unwrap_or(1)), "outc.conv.weight", &["inc.", "down"]),
        "attention_u_net" => semantic(|n| attention_u_net(n.unwrap_or(1)), "outc.conv.weight", &["inc.", "down"]),
        "u_net_resnet34" => {
            let form = u_net_form(|n| u_net_on(UNetEncoder::ResNet34, n.unwrap_or(1)));
            Form { encoder_names: RESNET_UNDER_ENCODER, ..form }
        }
        "u_net_efficientnet_b5" => {
            let form = u_net_form(|n| u_net_on(UNetEncoder::EfficientNetB5, n.unwrap_or(1)));
            Form { encoder_names: &[("_fc.*", None), ("_*", Some("encoder._*"))], ..form }
        }
        "u_net_mobilenet_v2" => {
            let form = u_net_form(|n| u_net_on(UNetEncoder::MobileNetV2, n.unwrap_or(1)));
            Form { encoder_names: MOBILENET_UNDER_ENCODER, ..form }
        }
        "u_net_mit_b0" => {
            let form = u_net_form(|n| u_net_on(UNetEncoder::MitB0, n.unwrap_or(1)));
            Form { encoder_names: MIT, ..form }
        }
        "deeplab_v3_plus_mobilenet_v2" => {
            let form = u_net_form(|n| deeplab_v3_plus_mobilenet_v2(n.unwrap_or(1)));
            Form { encoder_names: MOBILENET_UNDER_ENCODER, ..form }
        }
        "deeplab_v3_resnet101" => {
            let build = |n: Option<usize>| deeplab_v3_resnet101(n.unwrap_or(1));
            Form { encoder_names: RESNET_UNDER_BACKBONE, ..semantic(build, "classifier.4.weight", &["backbone."]) }
        }
        // It tells one kind of lesion from the rest.
        "clin_seg_net" => Form {
            outputs: Outputs::One,
            normalisation: Normalisation::UNIT,
            ..semantic(
                |_| clin_seg_net(CLIN_SEG_NET_ORGANS.len(), 32),
                "mask.weight",
                &["organ.", "stages.0.", "stages.1.", "stages.2.", "stages.3."],
            )
        },
        "efficientnet_v2_b0" => {
            let form = semantic(
                |n| efficientnet_v2_b0(n.unwrap_or(1)),
                "classifier.weight",
                &["conv_stem.", "bn1.", "blocks.", "conv_head.", "bn2."],
            );
            Form { outputs: Outputs::Classes, encoder_names: &[("classifier.*", None)], ..form }
        }
        "hybrid_effnet_resnet" => {
            let build = |n: Option<usize>| hybrid_effnet_resnet(n.unwrap_or(1));
            Form { outputs: Outputs::Classes, ..semantic(build, "fc.weight", &["efficientnet.", "resnet."]) }
        }
        "ctranspath" => {
            let form = semantic(|n| ctranspath(n.unwrap_or(1)), "head.weight", &["patch_embed.", "layers.", "norm."]);
            Form { outputs: Outputs::Classes, names: SWIN, encoder_names: SWIN_ENCODER, ..form }
        }
        "resnet_50" => {
            let form = semantic(|n| resnet_50(n.unwrap_or(1)), "fc.weight", &["conv1.", "bn1.", "layer"]);
            Form { outputs: Outputs::Classes, encoder_names: &[("fc.*", None)], ..form }
        }
        _ => return None,
    })
}

impl Form {
    /// The network with this many outputs of its class head, in the version that tensors of these names are of.
    pub fn graph<'a>(&self, outputs: Option<usize>, mut names: impl Iterator<Item = &'a str>) -> Graph {
        match self.version {
            Some((marker, build)) if names.any(|name| name.contains(marker)) => build(outputs),
            _ => (self.build)(outputs),
        }
    }
}

/// Whether a tensor of the network `model` is its encoder's.
pub fn is_encoders(model: &str, tensor: &str) -> bool {
    form(model).is_some_and(|form| form.encoder.iter().any(|prefix| tensor.starts_with(prefix)))
}

fn semantic(build: Build, head: &'static str, encoder: &'static [&'static str]) -> Form {
    Form {
        build,
        version: None,
        head,
        outputs: Outputs::Semantic,
        encoder,
        input_mpp: None,
        normalisation: Normalisation::IMAGENET,
        names: &[],
        encoder_names: &[],
    }
}

/// `segmentation_models_pytorch`'s names.
fn u_net_form(build: Build) -> Form {
    semantic(build, "segmentation_head.0.weight", &["encoder."])
}

fn light_form(build: Build) -> Form {
    let names: &[Rule] = &[("classifier.*", None), ("features.*", Some("encoder.*"))];
    Form { encoder_names: names, ..semantic(build, "last_conv.weight", &["encoder."]) }
}

fn hover_form(build: Build) -> Form {
    Form {
        outputs: Outputs::TypesOrNone,
        input_mpp: Some(0.25),
        normalisation: Normalisation::UNIT,
        // A 2×2 of ones by which the authors' code doubles sizes.
        names: &[("upsample2x.unpool_mat", None)],
        ..semantic(build, "decoder.tp.u0.conv.weight", &["conv0.", "d0.", "d1.", "d2.", "d3."])
    }
}

fn next(size: ConvNextSize, version: ConvNextVersion, types: Option<usize>) -> Graph {
    histonext(size, version, types.unwrap_or(2))
}

fn histonext_form(build: Build, version_2: Build) -> Form {
    Form {
        version: Some((".grn.", version_2)),
        outputs: Outputs::Types,
        input_mpp: Some(0.25),
        names: CONVNEXT_UNDER_ENCODER,
        encoder_names: CONVNEXT,
        ..semantic(build, "decoder.tp.head.weight", &["encoder."])
    }
}

/// torchvision before 2018.
const DENSENET: &[Rule] = &[
    ("features.denseblock*.denselayer*.norm.*", Some("features.denseblock*.denselayer*.norm*")),
    ("features.denseblock*.denselayer*.conv.*", Some("features.denseblock*.denselayer*.conv*")),
];
/// Constants that timm saved with the weights.
const SWIN: &[Rule] = &[("*.relative_position_index", None), ("*.attn_mask", None)];
const SWIN_ENCODER: &[Rule] = &[("head.*", None), SWIN[0], SWIN[1]];
const DENSENET_ENCODER: &[Rule] = &[("classifier.*", None), DENSENET[0], DENSENET[1]];
const RESNET_UNDER_ENCODER: &[Rule] = &[
    ("fc.*", None),
    ("conv1.*", Some("encoder.conv1.*")),
    ("bn1.*", Some("encoder.bn1.*")),
    ("layer*", Some("encoder.layer*")),
];
const RESNET_UNDER_BACKBONE: &[Rule] = &[
    ("fc.*", None),
    ("conv1.*", Some("backbone.conv1.*")),
    ("bn1.*", Some("backbone.bn1.*")),
    ("layer*", Some("backbone.layer*")),
];
const MOBILENET_UNDER_ENCODER: &[Rule] = &[("classifier.*", None), ("features.*", Some("encoder.features.*"))];
const MIT: &[Rule] = &[
    ("head.*", None),
    ("patch_embed*", Some("encoder.patch_embed*")),
    ("block*", Some("encoder.block*")),
    ("norm*", Some("encoder.norm*")),
];
/// timm's `features_only` inside a network.
const CONVNEXT_UNDER_ENCODER: &[Rule] =
    &[("encoder.stem_*", Some("encoder.stem.*")), ("encoder.stages_*", Some("encoder.stages.*"))];
/// timm's, whole and `features_only`, and the authors'.
const CONVNEXT: &[Rule] = &[
    ("head.*", None),
    ("norm.*", None),
    ("norm_pre.*", None),
    ("stem_*", Some("encoder.stem.*")),
    ("stem.*", Some("encoder.stem.*")),
    ("stages_*", Some("encoder.stages.*")),
    ("downsample_layers.0.*", Some("encoder.stem.*")),
    ("downsample_layers.*.*", Some("encoder.stages.*.downsample.*")),
    ("stages.*.blocks.*", Some("encoder.stages.*.blocks.*")),
    ("stages.*.downsample.*", Some("encoder.stages.*.downsample.*")),
    ("stages.*.*.dwconv.*", Some("encoder.stages.*.blocks.*.conv_dw.*")),
    ("stages.*.*.pwconv1.*", Some("encoder.stages.*.blocks.*.mlp.fc1.*")),
    ("stages.*.*.pwconv2.*", Some("encoder.stages.*.blocks.*.mlp.fc2.*")),
    ("stages.*.*.norm.*", Some("encoder.stages.*.blocks.*.norm.*")),
    ("stages.*.*.gamma", Some("encoder.stages.*.blocks.*.gamma")),
    CONVNEXT_UNDER_ENCODER[0],
    CONVNEXT_UNDER_ENCODER[1],
];
