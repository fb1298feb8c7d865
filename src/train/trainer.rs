//! The loop: epochs of steps, validations, checkpoints, until it is done, is asked to stop, or cannot go on.
//!
//! Owns: [`Trainer`], [`Outcome`]. Must not know: which network learns, files' layouts, the terminal.
//!
//! All that a step depends on is in the checkpoint or follows from the seed and the position: a training that is killed
//! at any moment and started again goes on from its last checkpoint and ends in the same bits.

mod state;

use super::{
    BatchMaker, Checkpoint, TrainError, TrainEvent, TrainProgress,
    history::History,
    learner::Learner,
    loader::{Readers, for_each_batch},
    outcome::Files,
    schedule::Schedule,
    validation::Validation,
};
use crate::{
    config::settings::{BestBy, Train},
    model::{Head, graph::Graph, weights::WeightsMetadata},
};
use state::{Best, State};
use std::{
    ops::{ControlFlow, Range},
    time::{Duration, Instant},
};

/// Judges weights by a number of its own, higher is better, and others.
pub trait Judge: Sync {
    /// Names of the numbers, the deciding one first.
    fn names(&self) -> Vec<String>;

    /// The numbers of these weights.
    ///
    /// # Errors
    /// Whatever keeps it from judging.
    fn judge(&self, weights: &crate::model::weights::Weights) -> Result<Vec<f64>, TrainError>;
}

/// Everything a training needs.
pub struct Trainer<'a> {
    /// How it learns.
    pub train: &'a Train,
    /// The network as it will be used.
    pub graph: &'a Graph,
    /// What its weights will say of themselves.
    pub metadata: WeightsMetadata,
    /// Prefixes of the tensors that do not learn in the first phase.
    pub frozen: Vec<String>,
    /// Samples to learn from.
    pub training: BatchMaker<'a>,
    /// Samples to be judged by.
    pub validation: BatchMaker<'a>,
    /// Who else judges.
    pub judge: Option<&'a dyn Judge>,
    /// Threads that read.
    pub readers: Readers,
    /// Where everything is kept.
    pub files: Files,
    /// What settings a checkpoint must have to be gone on with, as JSON.
    pub fingerprint: serde_json::Value,
    /// What the first event says.
    pub summary: Vec<String>,
    /// Who is told.
    pub progress: &'a dyn TrainProgress,
    /// Whether it is to stop, after the step it is in.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done, or validation does not get better any more.
    Finished,
    /// It was asked to stop; the same command goes on.
    Stopped,
}

/// A training under way.
struct Run<'t, 'a> {
    t: &'t Trainer<'a>,
    learner: Learner,
    schedule: Schedule,
    state: State,
    history: History,
    kept_at: Instant,
    /// Of this process: when it began, and seconds of its last steps.
    begun: Instant,
    secs_before: f64,
    pace: Option<f64>,
    validation_secs: f64,
}

impl Trainer<'_> {
    /// Trains, or goes on where the last process stopped.
    ///
    /// # Errors
    /// A checkpoint of other settings; a sample that cannot be read; a loss or gradient that is not finite; a file that
    /// cannot be written. The last checkpoint stays.
    pub fn run(&self, learner: Learner) -> Result<Outcome, TrainError> {
        if self.steps_of(0) == 0 {
            return Err(TrainError::new("there is nothing to learn from: no samples").hint("see `data`"));
        }
        let validation = self.new_validation();
        let mut metrics = validation.names();
        metrics.extend(self.judge.map(Judge::names).unwrap_or_default());
        let outputs: Vec<&str> = self.graph.outputs().iter().map(|o| o.name).collect();
        let mut run = Run {
            t: self,
            learner,
            schedule: Schedule::new(self.train),
            state: State::default(),
            history: History::new(&outputs, &metrics),
            kept_at: Instant::now(),
            begun: Instant::now(),
            secs_before: 0.0,
            pace: None,
            validation_secs: 0.0,
        };
        run.go_on()?;
        let begun = TrainEvent::Begun {
            step: run.state.step,
            steps: self.total_steps(),
            epochs: self.train.epochs,
            summary: self.summary.clone(),
        };
        self.progress.tell(&begun);
        if run.state.is_finished {
            return Ok(Outcome::Finished);
        }
        match run.epochs() {
            Err(error) => {
                // What it had learned before is worth keeping; the error above is the one to tell.
                let _ = run.write_last();
                Err(error)
            }
            ended => ended,
        }
    }

    fn batch_size(&self, epoch: u32) -> usize {
        let frozen = self.train.freeze.as_ref().filter(|freeze| epoch < freeze.epochs);
        frozen.and_then(|freeze| freeze.batch_size).unwrap_or(self.train.batch_size) as usize
    }

    /// Batches of an epoch: whole ones, or the only one.
    fn batches_of(&self, epoch: u32) -> Vec<Range<usize>> {
        let (len, size) = (self.training.samples.len(), self.batch_size(epoch));
        let size = if len < size { len.max(1) } else { size };
        (0..len / size).map(|b| b * size..(b + 1) * size).collect()
    }

    fn steps_of(&self, epoch: u32) -> u64 {
        let (len, size) = (self.training.samples.len(), self.batch_size(epoch));
        (len / size).max(usize::from(len > 0)) as u64
    }

    /// Steps of all epochs.
    pub fn total_steps(&self) -> u64 {
        let frozen = self.train.freeze.as_ref().map_or(0, |freeze| freeze.epochs.min(self.train.epochs));
        let after = u64::from(self.train.epochs - frozen) * self.steps_of(self.train.epochs);
        u64::from(frozen) * self.steps_of(0) + after
    }

    fn new_validation(&self) -> Validation {
        let of = |o: &crate::model::graph::Output| -> (&'static str, Head, usize) {
            (o.name, o.head, self.graph.channels(o.node))
        };
        Validation::new(&self.graph.outputs().iter().map(of).collect::<Vec<_>>())
    }

    /// Whether a tensor learns in an epoch.
    fn is_learning(&self, name: &str, epoch: u32) -> bool {
        let starts = |prefixes: &[String]| prefixes.iter().any(|p| name.starts_with(p.as_str()));
        let is_later = self.train.freeze.as_ref().is_none_or(|freeze| epoch >= freeze.epochs);
        let in_phase = is_later || !starts(&self.frozen);
        in_phase && self.train.only_prefixes.as_ref().is_none_or(|only| starts(only))
    }
}

