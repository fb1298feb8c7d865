//! `train.loss`: what a network's outputs are held to.
//!
//! Owns: the keys under `train.loss` and their types. Must not know: how losses are computed, networks.

use crate::config::key::{Key, Kind, Preset};
use crate::config::schema::forms;
use crate::config::settings::{self, Term};
use serde::Deserialize;

const WEIGHT: Kind = Kind::Real { min: 0.0, max: 1e6 };
const POSITIVE: Kind = Kind::Real { min: 1e-9, max: 1e6 };
const GAMMA: Kind = Kind::Real { min: 0.0, max: 20.0 };

const fn term(path: &'static str, meaning: &'static str) -> Key {
    Key::switch(path, "false", meaning)
}

const fn weight(path: &'static str) -> Key {
    Key::plain(path, WEIGHT, "1.0", "how much it counts in the sum")
}

const fn alpha(path: &'static str) -> Key {
    Key::plain(path, WEIGHT, "0.3", "weight of false positives")
}

const fn beta(path: &'static str) -> Key {
    Key::plain(path, WEIGHT, "0.7", "weight of false negatives")
}

const fn smooth(path: &'static str) -> Key {
    Key::plain(path, POSITIVE, "1.0", "added above and below the fraction, in px")
}

pub(crate) const KEYS: &[Key] = &[
    Key::section(
        "train.loss",
        "what each output of the network is held to; left out: the losses of the network's paper",
    ),
    Key::value(
        "train.loss.*",
        Kind::Section,
        Preset::Unset("{ bce: { weight: 0.5 }, dice: { weight: 0.5 } }"),
        "",
        "an output by its name, as `wsi-run plan` lists them; the sum of the losses named here",
    ),
    Key::plain(
        "train.loss.*.weight",
        WEIGHT,
        "1.0",
        "how much the output counts; of the outputs of deep supervision usually less than 1",
    ),
    term("train.loss.*.bce", "binary cross entropy"),
    weight("train.loss.*.bce.weight"),
    term("train.loss.*.dice", "1 − Dice of the whole batch, mean over channels"),
    weight("train.loss.*.dice.weight"),
    smooth("train.loss.*.dice.smooth"),
    term("train.loss.*.structure", "weighted IoU and weighted BCE, px near edges count more (LightMuSeg)"),
    weight("train.loss.*.structure.weight"),
    Key::value(
        "train.loss.*.structure.window_px",
        Kind::Int { min: 3, max: 255, step: 1 },
        Preset::Is("31"),
        "px",
        "side of the window in which a px is compared with its neighbours; odd",
    ),
    Key::plain("train.loss.*.structure.edge_gain", WEIGHT, "5.0", "how much more a px at an edge counts, at most"),
    term("train.loss.*.tversky", "1 − Tversky index"),
    weight("train.loss.*.tversky.weight"),
    alpha("train.loss.*.tversky.alpha"),
    beta("train.loss.*.tversky.beta"),
    smooth("train.loss.*.tversky.smooth"),
    term("train.loss.*.focal_tversky", "(1 − Tversky index) to a power; of classes, with the sums of coarse labels"),
    weight("train.loss.*.focal_tversky.weight"),
    alpha("train.loss.*.focal_tversky.alpha"),
    beta("train.loss.*.focal_tversky.beta"),
    Key::plain("train.loss.*.focal_tversky.gamma", GAMMA, "0.75", "the power"),
    smooth("train.loss.*.focal_tversky.smooth"),
    term("train.loss.*.histo", "HistoLoss: BCE and Tversky (ClinSegNet)"),
    weight("train.loss.*.histo.weight"),
    Key::plain("train.loss.*.histo.bce", WEIGHT, "0.3", "weight of the BCE"),
    Key::plain("train.loss.*.histo.tversky", WEIGHT, "0.7", "weight of the Tversky loss"),
    alpha("train.loss.*.histo.alpha"),
    beta("train.loss.*.histo.beta"),
    smooth("train.loss.*.histo.smooth"),
    term("train.loss.*.asymmetric_focal", "focal loss with a power for each of yes and no (HistoNeXt)"),
    weight("train.loss.*.asymmetric_focal.weight"),
    Key::plain("train.loss.*.asymmetric_focal.gamma_positive", GAMMA, "1.0", "power where the truth is yes"),
    Key::plain("train.loss.*.asymmetric_focal.gamma_negative", GAMMA, "4.0", "power where the truth is no"),
    Key::plain(
        "train.loss.*.asymmetric_focal.clip",
        Kind::Real { min: 0.0, max: 0.49 },
        "0.05",
        "probabilities are held between it and 1 − it",
    ),
    term("train.loss.*.focal", "focal loss of yes/no or of classes"),
    weight("train.loss.*.focal.weight"),
    Key::plain("train.loss.*.focal.alpha", Kind::Real { min: 0.0, max: 1.0 }, "0.25", "weight of yes; of no 1 − it"),
    Key::plain("train.loss.*.focal.gamma", GAMMA, "2.0", "the power"),
    term("train.loss.*.cross_entropy", "cross entropy of classes, with the sums of coarse labels"),
    weight("train.loss.*.cross_entropy.weight"),
    Key::value(
        "train.loss.*.cross_entropy.class_weights",
        Kind::Reals { min: 0.0, max: 1e6, min_count: 1, max_count: 256 },
        Preset::Unset("[1.0, 2.0, 2.0]"),
        "",
        "how much each channel counts, background first where there is one; unset: all the same",
    ),
    Key::value(
        "train.loss.*.cross_entropy.coarse_weight",
        WEIGHT,
        Preset::Found("the mean of its classes", "0.3"),
        "",
        "how much a coarse label counts, which may mean several classes",
    ),
    term("train.loss.*.mse", "mean squared error"),
    weight("train.loss.*.mse.weight"),
    term("train.loss.*.msge", "mean squared error of gradients of HV maps within nuclei (HoVer-Net)"),
    weight("train.loss.*.msge.weight"),
    term("train.loss.*.mae", "mean absolute error (StarDist's distances)"),
    weight("train.loss.*.mae.weight"),
    Key::value(
        "train.loss.*.mae.relative_from_px",
        POSITIVE,
        Preset::Unset("2.0"),
        "px",
        "divide the error of a px by its mean true distance, taken as this at least, so that large nuclei do not rule",
    ),
];

