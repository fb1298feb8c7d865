//! A network that learns: its values, what the optimiser remembers, the moving average.
//!
//! Owns: [`Learner`], [`StepResult`]. Must not know: where batches come from, epochs, files.

use super::{
    TrainError,
    batch::Batch,
    checkpoint::Checkpoint,
    ema, gradient,
    loss::{LossValue, Losses},
    optimiser::{Moments, Optimiser},
    rng::Rng,
};
use crate::{
    config::settings::Train,
    model::{
        autograd::{Mode, Network},
        graph::{Graph, IDENTITY_VAR, Init, NORM_SUFFIX, fold_batch_norm},
        weights::{Weights, WeightsMetadata},
    },
};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::{HashMap, HashSet};

/// A network that learns.
pub struct Learner {
    network: Network,
    losses: Losses,
    optimiser: Optimiser,
    clip_value: Option<f64>,
    clip_norm: Option<f64>,
    ema_decay: Option<f64>,
    seed: u64,
    learned: Vec<Learned>,
}

/// A tensor that changes in training.
struct Learned {
    name: String,
    var: Var,
    shape: Vec<usize>,
    moments: Moments,
    /// Empty without a moving average.
    average: Vec<f32>,
    /// Statistics of normalisations do not, but are averaged.
    can_learn: bool,
    is_learning: bool,
}

/// What a step was.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Loss; NaN when nothing was known of the batch, which then taught nothing.
    pub loss: f64,
    /// Loss of each output.
    pub parts: Vec<f64>,
    /// Length of the gradient before it was clipped.
    pub gradient_norm: f64,
}

fn failed(what: &str) -> impl Fn(candle_core::Error) -> TrainError + '_ {
    move |e| TrainError::new(format!("{what}: {e}"))
}

impl Learner {
    /// A network with its first weights; with `batch_norm` it learns with normalisations that its result takes in.
    ///
    /// # Errors
    /// Candle's.
    pub fn new(
        graph: &Graph,
        weights: &Weights,
        losses: Losses,
        train: &Train,
        batch_norm: bool,
    ) -> Result<Self, TrainError> {
        let graph = if batch_norm { graph.with_batch_norms() } else { graph.clone() };
        // A normalisation that the weights do not have changes nothing at first.
        let all = Weights::from_fn(&graph, weights.metadata.clone(), |p| match (weights.get(&p.name), p.init) {
            (Some(tensor), _) => tensor.values.clone(),
            (None, _) if p.name.ends_with(".running_var") => vec![IDENTITY_VAR; p.len()],
            (None, Init::Constant(value)) => vec![value as f32; p.len()],
            (None, _) => unreachable!("only normalisations are added"),
        });
        let network = Network::new(graph.with_logits(), &all, DType::F32, &Device::Cpu)
            .map_err(failed("the network cannot be made"))?;
        let learnable: HashSet<String> = network.weights().into_iter().map(|(name, _)| name).collect();
        let learned = network.values().into_iter().map(|(name, var)| {
            let can_learn = learnable.contains(&name);
            let average = if train.ema.is_some() { values_of(&var)? } else { vec![] };
            Ok(Learned {
                name,
                shape: var.dims().to_vec(),
                var,
                moments: Moments::default(),
                average,
                can_learn,
                is_learning: can_learn,
            })
        });
        let learned = learned.collect::<Result<_, candle_core::Error>>().map_err(failed("weights cannot be read"))?;
        Ok(Self {
            network,
            losses,
            optimiser: Optimiser::new(train.optimiser),
            clip_value: train.clip_value,
            clip_norm: train.clip_norm,
            ema_decay: train.ema.map(|ema| ema.decay),
            seed: train.seed,
            learned,
        })
    }

    /// From here on only tensors of these names learn; what does not costs nothing in a backward pass, and stays as it
    /// is in the result: statistics of its normalisations do not move either.
    pub fn learn_only(&mut self, is_learning: impl Fn(&str) -> bool) {
        self.network.freeze(|name| !is_learning(name));
        self.network.hold_statistics(|name| !is_learning(name));
        self.learned
            .iter_mut()
            .for_each(|learned| learned.is_learning = learned.can_learn && is_learning(&learned.name));
    }

