//! A training, resolved: what learns, from what, how, and where it goes.
//!
//! Owns: [`Training`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use super::Data;
use crate::units::Mpp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything a training does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// What the network learns from.
    pub data: Data,
    /// Which network, and what it starts from.
    pub model: TrainModel,
    /// How it learns.
    pub train: Train,
    /// Directory of the training.
    pub output_dir: PathBuf,
    /// Compute threads.
    pub threads: u32,
    /// When it stops, whatever is left.
    pub time_limit_secs: Option<u64>,
}

/// Which network learns, and what it starts from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainModel {
    /// Its name; `None`: what the weights to start from say.
    pub name: Option<String>,
    /// Resolution of the images.
    pub input_mpp: Option<Mpp>,
    /// What is done to pixels.
    pub normalisation: Option<NormalisationName>,
    /// Weights to start from; `None`: random numbers.
    pub start: Option<PathBuf>,
    /// What is taken of them.
    pub start_part: StartPart,
    /// Whether the layer that tells classes is taken too.
    pub last_layer: LastLayer,
    /// Whether it learns with batch normalisation that its result does not have.
    pub batch_norm: bool,
    /// What is drawn at random.
    pub first_values: FirstValues,
    /// Licence of the result.
    pub licence: String,
    /// Data it was trained on; `None`: the names of the data sets.
    pub training_data: Option<String>,
    /// The probability above which a pixel best proposes a star-convex nucleus.
    pub prob_threshold: Option<f64>,
    /// How the result was trained and how good it is.
    pub about: Option<String>,
}

/// What is done to pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalisationName {
    /// Mean and standard deviation of ImageNet.
    Imagenet,
    /// 0 to 1.
    Unit,
}

/// What is taken of the weights to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartPart {
    /// All that the network has.
    All,
    /// The encoder.
    Encoder,
}

/// What becomes of the layer that tells classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastLayer {
    /// It is taken.
    Keep,
    /// It starts anew.
    Replace,
}

/// How values that are not taken from weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstValues {
    /// As PyTorch's layers do: uniform, the same bound for weights and biases.
    Pytorch,
    /// He 2015; biases 0, outputs near 0.
    He,
}

/// How a network learns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Train {
    /// Of everything drawn at random.
    pub seed: u64,
    /// How often every sample is seen.
    pub epochs: u32,
    /// Samples per step.
    pub batch_size: u32,
    /// Before the schedule changes it.
    pub learning_rate: f64,
    /// How gradients change weights.
    pub optimiser: Optimiser,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Steps over which it rises to its value.
    pub warm_up_steps: u64,
    /// A first phase in which a part does not learn.
    pub freeze: Option<Freeze>,
    /// What names of tensors that learn at all start with; `None`: all learn.
    pub only_prefixes: Option<Vec<String>>,
    /// Longest gradient over all weights.
    pub clip_norm: Option<f64>,
    /// Largest value of a gradient.
    pub clip_value: Option<f64>,
    /// A moving average of the weights.
    pub ema: Option<Ema>,
    /// Epochs between two validations.
    pub validate_every_epochs: u32,
    /// What the best weights are best in.
    pub best_by: BestBy,
    /// End when validation does not get better.
    pub early_stop: Option<EarlyStop>,
    /// Seconds between two checkpoints within an epoch.
    pub checkpoint_secs: u64,
    /// Threads that read samples; `None`: a quarter of the threads.
    pub readers: Option<u32>,
    /// Batches made ready ahead.
    pub queue_batches: u32,
    /// Losses of outputs by name, in the order written; those not named have the network's own.
    pub losses: Vec<(String, LossOfOutput)>,
}

/// How gradients change weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimiser {
    /// Adam; weight decay is added to the gradient.
    Adam(Adam),
    /// Adam; weight decay shrinks weights by itself.
    #[serde(rename = "adamw")]
    AdamW(Adam),
    /// Stochastic gradient descent.
    Sgd(Sgd),
}

/// Numbers of Adam.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// Of the mean of gradients.
    pub beta1: f64,
    /// Of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of that mean.
    pub epsilon: f64,
    /// Pull of weights towards 0.
    pub weight_decay: f64,
}

