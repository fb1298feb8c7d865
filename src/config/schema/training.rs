//! A training file: `data`, `model`, `train`, `output`, `run`.
//!
//! Owns: [`TrainingDocument`], the keys under `model`, `output` and `run` of a training file. Must not know: how a
//! network learns.

use super::{Data, Train, forms, run};
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use crate::units::Mpp;
use serde::Deserialize;
use std::path::PathBuf;

pub(super) const MODEL_KEYS: &[Key] = &[
    Key::section("model", "which network learns, and what it starts from"),
    Key::value(
        "model.name",
        Kind::Text,
        Preset::Found("what the weights to start from say", "stardist_unet"),
        "",
        "a network of `wsi-run models`; must be said where it starts from nothing",
    ),
    Key::value(
        "model.input_mpp",
        Kind::Real { min: 0.05, max: 100.0 },
        Preset::Found("that of the weights to start from, or the network's own", "0.5"),
        "µm/px",
        "resolution of the images it learns from, and wants in use",
    ),
    Key::value(
        "model.normalisation",
        Kind::OneOf(&["imagenet", "unit"]),
        Preset::Found("that of the weights to start from, or the network's own", "unit"),
        "",
        "what is done to pixels: mean and deviation of ImageNet, or 0 to 1",
    ),
    Key::value(
        "model.start",
        Kind::Path,
        Preset::Unset("weights/encoder.safetensors"),
        "",
        "weights to start from: a file made by `wsi-run convert` or by a training, or `nuclei`, which the program has in \
         itself; unset starts from random numbers",
    ),
    Key::plain(
        "model.start_part",
        Kind::OneOf(&["all", "encoder"]),
        "all",
        "what is taken of them: all that the network has, or the encoder's; a file of an encoder gives the encoder",
    ),
    Key::plain(
        "model.last_layer",
        Kind::OneOf(&["keep", "replace"]),
        "keep",
        "whether the layer that tells classes is taken too, or starts anew, as it must for other classes",
    ),
    Key::plain(
        "model.batch_norm",
        Kind::Bool,
        "false",
        "learn with batch normalisation between each convolution and its ReLU; the convolutions of the result take it in",
    ),
    Key::plain(
        "model.first_values",
        Kind::OneOf(&["pytorch", "he"]),
        "pytorch",
        "what is drawn where nothing is taken: as PyTorch's layers do, or after He, biases 0 and outputs near 0",
    ),
    Key::plain("model.licence", Kind::Text, "not stated", "licence of the weights that come out, written into them"),
    Key::value(
        "model.training_data",
        Kind::Text,
        Preset::Found("the names of the data sets", "BRCA-M2C, DSB 2018"),
        "",
        "what the weights that come out were trained on, written into them",
    ),
    Key::value(
        "model.prob_threshold",
        Kind::Real { min: 0.01, max: 0.99 },
        Preset::Unset("0.4"),
        "",
        "for star-convex nuclei, the best `instances.star.prob_threshold` of the weights that come out, written into them: \
         runs take it where they say none",
    ),
    Key::value(
        "model.about",
        Kind::Text,
        Preset::Unset("recipe of May; detection F1 0.86 on the validation split"),
        "",
        "how the weights that come out were trained and how good they are, written into them",
    ),
];

pub(super) const KEYS: &[Key] = &[
    Key::section("output", "where it goes"),
    Key::plain(
        "output.dir",
        Kind::Path,
        "results/training",
        "directory of the training: weights, metrics, the picture of them, checkpoints; made when it is not there",
    ),
    Key::section("run", "limits of the training"),
    run::THREADS,
    run::time_limit_secs("when the training stops and keeps what it has for the next run of the same command"),
];

/// A whole training file, defaults filled in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingDocument {
    data: Data,
    model: TrainModel,
    train: Train,
    output: TrainOutput,
    run: TrainRun,
}

/// `model` of a training file.
///
/// ```
/// let model: wsi_run::config::schema::TrainModel = serde_saphyr::from_str(r#"
/// name: stardist_unet
/// input_mpp: 0.5
/// start_part: all
/// last_layer: keep
/// batch_norm: false
/// first_values: pytorch
/// licence: CC BY 4.0
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainModel {
    name: Option<String>,
    #[serde(default, deserialize_with = "forms::optional_mpp")]
    input_mpp: Option<Mpp>,
    normalisation: Option<settings::NormalisationName>,
    start: Option<PathBuf>,
    start_part: settings::StartPart,
    last_layer: settings::LastLayer,
    batch_norm: bool,
    first_values: settings::FirstValues,
    licence: String,
    training_data: Option<String>,
    prob_threshold: Option<f64>,
    about: Option<String>,
}

/// `output` of a training file.
///
/// ```
/// let output: wsi_run::config::schema::TrainOutput = serde_saphyr::from_str("dir: results/training")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOutput {
    dir: PathBuf,
}

/// `run` of a training file.
///
/// ```
/// let run: wsi_run::config::schema::TrainRun = serde_saphyr::from_str("{ threads: 4, time_limit_secs: 3600 }")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRun {
    threads: Option<u32>,
    time_limit_secs: Option<u64>,
}

impl TrainingDocument {
    /// The training it describes, with `threads` where the file leaves that open.
    pub fn into_settings(self, threads: u32) -> settings::Training {
        settings::Training {
            data: self.data.into_settings(),
            model: self.model.into_settings(),
            train: self.train.into_settings(),
            output_dir: self.output.dir,
            threads: self.run.threads.unwrap_or(threads),
            time_limit_secs: self.run.time_limit_secs,
        }
    }
}

impl TrainModel {
    fn into_settings(self) -> settings::TrainModel {
        settings::TrainModel {
            name: self.name,
            input_mpp: self.input_mpp,
            normalisation: self.normalisation,
            start: self.start,
            start_part: self.start_part,
            last_layer: self.last_layer,
            batch_norm: self.batch_norm,
            first_values: self.first_values,
            licence: self.licence,
            training_data: self.training_data,
            prob_threshold: self.prob_threshold,
            about: self.about,
        }
    }
}
