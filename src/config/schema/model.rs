//! `batch` and `model`: how tiles are gathered, and what looks at them.
//!
//! Owns: the keys under `batch` and `model` and their types. Must not know: the models themselves.

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;
use std::path::PathBuf;

pub(super) const BATCH_KEYS: &[Key] = &[
    Key::section("batch", "how tiles are gathered"),
    Key::value(
        "batch.size",
        Kind::Int { min: 1, max: 1024, step: 1 },
        Preset::Found("1 for models that run a tile on one core, 16 for the others", "8"),
        "",
        "tiles per batch",
    ),
];

pub(super) const KEYS: &[Key] = &[
    Key::section("model", "which model; exactly one of `hematoxylin`, `stain_threshold`, `network`"),
    Key::choice(
        "model.hematoxylin",
        Kind::Section,
        Preset::Unset("{}"),
        "nuclei of an H&E slide by colour deconvolution and an adaptive local threshold; needs no weights",
    ),
    Key::value(
        "model.hematoxylin.smooth_sigma_um",
        Kind::Real { min: 0.0, max: 10.0 },
        Preset::Is("0.75"),
        "µm",
        "Gaussian smoothing of the hematoxylin density before the threshold",
    ),
    Key::value(
        "model.hematoxylin.local_radius_um",
        Kind::Real { min: 1.0, max: 100.0 },
        Preset::Is("15.0"),
        "µm",
        "radius of the neighbourhood the local threshold is taken from",
    ),
    Key::value(
        "model.hematoxylin.offset_od",
        Kind::Real { min: 0.0, max: 2.0 },
        Preset::Is("0.06"),
        "optical density",
        "how far above its neighbourhood's mean a nucleus lies at probability 0.5",
    ),
    Key::value(
        "model.hematoxylin.min_od",
        Kind::Real { min: 0.0, max: 2.0 },
        Preset::Is("0.15"),
        "optical density",
        "hematoxylin below which nothing is a nucleus",
    ),
    Key::choice(
        "model.stain_threshold",
        Kind::Section,
        Preset::Unset("{}"),
        "one class where the optical density of a stain is above a value, for area fractions; needs no weights",
    ),
    Key::plain(
        "model.stain_threshold.stain",
        Kind::OneOf(&["hematoxylin", "eosin", "dab", "total"]),
        "hematoxylin",
        "whose density is compared; `total` is the mean over red, green and blue",
    ),
    Key::value(
        "model.stain_threshold.threshold_od",
        Kind::Real { min: 0.0, max: 4.0 },
        Preset::Is("0.25"),
        "optical density",
        "the class is where the density is above it",
    ),
    Key::plain("model.stain_threshold.class", Kind::Text, "positive", "name of the class"),
    Key::value(
        "model.stain_threshold.color",
        Kind::Color,
        Preset::Is("\"#c02020\""),
        "",
        "colour of the class in masks, overviews and QuPath",
    ),
    Key::choice(
        "model.network",
        Kind::Section,
        Preset::Is("{}"),
        "a network of `wsi-run models` with weights made by `wsi-run convert`; the file says which network, classes and \
         resolution",
    ),
    Key::value(
        "model.network.weights",
        Kind::Path,
        Preset::Is("nuclei"),
        "",
        "the weights: a file; `nuclei`, which the program has in itself: lymphocytes, tumour and other epithelium, and \
         stroma of H&E slides; or `random` for a trial of speed and memory",
    ),
    Key::value(
        "model.network.name",
        Kind::Text,
        Preset::Found("what the weights say", "stardist_unet"),
        "",
        "network the weights must be for; must be said for `random`",
    ),
    Key::plain(
        "model.network.precision",
        Kind::OneOf(&["usual", "auto", "f32", "f16", "bf16"]),
        "usual",
        "numbers it computes with; `usual` is `f32` on the processor and `f16` on a GPU, `auto` is `bf16` where the \
         processor has instructions for it and `f16` on a GPU; a GPU has no `f32`, the processor no `f16`",
    ),
    Key::plain(
        "model.network.device",
        Kind::Text,
        "auto",
        "what computes it: `auto` (all GPUs, or the processor where there are none), `cpu`, `cuda`, `cuda:0,1`",
    ),
    Key::value(
        "model.network.organ",
        Kind::Text,
        Preset::Unset("breast"),
        "",
        "organ of the slides, for `clin_seg_net`, which is told it; unset is any organ",
    ),
    Key::plain(
        "model.network.views",
        Kind::OneOf(&["one", "flips", "all"]),
        "one",
        "test-time augmentation: answers to a tile, its 4 mirror images, or all 8 turns and mirror images are averaged",
    ),
];