impl Run<'_, '_> {
    /// Takes back what the last process kept.
    fn go_on(&mut self) -> Result<(), TrainError> {
        let path = self.t.files.checkpoint();
        if !path.exists() {
            return Ok(());
        }
        let mut checkpoint = Checkpoint::read(&path)?;
        self.state = State::read(&checkpoint.state, &self.t.fingerprint, &path)?;
        self.learner.load(&mut checkpoint, &self.state.tensor_steps)?;
        let mut table = |name: &str| checkpoint.tables.remove(name).unwrap_or_default();
        (self.history.steps.values, self.history.epochs.values) = (table("steps"), table("epochs"));
        self.secs_before = self.state.secs;
        Ok(())
    }

    fn secs(&self) -> f64 {
        self.secs_before + self.begun.elapsed().as_secs_f64()
    }

    fn keep(&mut self) -> Result<(), TrainError> {
        let mut checkpoint = Checkpoint::default();
        self.state.tensor_steps = self.learner.save(&mut checkpoint)?;
        self.state.secs = self.secs();
        checkpoint.state = self.state.to_json(&self.t.fingerprint);
        checkpoint.tables.insert("steps".to_owned(), self.history.steps.values.clone());
        checkpoint.tables.insert("epochs".to_owned(), self.history.epochs.values.clone());
        checkpoint.write(&self.t.files.checkpoint())?;
        self.kept_at = Instant::now();
        self.t.progress.tell(&TrainEvent::Kept { step: self.state.step });
        Ok(())
    }

    fn epochs(&mut self) -> Result<Outcome, TrainError> {
        while self.state.epoch < self.t.train.epochs && !self.state.is_finished {
            if self.epoch()?.is_break() {
                self.keep()?;
                self.t.files.write_history(&self.history)?;
                return Ok(Outcome::Stopped);
            }
            self.end_epoch()?;
        }
        self.state.is_finished = true;
        self.keep()?;
        self.write_last()?;
        Ok(Outcome::Finished)
    }

