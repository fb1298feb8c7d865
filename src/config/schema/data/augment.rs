//! `data.augment`: what is changed at random.
//!
//! Owns: the keys under `data.augment` and their types. Must not know: how pictures are changed.

use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;
use std::path::PathBuf;

const PROB: Kind = Kind::Real { min: 0.0, max: 1.0 };

const fn real(max: f64) -> Kind {
    Kind::Real { min: 0.0, max }
}

const fn key(path: &'static str, kind: Kind, preset: &'static str, unit: &'static str, meaning: &'static str) -> Key {
    Key::value(path, kind, Preset::Is(preset), unit, meaning)
}

pub(in crate::config::schema) const KEYS: &[Key] = &[
    Key::section(
        "data.augment",
        "what is changed at random in training pictures; a probability of 0 turns a change off",
    ),
    key("data.augment.flip_prob", PROB, "0.5", "", "of each mirror image, left-right and up-down"),
    key("data.augment.turns", Kind::Bool, "true", "", "turns by 0, 90, 180 or 270 degrees"),
    key("data.augment.affine_prob", PROB, "0.5", "", "of the next three, drawn together"),
    key("data.augment.rotate_deg", real(180.0), "45.0", "", "free rotation, ± degrees"),
    key("data.augment.scale", real(3.0), "0.1", "", "up to 1 + this times as large or as small"),
    key("data.augment.shear_deg", real(45.0), "0.0", "", "shear, ± degrees"),
    Key::section("data.augment.elastic", "elastic deformation"),
    key("data.augment.elastic.prob", PROB, "0.0", "", "of it"),
    key("data.augment.elastic.alpha_px", real(200.0), "20.0", "px", "largest factor of the smoothed noise"),
    key("data.augment.elastic.sigma_px", real(200.0), "5.0", "px", "smoothing of the noise"),
    Key::section("data.augment.color", "brightness, contrast, saturation, hue, and each channel by itself"),
    key("data.augment.color.prob", PROB, "0.5", "", "of all of them, drawn together"),
    key("data.augment.color.brightness", real(1.0), "0.1", "", "factor 1 ± this"),
    key("data.augment.color.contrast", real(1.0), "0.15", "", "factor 1 ± this"),
    key("data.augment.color.saturation", real(1.0), "0.1", "", "factor 1 ± this"),
    key("data.augment.color.hue_deg", real(180.0), "5.0", "", "± degrees"),
    key("data.augment.color.channels", real(1.0), "0.0", "", "factor 1 ± this of red, green and blue, each by itself"),
    Key::section("data.augment.stain_jitter", "density of hematoxylin, eosin and the rest"),
    key("data.augment.stain_jitter.prob", PROB, "0.5", "", "of it"),
    key(
        "data.augment.stain_jitter.space",
        Kind::OneOf(&["hed", "he"]),
        "hed",
        "",
        "all three of hematoxylin, eosin and DAB change, or hematoxylin and eosin alone",
    ),
    key("data.augment.stain_jitter.gain", real(1.0), "0.1", "", "factor 1 ± this of each density"),
    key(
        "data.augment.stain_jitter.shift_od",
        real(1.0),
        "0.01",
        "optical density",
        "added to each density, ± this (decadic)",
    ),
    Key::section("data.augment.stain_transfer", "the stain of another picture"),
    key("data.augment.stain_transfer.prob", PROB, "0.0", "", "of it"),
    key(
        "data.augment.stain_transfer.method",
        Kind::OneOf(&["reinhard", "macenko", "od"]),
        "reinhard",
        "",
        "mean and spread of CIELAB, stain vectors, or mean and spread of the optical density of red, green and blue",
    ),
    key(
        "data.augment.stain_transfer.least_share",
        PROB,
        "1.0",
        "",
        "least share of the way to the other stain; drawn evenly from this to 1",
    ),
    Key::value(
        "data.augment.stain_transfer.references",
        Kind::Texts { min_count: 1 },
        Preset::Unset("look.png"),
        "",
        "pictures whose stain is taken; unset: other training pictures",
    ),
    Key::value(
        "data.augment.stain_transfer.from_set",
        Kind::Text,
        Preset::Found("each picture's own", "brca"),
        "",
        "the data set whose training pictures' stain is taken, where `references` names none",
    ),
    Key::section("data.augment.blur", "Gaussian blur"),
    key("data.augment.blur.prob", PROB, "0.1", "", "of it"),
    key("data.augment.blur.most_px", real(10.0), "1.0", "px", "largest σ"),
    Key::section("data.augment.noise", "normal noise of every value"),
    key("data.augment.noise.prob", PROB, "0.1", "", "of it"),
    key("data.augment.noise.most", real(1.0), "0.02", "", "largest σ, as share of full brightness"),
    Key::section("data.augment.clahe", "adaptive histogram equalisation (CLAHE)"),
    key("data.augment.clahe.prob", PROB, "0.0", "", "of it"),
    key("data.augment.clahe.most", real(40.0), "2.0", "", "largest clip limit, 1 or more"),
    Key::section("data.augment.gamma", "a gamma curve"),
    key("data.augment.gamma.prob", PROB, "0.0", "", "of it"),
    key("data.augment.gamma.most", real(0.9), "0.1", "", "how far from 1 the exponent may be"),
    Key::section("data.augment.sharpen", "sharpening"),
    key("data.augment.sharpen.prob", PROB, "0.0", "", "of it"),
    key(
        "data.augment.sharpen.most",
        real(2.0),
        "0.2",
        "",
        "largest share of the difference to the neighbours that is added",
    ),
    key("data.augment.grey_prob", PROB, "0.0", "", "of grey: colours are taken away"),
];