/// `batch`.
///
/// ```
/// let batch: wsi_run::config::schema::Batch = serde_saphyr::from_str("size: 8")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    size: Option<u32>,
}

/// `model`.
///
/// ```
/// let model: wsi_run::config::schema::Model = serde_saphyr::from_str(r##"
/// stain_threshold: { stain: dab, threshold_od: 0.25, class: positive, color: "#c02020" }
/// "##)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Model {
    /// Nucleus probability from colour deconvolution.
    Hematoxylin(Hematoxylin),
    /// Optical density of a stain above a value.
    StainThreshold(StainThreshold),
    /// A network with weights.
    Network(Network),
}

/// `model.hematoxylin`.
///
/// ```
/// let model: wsi_run::config::schema::Hematoxylin = serde_saphyr::from_str(r#"
/// smooth_sigma_um: 0.75
/// local_radius_um: 20.0
/// offset_od: 0.05
/// min_od: 0.15
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hematoxylin {
    smooth_sigma_um: f64,
    local_radius_um: f64,
    offset_od: f64,
    min_od: f64,
}

/// `model.stain_threshold`.
///
/// ```
/// let model: wsi_run::config::schema::StainThreshold = serde_saphyr::from_str(r##"
/// stain: hematoxylin
/// threshold_od: 0.25
/// class: positive
/// color: "#c02020"
/// "##)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StainThreshold {
    stain: settings::StainChannel,
    threshold_od: f64,
    class: String,
    #[serde(deserialize_with = "forms::color")]
    color: [u8; 3],
}

/// `model.network`.
///
/// ```
/// let model: wsi_run::config::schema::Network = serde_saphyr::from_str(r#"
/// weights: weights/hover_net_fast.safetensors
/// precision: f32
/// device: cuda:0,1
/// views: all
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    weights: PathBuf,
    name: Option<String>,
    precision: settings::Precision,
    device: String,
    organ: Option<String>,
    views: settings::Views,
}

impl Batch {
    pub(super) fn into_settings(self) -> settings::Batch {
        settings::Batch { size: self.size }
    }
}

impl Model {
    pub(super) fn into_settings(self) -> settings::ModelChoice {
        match self {
            Self::Hematoxylin(m) => settings::ModelChoice::Hematoxylin(settings::Hematoxylin {
                smooth_sigma_um: m.smooth_sigma_um,
                local_radius_um: m.local_radius_um,
                offset_od: m.offset_od,
                min_od: m.min_od,
            }),
            Self::StainThreshold(m) => settings::ModelChoice::StainThreshold(settings::StainThreshold {
                stain: m.stain,
                threshold_od: m.threshold_od,
                class: m.class,
                color: m.color,
            }),
            Self::Network(m) => settings::ModelChoice::Network(settings::Network {
                weights: match m.weights.to_str() {
                    Some("nuclei") => settings::NetworkWeights::Nuclei,
                    Some("random") => settings::NetworkWeights::Random,
                    _ => settings::NetworkWeights::File(m.weights),
                },
                name: m.name,
                precision: m.precision,
                device: settings::Device::from_name(&m.device),
                organ: m.organ,
                views: m.views,
            }),
        }
    }
}
