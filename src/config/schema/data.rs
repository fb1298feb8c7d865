//! `data`: what a network learns from.
//!
//! Owns: the keys under `data` and their types; those of data sets are in `data/sets.rs`, of augmentation in
//! `data/augment.rs`. Must not know: files, how a network learns.

mod augment;
mod sets;

pub use augment::DataAugment;
pub(super) use augment::KEYS as AUGMENT_KEYS;
pub use sets::DataSet;
pub(super) use sets::KEYS as SET_KEYS;

use super::{Stain, forms, pixels};
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;

const SHARE: Kind = Kind::Real { min: 0.0, max: 1.0 };
const REFERENCE: &str = "the look pictures are brought to: `standard` (built in), or a path to a picture";

pub(super) const KEYS: &[Key] = &[
    Key::section("data", "what the network learns from"),
    Key::value(
        "data.patch_px",
        Kind::Int { min: 16, max: 8192, step: 1 },
        Preset::Is("256"),
        "px",
        "side of a training picture, at the resolution of the model; what the network takes",
    ),
    Key::value(
        "data.beyond",
        Kind::OneOf(&["mirror", "white"]),
        Preset::Is("mirror"),
        "",
        "what a training picture shows where it reaches beyond the edge of a picture: its mirror image, or the white glass \
         that a run sees beyond a slide; beyond slides it is always white",
    ),
    Key::section(
        "data.classes",
        "the classes, each by its name, the general before the particular; the network predicts those of which no \
         other is a kind",
    ),
    Key::value(
        "data.classes.*",
        Kind::Section,
        Preset::Unset("{}"),
        "",
        "a class by its name, as tables and masks will call it",
    ),
    Key::value(
        "data.classes.*.kind_of",
        Kind::Text,
        Preset::Unset("nucleus"),
        "",
        "the class it is a kind of, which stands before it; unset: of none",
    ),
    Key::value("data.classes.*.color", Kind::Color, Preset::Is("\"#808080\""), "", "its colour in overviews and masks"),
    Key::section("data.split", "which pictures are kept back: by patient, never by tile; one of `share`, `fold`"),
    Key::choice(
        "data.split.share",
        SHARE,
        Preset::Is("0.2"),
        "share of the patients of all sets that is kept back, drawn at random",
    ),
    Key::choice("data.split.fold", Kind::Section, Preset::Unset("{}"), "one part of several is kept back"),
    Key::value(
        "data.split.fold.folds",
        Kind::Int { min: 2, max: 1000, step: 1 },
        Preset::Is("5"),
        "",
        "how many parts the patients are dealt into",
    ),
    Key::value(
        "data.split.fold.fold",
        Kind::Int { min: 1, max: 1000, step: 1 },
        Preset::Is("1"),
        "",
        "which part is kept back, from 1",
    ),
    Key::value(
        "data.split.seed",
        Kind::Int { min: 0, max: u64::MAX, step: 1 },
        Preset::Is("1"),
        "",
        "what the drawing depends on",
    ),
    Key::value(
        "data.split.shared_patients",
        Kind::OneOf(&["refuse", "train", "validation", "drop"]),
        Preset::Is("refuse"),
        "",
        "what happens when fixed lists have a patient on both sides: nothing starts, all of the patient is learned \
         from, all is kept back, or what would be learned from is left out",
    ),
    Key::value(
        "data.mix",
        Kind::OneOf(&["ratios", "in_turn"]),
        Preset::Is("ratios"),
        "",
        "several sets: in every batch in the ratio of their `ratio`, or one after the other for `ratio` epochs each",
    ),
    Key::section("data.sampling", "where training pictures are cut"),
    Key::value(
        "data.sampling.samples_per_epoch",
        Kind::Int { min: 1, max: 100_000_000, step: 1 },
        Preset::Found("as many as cover the pictures once", "1000"),
        "",
        "training pictures per epoch",
    ),
    Key::value(
        "data.sampling.balance",
        SHARE,
        Preset::Is("0.0"),
        "",
        "share of the training pictures that is cut around something of a class drawn evenly, so that rare classes are \
         seen more often",
    ),
    Key::value(
        "data.sampling.min_tissue",
        SHARE,
        Preset::Is("0.3"),
        "",
        "of slides: squares with less tissue are left out",
    ),
    Key::section(
        "data.stain",
        "stain normalisation of every picture or slide, as in use; exactly one of `none`, `macenko`, `reinhard`, \
         `vahadane`, `ruifrok`",
    ),
    Key::choice("data.stain.none", Kind::Section, Preset::Is("{}"), "pixels as they are"),
    Key::choice("data.stain.macenko", Kind::Section, Preset::Unset("{}"), "Macenko 2009"),
    Key::value("data.stain.macenko.reference", Kind::Path, Preset::Is("standard"), "", REFERENCE),
    Key::choice("data.stain.reinhard", Kind::Section, Preset::Unset("{}"), "Reinhard 2001"),
    Key::value("data.stain.reinhard.reference", Kind::Path, Preset::Is("standard"), "", REFERENCE),
    Key::choice("data.stain.vahadane", Kind::Section, Preset::Unset("{}"), "Vahadane 2016"),
    Key::value("data.stain.vahadane.reference", Kind::Path, Preset::Is("standard"), "", REFERENCE),
    Key::choice(
        "data.stain.ruifrok",
        Kind::Section,
        Preset::Unset("{}"),
        "the fixed vectors of Ruifrok and Johnston 2001, concentrations scaled to the reference's",
    ),
    Key::value("data.stain.ruifrok.reference", Kind::Path, Preset::Is("standard"), "", REFERENCE),
    Key::value(
        "data.cache",
        Kind::Bytes { min: 0 },
        Preset::Is("1GiB"),
        "",
        "decoded pictures kept in memory, at most",
    ),
];