/// `data.augment`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataAugment {
    flip_prob: f64,
    turns: bool,
    affine_prob: f64,
    rotate_deg: f64,
    scale: f64,
    shear_deg: f64,
    elastic: Elastic,
    color: Color,
    stain_jitter: StainJitter,
    stain_transfer: StainTransfer,
    blur: Blur,
    noise: Strength,
    clahe: Strength,
    gamma: Strength,
    sharpen: Strength,
    grey_prob: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elastic {
    prob: f64,
    alpha_px: f64,
    sigma_px: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Color {
    prob: f64,
    brightness: f64,
    contrast: f64,
    saturation: f64,
    hue_deg: f64,
    channels: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StainJitter {
    prob: f64,
    space: settings::StainSpace,
    gain: f64,
    shift_od: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StainTransfer {
    prob: f64,
    method: settings::TransferMethod,
    least_share: f64,
    references: Option<Vec<PathBuf>>,
    from_set: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blur {
    prob: f64,
    most_px: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strength {
    prob: f64,
    most: f64,
}

impl DataAugment {
    pub(super) fn into_settings(self) -> settings::Augment {
        let strength = |s: Strength| settings::Strength { prob: s.prob, most: s.most };
        let (e, c, j, t) = (self.elastic, self.color, self.stain_jitter, self.stain_transfer);
        settings::Augment {
            flip_prob: self.flip_prob,
            turns: self.turns,
            affine_prob: self.affine_prob,
            rotate_deg: self.rotate_deg,
            scale: self.scale,
            shear_deg: self.shear_deg,
            elastic: settings::Elastic { prob: e.prob, alpha_px: e.alpha_px, sigma_px: e.sigma_px },
            color: settings::ColorJitter {
                prob: c.prob,
                brightness: c.brightness,
                contrast: c.contrast,
                saturation: c.saturation,
                hue_deg: c.hue_deg,
                channels: c.channels,
            },
            stain_jitter: settings::StainJitter { prob: j.prob, space: j.space, gain: j.gain, shift_od: j.shift_od },
            stain_transfer: settings::StainTransfer {
                prob: t.prob,
                method: t.method,
                least_share: t.least_share,
                references: t.references.unwrap_or_default(),
                from_set: t.from_set,
            },
            blur: settings::Strength { prob: self.blur.prob, most: self.blur.most_px },
            noise: strength(self.noise),
            clahe: strength(self.clahe),
            gamma: strength(self.gamma),
            sharpen: strength(self.sharpen),
            grey_prob: self.grey_prob,
        }
    }
}