    /// The rest of the steps of an epoch.
    fn epoch(&mut self) -> Result<ControlFlow<()>, TrainError> {
        let (t, epoch) = (self.t, self.state.epoch);
        let ranges = t.batches_of(epoch);
        let rest = &ranges[(self.state.step_of_epoch as usize).min(ranges.len())..];
        let make = |range: Range<usize>| t.training.make(range, u64::from(epoch));
        self.learner.learn_only(|name| t.is_learning(name, epoch));
        let mut flow = ControlFlow::Continue(());
        for_each_batch(rest, t.readers, &make, |batch| {
            if (t.stop)() {
                flow = ControlFlow::Break(());
                return Ok(flow);
            }
            self.step(&batch, ranges.len() as u64)?;
            if self.kept_at.elapsed() >= Duration::from_secs(t.train.checkpoint_secs) {
                self.keep()?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(flow)
    }

    fn step(&mut self, batch: &super::Batch, steps_of_epoch: u64) -> Result<(), TrainError> {
        let begun = Instant::now();
        let (t, epoch, step) = (self.t, self.state.epoch, self.state.step);
        let frozen = t.train.freeze.as_ref().filter(|freeze| epoch < freeze.epochs);
        let base = frozen.and_then(|freeze| freeze.learning_rate).unwrap_or(t.train.learning_rate);
        let of_epoch = (self.state.step_of_epoch, steps_of_epoch);
        let learning_rate = base * self.schedule.factor(step, epoch, of_epoch, &self.state.plateau);
        let result = self.learner.step(batch, step, learning_rate)?;
        self.state.step += 1;
        self.state.step_of_epoch += 1;
        let row =
            [self.state.step as f64, f64::from(epoch), learning_rate, result.loss, result.gradient_norm, self.secs()];
        self.history.steps.push(row.into_iter().chain(result.parts.iter().copied()));
        let secs = begun.elapsed().as_secs_f64();
        let pace = self.pace.map_or(secs, |pace| pace + 0.05 * (secs - pace));
        self.pace = Some(pace);
        let steps = t.total_steps();
        let epochs_left = f64::from((t.train.epochs - epoch) / t.train.validate_every_epochs);
        t.progress.tell(&TrainEvent::Stepped {
            step: self.state.step,
            steps,
            epoch: epoch + 1,
            loss: result.loss,
            learning_rate,
            secs_per_step: pace,
            secs_left: (steps - self.state.step) as f64 * pace + epochs_left * self.validation_secs,
        });
        Ok(())
    }

    /// Judges, keeps the best, keeps everything.
    fn end_epoch(&mut self) -> Result<(), TrainError> {
        let (t, epoch) = (self.t, self.state.epoch);
        let is_last = epoch + 1 == t.train.epochs;
        self.state.epoch += 1;
        self.state.step_of_epoch = 0;
        if (epoch + 1) % t.train.validate_every_epochs == 0 || is_last {
            self.validate(epoch)?;
        }
        self.t.files.write_history(&self.history)?;
        self.keep()
    }

    fn validate(&mut self, epoch: u32) -> Result<(), TrainError> {
        let begun = Instant::now();
        let t = self.t;
        let (losses, loss, metrics, weights) = self.learner.with_average(|learner| {
            let mut validation = t.new_validation();
            let (len, size) = (t.validation.samples.len(), t.train.batch_size as usize);
            let ranges: Vec<Range<usize>> =
                (0..len.div_ceil(size)).map(|b| b * size..((b + 1) * size).min(len)).collect();
            for_each_batch(&ranges, t.readers, &|range| t.validation.make(range, 0), |batch| {
                let (parts, answers) = learner.judge(&batch)?;
                validation.add(&parts, &answers, &batch.targets)?;
                Ok(ControlFlow::Continue(()))
            })?;
            let weights = learner.weights(t.graph, t.metadata.clone())?;
            Ok((validation.losses(), validation.loss(), validation.metrics(), weights))
        })?;
        let judged = t.judge.map(|judge| judge.judge(&weights)).transpose()?;
        let known: Vec<f64> = metrics.iter().copied().filter(|m| !m.is_nan()).collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let score = judged.as_ref().and_then(|numbers| numbers.first().copied()).unwrap_or(mean);
        let training_loss = self.history.training_loss(epoch);
        let least_change = t.train.early_stop.map_or(0.0, |stop| stop.least_change);
        // Without anything to be judged by, the last weights are the best.
        let value = match t.train.best_by {
            BestBy::Loss => -loss,
            BestBy::Score => score,
        };
        let is_best = value.is_nan() && self.state.best.is_none()
            || loss.is_nan() && score.is_nan()
            || self.state.best.is_none_or(|best| best.value.is_nan() || value > best.value + least_change);
        if is_best {
            self.state.best = Some(Best { value, epoch });
            t.files.write_weights(&weights)?;
        }
        self.state.waited = if is_best { 0 } else { self.state.waited + 1 };
        self.schedule.validated(is_best, &mut self.state.plateau);
        if t.train.early_stop.is_some_and(|stop| self.state.waited >= stop.patience_validations) {
            self.state.is_finished = true;
        }
        let row = [
            f64::from(epoch),
            self.state.step as f64,
            training_loss,
            loss,
            score,
            f64::from(u8::from(is_best)),
            self.secs(),
        ];
        let numbers = metrics.iter().copied().chain(judged.iter().flatten().copied());
        self.history.epochs.push(row.into_iter().chain(losses).chain(numbers.clone()));
        self.validation_secs = begun.elapsed().as_secs_f64();
        let names = self.history.epochs.columns.iter().rev().take(numbers.clone().count()).rev().cloned();
        t.progress.tell(&TrainEvent::Validated {
            epoch: epoch + 1,
            epochs: t.train.epochs,
            training_loss,
            validation_loss: loss,
            metrics: names.zip(numbers).collect(),
            is_best,
        });
        Ok(())
    }

    fn write_last(&mut self) -> Result<(), TrainError> {
        let t = self.t;
        let weights = self.learner.with_average(|learner| learner.weights(t.graph, t.metadata.clone()))?;
        t.files.write_last(&weights)?;
        t.files.write_history(&self.history)
    }
}