/// `train.loss.<output>`.
///
/// ```
/// let loss: wsi_run::config::schema::LossOfOutput = serde_saphyr::from_str(r#"
/// weight: 1.0
/// bce: { weight: 0.5 }
/// dice: { weight: 0.5, smooth: 1.0 }
/// structure: false
/// tversky: false
/// focal_tversky: false
/// histo: false
/// asymmetric_focal: false
/// focal: false
/// cross_entropy: false
/// mse: false
/// msge: false
/// mae: false
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossOfOutput {
    weight: f64,
    #[serde(deserialize_with = "forms::switch")]
    bce: Option<Weight>,
    #[serde(deserialize_with = "forms::switch")]
    dice: Option<Dice>,
    #[serde(deserialize_with = "forms::switch")]
    structure: Option<Structure>,
    #[serde(deserialize_with = "forms::switch")]
    tversky: Option<Tversky>,
    #[serde(deserialize_with = "forms::switch")]
    focal_tversky: Option<FocalTversky>,
    #[serde(deserialize_with = "forms::switch")]
    histo: Option<Histo>,
    #[serde(deserialize_with = "forms::switch")]
    asymmetric_focal: Option<AsymmetricFocal>,
    #[serde(deserialize_with = "forms::switch")]
    focal: Option<Focal>,
    #[serde(deserialize_with = "forms::switch")]
    cross_entropy: Option<CrossEntropy>,
    #[serde(deserialize_with = "forms::switch")]
    mse: Option<Weight>,
    #[serde(deserialize_with = "forms::switch")]
    msge: Option<Weight>,
    #[serde(deserialize_with = "forms::switch")]
    mae: Option<Mae>,
}

macro_rules! term {
    ($name:ident { $($field:ident: $of:ty),* }) => {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            weight: f64,
            $($field: $of),*
        }
    };
}

term!(Weight {});
term!(Dice { smooth: f64 });
term!(Structure { window_px: u32, edge_gain: f64 });
term!(Tversky { alpha: f64, beta: f64, smooth: f64 });
term!(FocalTversky { alpha: f64, beta: f64, gamma: f64, smooth: f64 });
term!(Histo { bce: f64, tversky: f64, alpha: f64, beta: f64, smooth: f64 });
term!(AsymmetricFocal { gamma_positive: f64, gamma_negative: f64, clip: f64 });
term!(Focal { alpha: f64, gamma: f64 });
term!(Mae { relative_from_px: Option<f64> });
term!(CrossEntropy { class_weights: Option<Vec<f64>>, coarse_weight: Option<f64> });

impl LossOfOutput {
    pub(super) fn into_settings(self) -> settings::LossOfOutput {
        let Self { weight: _, bce, dice, structure, tversky, focal_tversky, histo, .. } = self;
        let Self { asymmetric_focal, focal, cross_entropy, mse, msge, mae, .. } = self;
        let terms = [
            bce.map(|t| (t.weight, Term::Bce)),
            dice.map(|t| (t.weight, Term::Dice { smooth: t.smooth })),
            structure.map(|t| (t.weight, Term::Structure { window_px: t.window_px, edge_gain: t.edge_gain })),
            tversky.map(|Tversky { weight, alpha, beta, smooth }| (weight, Term::Tversky { alpha, beta, smooth })),
            focal_tversky.map(|FocalTversky { weight, alpha, beta, gamma, smooth }| {
                (weight, Term::FocalTversky { alpha, beta, gamma, smooth })
            }),
            histo.map(|Histo { weight, bce, tversky, alpha, beta, smooth }| {
                (weight, Term::Histo { bce, tversky, alpha, beta, smooth })
            }),
            asymmetric_focal.map(|AsymmetricFocal { weight, gamma_positive, gamma_negative, clip }| {
                (weight, Term::AsymmetricFocal { gamma_positive, gamma_negative, clip })
            }),
            focal.map(|Focal { weight, alpha, gamma }| (weight, Term::Focal { alpha, gamma })),
            cross_entropy.map(|CrossEntropy { weight, class_weights, coarse_weight }| {
                (weight, Term::CrossEntropy { class_weights, coarse_weight })
            }),
            mse.map(|t| (t.weight, Term::Mse)),
            msge.map(|t| (t.weight, Term::Msge)),
            mae.map(|t| (t.weight, Term::Mae { relative_from: t.relative_from_px })),
        ];
        settings::LossOfOutput { weight: self.weight, terms: terms.into_iter().flatten().collect() }
    }
}