/// Numbers of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// What is kept of the last step.
    pub momentum: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Pull of weights towards 0.
    pub weight_decay: f64,
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    Constant {},
    /// Half a cosine down, then up again.
    Cosine {
        /// Epochs from top to bottom; `None`: all.
        half_period_epochs: Option<u32>,
        /// Share of the learning rate at the bottom.
        least_factor: f64,
        /// Changes with every step, not with every epoch.
        per_step: bool,
    },
    /// Down by a factor every so many epochs.
    Step {
        /// Epochs between two steps down.
        every_epochs: u32,
        /// What is left at each.
        factor: f64,
    },
    /// Down by a factor when validation does not get better.
    Plateau {
        /// Validations without a better one.
        patience_validations: u32,
        /// What is left.
        factor: f64,
        /// Share of the learning rate it does not go below.
        least_factor: f64,
    },
}

/// A first phase in which a part of the network does not learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// What names of its tensors start with; `None`: those of the encoder.
    pub prefixes: Option<Vec<String>>,
    /// Epochs of the phase.
    pub epochs: u32,
    /// Samples per step; `None`: as afterwards.
    pub batch_size: Option<u32>,
    /// `None`: as afterwards.
    pub learning_rate: Option<f64>,
}

/// A moving average of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// What it keeps at each step.
    pub decay: f64,
}

/// What the best weights are best in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BestBy {
    /// Least loss.
    Loss,
    /// Highest score of the network's task.
    Score,
}

/// End when validation does not get better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Validations without a better one.
    pub patience_validations: u32,
    /// What counts as better.
    pub least_change: f64,
}

/// What an output is held to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossOfOutput {
    /// How much the output counts.
    pub weight: f64,
    /// Losses and how much each counts; their sum is what is made small.
    pub terms: Vec<(f64, Term)>,
}

/// A loss.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// Binary cross entropy.
    Bce,
    /// 1 − Dice of the batch.
    Dice {
        /// Added above and below the fraction.
        smooth: f64,
    },
    /// Weighted IoU and weighted BCE.
    Structure {
        /// Side of the window, odd.
        window_px: u32,
        /// How much more a px at an edge counts.
        edge_gain: f64,
    },
    /// 1 − Tversky index.
    Tversky {
        /// Weight of false positives.
        alpha: f64,
        /// Weight of false negatives.
        beta: f64,
        /// Added above and below the fraction.
        smooth: f64,
    },
    /// (1 − Tversky index)^gamma.
    FocalTversky {
        /// Weight of false positives.
        alpha: f64,
        /// Weight of false negatives.
        beta: f64,
        /// The power.
        gamma: f64,
        /// Added above and below the fraction.
        smooth: f64,
    },
    /// BCE and Tversky.
    Histo {
        /// Weight of the BCE.
        bce: f64,
        /// Weight of the Tversky loss.
        tversky: f64,
        /// Weight of false positives.
        alpha: f64,
        /// Weight of false negatives.
        beta: f64,
        /// Added above and below the fraction.
        smooth: f64,
    },
    /// Focal loss with a power for each of yes and no.
    AsymmetricFocal {
        /// Power where the truth is yes.
        gamma_positive: f64,
        /// Power where the truth is no.
        gamma_negative: f64,
        /// Probabilities are held between it and 1 − it.
        clip: f64,
    },
    /// Focal loss of yes/no or of classes.
    Focal {
        /// Weight of yes.
        alpha: f64,
        /// The power.
        gamma: f64,
    },
    /// Cross entropy of classes.
    CrossEntropy {
        /// How much each channel counts; `None`: all the same.
        class_weights: Option<Vec<f64>>,
        /// How much a label of several classes counts; `None`: the mean of its classes.
        coarse_weight: Option<f64>,
    },
    /// Mean squared error.
    Mse,
    /// Mean squared error of the gradients of HV maps.
    Msge,
    /// Mean absolute error.
    Mae {
        /// Relative to the mean of the truth of each px, this at least; `None`: as it is.
        relative_from: Option<f64>,
    },
}