/// `data`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    patch_px: u32,
    beyond: settings::Beyond,
    #[serde(deserialize_with = "forms::named")]
    classes: Vec<(String, Class)>,
    #[serde(deserialize_with = "forms::named")]
    sets: Vec<(String, DataSet)>,
    split: Split,
    mix: settings::Mix,
    sampling: Sampling,
    stain: Stain,
    augment: DataAugment,
    cache: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    kind_of: Option<String>,
    #[serde(deserialize_with = "forms::color")]
    color: [u8; 3],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    share: Option<f64>,
    fold: Option<Fold>,
    seed: u64,
    shared_patients: settings::SharedPatients,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fold {
    folds: u32,
    fold: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sampling {
    samples_per_epoch: Option<u32>,
    balance: f64,
    min_tissue: f64,
}

impl Data {
    pub(super) fn into_settings(self) -> settings::Data {
        let class =
            |(name, class): (String, Class)| settings::Class { name, color: class.color, parent: class.kind_of };
        let method = match self.split.fold {
            Some(Fold { folds, fold }) => settings::SplitMethod::Fold { folds, fold },
            None => settings::SplitMethod::Share(self.split.share.unwrap_or(0.0)),
        };
        settings::Data {
            classes: self.classes.into_iter().map(class).collect(),
            sets: self.sets.into_iter().map(|(name, set)| set.into_settings(name)).collect(),
            split: settings::Split { method, shared_patients: self.split.shared_patients, seed: self.split.seed },
            mix: self.mix,
            patch_px: self.patch_px,
            beyond: self.beyond,
            sampling: settings::Sampling {
                samples_per_epoch: self.sampling.samples_per_epoch,
                balance: self.sampling.balance,
                min_tissue: self.sampling.min_tissue,
            },
            stain: pixels::stain_settings(self.stain),
            augment: self.augment.into_settings(),
            cache_bytes: self.cache,
        }
    }
}
