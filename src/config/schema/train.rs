//! `train`: how a network learns.
//!
//! Owns: the keys under `train` and their types; those of losses are in `train/loss.rs`. Must not know: networks.

mod loss;

pub(super) use loss::KEYS as LOSS_KEYS;
pub use loss::LossOfOutput;

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;

const EPOCHS: Kind = Kind::Int { min: 1, max: 1_000_000, step: 1 };
const SHARE: Kind = Kind::Real { min: 0.0, max: 1.0 };
const BETA: Kind = Kind::Real { min: 0.0, max: 0.999_999 };
const DECAY: Kind = Kind::Real { min: 0.0, max: 10.0 };
const SAMPLES: Kind = Kind::Int { min: 1, max: 4096, step: 1 };

const fn beta1(path: &'static str) -> Key {
    Key::plain(path, BETA, "0.9", "of the mean of gradients")
}

const fn beta2(path: &'static str) -> Key {
    Key::plain(path, BETA, "0.999", "of the mean of their squares")
}

const fn epsilon(path: &'static str) -> Key {
    Key::plain(path, SHARE, "1e-8", "added to the root of that mean")
}

pub(super) const KEYS: &[Key] = &[
    Key::section("train", "how the network learns"),
    Key::plain(
        "train.seed",
        Kind::Int { min: 0, max: u64::MAX, step: 1 },
        "1",
        "of everything drawn at random: first weights, order, augmentation, dropout",
    ),
    Key::plain("train.epochs", EPOCHS, "100", "how often every sample is seen"),
    Key::plain(
        "train.batch_size",
        SAMPLES,
        "8",
        "samples per step; those left at the end of an epoch that fill no batch are left out of it",
    ),
    Key::plain("train.learning_rate", Kind::Real { min: 0.0, max: 10.0 }, "0.0001", "before the schedule changes it"),
    Key::section("train.optimiser", "how gradients change weights; one of `adam`, `adamw`, `sgd`"),
    Key::choice(
        "train.optimiser.adam",
        Kind::Section,
        Preset::Unset("{}"),
        "Adam; weight decay is added to the gradient",
    ),
    beta1("train.optimiser.adam.beta1"),
    beta2("train.optimiser.adam.beta2"),
    epsilon("train.optimiser.adam.epsilon"),
    Key::plain("train.optimiser.adam.weight_decay", DECAY, "0.0", "pull of weights towards 0"),
    Key::choice(
        "train.optimiser.adamw",
        Kind::Section,
        Preset::Is("{}"),
        "Adam; weight decay shrinks weights by itself",
    ),
    beta1("train.optimiser.adamw.beta1"),
    beta2("train.optimiser.adamw.beta2"),
    epsilon("train.optimiser.adamw.epsilon"),
    Key::plain(
        "train.optimiser.adamw.weight_decay",
        DECAY,
        "0.01",
        "pull of weights towards 0, times the learning rate",
    ),
    Key::choice("train.optimiser.sgd", Kind::Section, Preset::Unset("{}"), "stochastic gradient descent"),
    Key::plain("train.optimiser.sgd.momentum", BETA, "0.9", "what is kept of the last step"),
    Key::plain("train.optimiser.sgd.nesterov", Kind::Bool, "false", "Nesterov's momentum"),
    Key::plain("train.optimiser.sgd.weight_decay", DECAY, "0.0", "pull of weights towards 0"),
    Key::section("train.schedule", "how the learning rate changes; one of `constant`, `cosine`, `step`, `plateau`"),
    Key::choice("train.schedule.constant", Kind::Section, Preset::Is("{}"), "it does not"),
    Key::choice(
        "train.schedule.cosine",
        Kind::Section,
        Preset::Unset("{}"),
        "half a cosine down, then up again when there are epochs left",
    ),
    Key::value(
        "train.schedule.cosine.half_period_epochs",
        EPOCHS,
        Preset::Found("all epochs", "10"),
        "",
        "epochs from the top to the bottom",
    ),
    Key::plain("train.schedule.cosine.least_factor", SHARE, "0.0", "share of the learning rate at the bottom"),
    Key::plain(
        "train.schedule.cosine.per_step",
        Kind::Bool,
        "true",
        "changes with every step; `false`: with every epoch",
    ),
    Key::choice("train.schedule.step", Kind::Section, Preset::Unset("{}"), "down by a factor every so many epochs"),
    Key::plain("train.schedule.step.every_epochs", EPOCHS, "25", "epochs between two steps down"),
    Key::plain("train.schedule.step.factor", SHARE, "0.1", "what is left of the learning rate at each step down"),
    Key::choice(
        "train.schedule.plateau",
        Kind::Section,
        Preset::Unset("{}"),
        "down by a factor when validation does not get better",
    ),
    Key::plain(
        "train.schedule.plateau.patience_validations",
        Kind::Int { min: 0, max: 1_000_000, step: 1 },
        "10",
        "validations without a better one before it goes down",
    ),
    Key::plain("train.schedule.plateau.factor", SHARE, "0.1", "what is left of the learning rate"),
    Key::plain("train.schedule.plateau.least_factor", SHARE, "0.0", "share of the learning rate it does not go below"),
    Key::plain(
        "train.warm_up_steps",
        Kind::Int { min: 0, max: 10_000_000, step: 1 },
        "0",
        "steps over which the learning rate rises to its value, in a straight line",
    ),
    Key::switch("train.freeze", "false", "a first phase in which a part of the network does not learn"),
    Key::value(
        "train.freeze.prefixes",
        Kind::Texts { min_count: 1 },
        Preset::Found("those of the encoder", "[encoder.]"),
        "",
        "what the names of the tensors that do not learn start with",
    ),
    Key::plain("train.freeze.epochs", EPOCHS, "10", "epochs of the first phase; they count as epochs"),
    Key::value(
        "train.freeze.batch_size",
        SAMPLES,
        Preset::Found("`train.batch_size`", "64"),
        "",
        "samples per step in the first phase",
    ),
    Key::value(
        "train.freeze.learning_rate",
        Kind::Real { min: 0.0, max: 10.0 },
        Preset::Found("`train.learning_rate`", "0.001"),
        "",
        "in the first phase",
    ),
    Key::value(
        "train.only_prefixes",
        Kind::Texts { min_count: 1 },
        Preset::Unset("[decoder.]"),
        "",
        "what the names of the tensors that learn at all start with; unset: all learn",
    ),
    Key::value(
        "train.clip_norm",
        Kind::Real { min: 1e-9, max: 1e9 },
        Preset::Unset("1.0"),
        "",
        "longest gradient over all weights; a longer one is shortened to it",
    ),
    Key::value(
        "train.clip_value",
        Kind::Real { min: 1e-9, max: 1e9 },
        Preset::Unset("0.5"),
        "",
        "largest value of a gradient; larger ones are cut to it",
    ),
    Key::switch(
        "train.ema",
        "false",
        "a moving average of the weights, which is what is validated and written as the result",
    ),
    Key::plain("train.ema.decay", BETA, "0.999", "what it keeps at each step; less at first, (1 + step) / (10 + step)"),
    Key::plain(
        "train.validate_every_epochs",
        EPOCHS,
        "1",
        "epochs between two validations; the last epoch is always validated",
    ),
    Key::plain(
        "train.best_by",
        Kind::OneOf(&["loss", "score"]),
        "loss",
        "what the best weights are best in on the validation split: least loss, or highest score of the network's task",
    ),
    Key::switch("train.early_stop", "false", "end when validation does not get better any more"),
    Key::plain(
        "train.early_stop.patience_validations",
        Kind::Int { min: 1, max: 1_000_000, step: 1 },
        "20",
        "validations without a better one before it ends",
    ),
    Key::plain("train.early_stop.least_change", Kind::Real { min: 0.0, max: 1e9 }, "0.0", "what counts as better"),
    Key::value(
        "train.checkpoint_secs",
        Kind::Int { min: 0, max: 86_400, step: 1 },
        Preset::Is("300"),
        "s",
        "time between two checkpoints within an epoch, 0 after every step; every epoch ends with one",
    ),
    Key::value(
        "train.readers",
        Kind::Int { min: 1, max: 256, step: 1 },
        Preset::Found("a quarter of the threads", "1"),
        "",
        "threads that read and augment samples while others compute",
    ),
    Key::plain(
        "train.queue_batches",
        Kind::Int { min: 1, max: 256, step: 1 },
        "3",
        "batches made ready ahead of the one in use",
    ),
];