    /// Learns from a batch.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, with the names of the batch's samples: then nothing has changed but batch
    /// normalisation's statistics. Candle's.
    pub fn step(&mut self, batch: &Batch, step: u64, learning_rate: f64) -> Result<StepResult, TrainError> {
        let mode = Mode::train(Rng::new(&[self.seed, step, 0x6472_6f70]).bits());
        let value = self.loss(batch, mode)?;
        let Some(total) = value.total else {
            return Ok(StepResult { loss: f64::NAN, parts: value.parts, gradient_norm: 0.0 });
        };
        let loss = f64::from(total.to_scalar::<f32>().map_err(failed("the loss cannot be read"))?);
        if !loss.is_finite() {
            return Err(not_finite("the loss", loss, step, batch));
        }
        let gradients = total.backward().map_err(failed("the backward pass failed"))?;
        let learning: Vec<usize> = (0..self.learned.len()).filter(|&i| self.learned[i].is_learning).collect();
        let mut values: Vec<Vec<f32>> = vec![];
        let mut taught: Vec<usize> = vec![];
        for &i in &learning {
            // What no answer of this batch depends on has no gradient.
            let Some(gradient) = gradients.get(&self.learned[i].var) else { continue };
            values.push(tensor_values(gradient).map_err(failed("a gradient cannot be read"))?);
            taught.push(i);
        }
        drop(gradients);
        let gradient_norm = gradient::clip(&mut values, self.clip_value, self.clip_norm);
        if !gradient_norm.is_finite() {
            return Err(not_finite("the gradient", gradient_norm, step, batch));
        }
        for (&i, gradient) in taught.iter().zip(&values) {
            self.learned[i].learn(gradient, &self.optimiser, learning_rate)?;
        }
        if let Some(decay) = self.ema_decay {
            for learned in &mut self.learned {
                let values = values_of(&learned.var).map_err(failed("weights cannot be read"))?;
                ema::update(&mut learned.average, &values, decay, step);
            }
        }
        Ok(StepResult { loss, parts: value.parts, gradient_norm })
    }

    /// Loss and answers of a batch of validation.
    ///
    /// # Errors
    /// Candle's.
    pub fn judge(&self, batch: &Batch) -> Result<(Vec<f64>, Vec<Tensor>), TrainError> {
        let answers = self.answers(batch, Mode::INFER)?;
        let value = self.losses.of(&answers, &batch.targets).map_err(failed("the loss failed"))?;
        Ok((value.parts, answers))
    }

    fn answers(&self, batch: &Batch, mode: Mode) -> Result<Vec<Tensor>, TrainError> {
        self.network.forward_of_kinds(&batch.images, &batch.kinds, mode).map_err(failed("the forward pass failed"))
    }

    fn loss(&self, batch: &Batch, mode: Mode) -> Result<LossValue, TrainError> {
        let answers = self.answers(batch, mode)?;
        self.losses.of(&answers, &batch.targets).map_err(failed("the loss failed"))
    }

    /// Runs `f` with the moving average in the network's place, if there is one.
    ///
    /// # Errors
    /// Those of `f`; candle's.
    pub fn with_average<T>(&mut self, f: impl FnOnce(&Self) -> Result<T, TrainError>) -> Result<T, TrainError> {
        if self.ema_decay.is_none() {
            return f(self);
        }
        let mut own = vec![];
        for learned in &self.learned {
            own.push(values_of(&learned.var).map_err(failed("weights cannot be read"))?);
            learned.set(&learned.average)?;
        }
        let result = f(self);
        for (learned, values) in self.learned.iter().zip(&own) {
            learned.set(values)?;
        }
        result
    }

    /// The network's values as weights of `graph`.
    ///
    /// # Errors
    /// Candle's.
    pub fn weights(&self, graph: &Graph, metadata: WeightsMetadata) -> Result<Weights, TrainError> {
        let mut values: HashMap<String, Vec<f32>> = self
            .network
            .values()
            .into_iter()
            .map(|(name, var)| Ok((name, values_of(&var)?)))
            .collect::<Result<_, candle_core::Error>>()
            .map_err(failed("weights cannot be read"))?;
        take_in_norms(graph, &mut values);
        Ok(Weights::from_fn(graph, metadata, |p| values[&p.name].clone()))
    }

