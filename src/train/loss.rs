//! What a network's answers are held to: one number, and its gradient.
//!
//! Owns: [`Losses`], [`LossValue`], the losses of each paper. Must not know: samples, optimisers.
//!
//! Every output of a network in training gives logits or plain numbers. Each loss is a mean over what is known, by the
//! weights of the px; an output of which a batch tells nothing is left out of the sum.
//!
//! | file | paper |
//! |---|---|
//! | `bce`, `dice` | CrescentSegNet; ClinSegNet's edges |
//! | `structure` | LightMuSeg |
//! | `tversky`, `histo` | ClinSegNet; focal with the sums of coarse labels: label hierarchies |
//! | `asymmetric_focal`, `focal` | HistoNeXt |
//! | `error_of_numbers`, `msge` | HoVer-Net, HistoNeXt; StarDist |
//! | `cross_entropy` | CrescentDenseNet; label hierarchies |

mod asymmetric_focal;
mod batch;
mod bce;
mod cross_entropy;
mod dice;
mod error_of_numbers;
mod focal;
mod histo;
mod msge;
mod of_paper;
mod operation;
mod structure;
mod tversky;

pub use asymmetric_focal::asymmetric_focal;
pub use batch::{BatchValues, TargetBatch, sigmoid};
pub use bce::bce;
pub use cross_entropy::cross_entropy;
pub use dice::dice;
pub use error_of_numbers::{mae, mse};
pub use focal::focal;
pub use histo::histo;
pub use msge::msge;
pub use of_paper::of_paper;
pub use structure::structure;
pub use tversky::{focal_tversky, tversky};

use super::TrainError;
use crate::{
    config::settings::{LossOfOutput, Term},
    model::graph::Graph,
};
use candle_core::{Device, Result, Tensor};

/// What each output of a network is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Losses {
    outputs: Vec<(String, LossOfOutput)>,
}

/// A loss and what it is made of.
#[derive(Debug)]
pub struct LossValue {
    /// The sum: a number that can be differentiated. `None` when nothing is known of any output.
    pub total: Option<Tensor>,
    /// For each output, its loss times its weight; NaN where nothing is known.
    pub parts: Vec<f64>,
}

impl Losses {
    /// The losses of the settings, and those of its paper for the outputs that they do not name.
    ///
    /// # Errors
    /// Settings that name an output which the network does not have.
    pub fn new(graph: &Graph, settings: &[(String, LossOfOutput)]) -> std::result::Result<Self, TrainError> {
        let names = || graph.outputs().iter().map(|o| o.name);
        if let Some((name, _)) = settings.iter().find(|(name, _)| !names().any(|n| n == name)) {
            let all: Vec<String> = names().map(|n| format!("`{n}`")).collect();
            let message = format!("`train.loss.{name}`: `{}` has no output `{name}`", graph.name());
            return Err(TrainError::new(message).hint(format!("its outputs are {}", all.join(", "))));
        }
        let of_output = |name: &str| {
            let said = settings.iter().find(|(n, _)| n == name).map(|(_, loss)| loss.clone());
            (name.to_owned(), said.unwrap_or_else(|| of_paper(graph, name)))
        };
        Ok(Self { outputs: names().map(of_output).collect() })
    }

    /// Outputs and what each is held to, in the network's order.
    pub fn outputs(&self) -> &[(String, LossOfOutput)] {
        &self.outputs
    }

    /// The loss of a batch.
    ///
    /// # Shapes
    /// - `answers`: one `[N, C, h, w]` per output, in the network's order
    /// - `targets`: as many, in the same order
    ///
    /// # Errors
    /// A loss that does not go with its output; candle's.
    pub fn of(&self, answers: &[Tensor], targets: &[TargetBatch]) -> Result<LossValue> {
        let mut value = LossValue { total: None, parts: vec![] };
        for ((answer, target), (_, loss)) in answers.iter().zip(targets).zip(&self.outputs) {
            if !target.is_known() || loss.weight == 0.0 {
                value.parts.push(f64::NAN);
                continue;
            }
            let mut sum = Tensor::new(0_f32, &Device::Cpu)?;
            for (weight, term) in &loss.terms {
                sum = (sum + (of_term(term, answer, target, targets)? * (weight * loss.weight))?)?;
            }
            value.parts.push(f64::from(sum.to_scalar::<f32>()?));
            value.total = Some(match value.total {
                Some(total) => (total + sum)?,
                None => sum,
            });
        }
        Ok(value)
    }
}

/// One loss of one output.
///
/// # Errors
/// A loss that does not go with the target; candle's.
pub fn of_term(term: &Term, x: &Tensor, target: &TargetBatch, all: &[TargetBatch]) -> Result<Tensor> {
    match *term {
        // Of more than two classes it is their cross entropy.
        Term::Bce if matches!(target.values, BatchValues::Channels(_)) && target.shape[1] > 2 => {
            cross_entropy(x, target, None, None)
        }
        Term::Bce => bce(x, target),
        Term::Dice { smooth } => dice(x, target, smooth),
        Term::Structure { window_px, edge_gain } => structure(x, target, window_px as usize, edge_gain),
        Term::Tversky { alpha, beta, smooth } => tversky(x, target, alpha, beta, smooth),
        Term::FocalTversky { alpha, beta, gamma, smooth } => focal_tversky(x, target, [alpha, beta, smooth], gamma),
        Term::Histo { bce, tversky, alpha, beta, smooth } => histo(x, target, [bce, tversky], [alpha, beta, smooth]),
        Term::AsymmetricFocal { gamma_positive, gamma_negative, clip } => {
            asymmetric_focal(x, target, [gamma_positive, gamma_negative], clip)
        }
        Term::Focal { alpha, gamma } => focal(x, target, alpha, gamma),
        Term::CrossEntropy { ref class_weights, coarse_weight } => {
            cross_entropy(x, target, class_weights.as_deref(), coarse_weight)
        }
        Term::Mse => mse(x, target),
        Term::Msge => msge(x, target, all),
        Term::Mae { relative_from } => mae(x, target, relative_from),
    }
}