/// `train`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    seed: u64,
    epochs: u32,
    batch_size: u32,
    learning_rate: f64,
    optimiser: settings::Optimiser,
    schedule: settings::Schedule,
    warm_up_steps: u64,
    #[serde(deserialize_with = "forms::switch")]
    freeze: Option<settings::Freeze>,
    only_prefixes: Option<Vec<String>>,
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    #[serde(deserialize_with = "forms::switch")]
    ema: Option<settings::Ema>,
    validate_every_epochs: u32,
    best_by: settings::BestBy,
    #[serde(deserialize_with = "forms::switch")]
    early_stop: Option<settings::EarlyStop>,
    checkpoint_secs: u64,
    readers: Option<u32>,
    queue_batches: u32,
    #[serde(deserialize_with = "forms::named")]
    loss: Vec<(String, LossOfOutput)>,
}

impl Train {
    pub(super) fn into_settings(self) -> settings::Train {
        settings::Train {
            seed: self.seed,
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            optimiser: self.optimiser,
            schedule: self.schedule,
            warm_up_steps: self.warm_up_steps,
            freeze: self.freeze,
            only_prefixes: self.only_prefixes,
            clip_norm: self.clip_norm,
            clip_value: self.clip_value,
            ema: self.ema,
            validate_every_epochs: self.validate_every_epochs,
            best_by: self.best_by,
            early_stop: self.early_stop,
            checkpoint_secs: self.checkpoint_secs,
            readers: self.readers,
            queue_batches: self.queue_batches,
            losses: self.loss.into_iter().map(|(output, loss)| (output, loss.into_settings())).collect(),
        }
    }
}