    /// Puts everything that changes in training into a checkpoint; gives the steps of each tensor.
    ///
    /// # Errors
    /// Candle's.
    pub fn save(&self, checkpoint: &mut Checkpoint) -> Result<Vec<u64>, TrainError> {
        for (name, var) in self.network.values() {
            let values = values_of(&var).map_err(failed("weights cannot be read"))?;
            checkpoint.values.insert(format!("value/{name}"), values);
        }
        for learned in &self.learned {
            let mut put = |kind: &str, values: &Vec<f32>| {
                if !values.is_empty() {
                    checkpoint.values.insert(format!("{kind}/{}", learned.name), values.clone());
                }
            };
            put("first", &learned.moments.first);
            put("second", &learned.moments.second);
            put("average", &learned.average);
        }
        Ok(self.learned.iter().map(|l| l.moments.steps).collect())
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// A checkpoint of another network; candle's.
    pub fn load(&mut self, checkpoint: &mut Checkpoint, steps: &[u64]) -> Result<(), TrainError> {
        let lacks = |name: &str| TrainError::new(format!("checkpoint lacks `{name}`"));
        if steps.len() != self.learned.len() {
            return Err(TrainError::new("checkpoint is of another network"));
        }
        for (name, var) in self.network.values() {
            let key = format!("value/{name}");
            let values = checkpoint.values.remove(&key).ok_or_else(|| lacks(&key))?;
            set(&var, &values)?;
        }
        for (learned, &steps) in self.learned.iter_mut().zip(steps) {
            let mut take = |kind: &str| checkpoint.values.remove(&format!("{kind}/{}", learned.name));
            learned.moments.first = take("first").unwrap_or_default();
            learned.moments.second = take("second").unwrap_or_default();
            learned.moments.steps = steps;
            if self.ema_decay.is_some() {
                learned.average = take("average").ok_or_else(|| lacks("average"))?;
            }
        }
        Ok(())
    }
}

impl Learned {
    fn learn(&mut self, gradient: &[f32], optimiser: &Optimiser, learning_rate: f64) -> Result<(), TrainError> {
        let mut values = values_of(&self.var).map_err(failed("weights cannot be read"))?;
        optimiser.step(&mut values, gradient, &mut self.moments, learning_rate);
        self.set(&values)
    }

    fn set(&self, values: &[f32]) -> Result<(), TrainError> {
        debug_assert_eq!(values.len(), self.shape.iter().product::<usize>());
        set(&self.var, values)
    }
}

/// Takes normalisations that `graph` does not have into its convolutions.
fn take_in_norms(graph: &Graph, values: &mut HashMap<String, Vec<f32>>) {
    let own: HashSet<String> = graph.parameters().into_iter().map(|p| p.name).collect();
    let marker = format!("{NORM_SUFFIX}.running_var");
    let added: Vec<String> = values
        .keys()
        .filter(|name| !own.contains(*name))
        .filter_map(|name| name.strip_suffix(marker.as_str()).map(str::to_owned))
        .collect();
    for conv in added {
        let norm = ["weight", "bias", "running_mean", "running_var"]
            .map(|part| values.remove(&format!("{conv}{NORM_SUFFIX}.{part}")).unwrap_or_default());
        let mut weights = values.remove(&format!("{conv}.weight")).unwrap_or_default();
        let mut bias = values.remove(&format!("{conv}.bias")).unwrap_or_default();
        fold_batch_norm(&mut weights, &mut bias, norm.each_ref().map(Vec::as_slice));
        values.insert(format!("{conv}.weight"), weights);
        values.insert(format!("{conv}.bias"), bias);
    }
}

fn set(var: &Var, values: &[f32]) -> Result<(), TrainError> {
    Tensor::from_slice(values, var.shape(), var.device())
        .and_then(|tensor| var.set(&tensor))
        .map_err(failed("weights cannot be set"))
}

fn values_of(var: &Var) -> candle_core::Result<Vec<f32>> {
    tensor_values(&var.as_detached_tensor())
}

fn tensor_values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

fn not_finite(what: &str, value: f64, step: u64, batch: &Batch) -> TrainError {
    let names = batch.names.join(", ");
    TrainError::new(format!("{what} of step `{}` is `{value}`, of the batch: {names}", step + 1)).hint(
        "look at these samples; else lower `train.learning_rate` or set `train.clip_norm`. `last.safetensors` holds the \
         weights before this step: `model.start` takes them, with another `output.dir`",
    )
}
