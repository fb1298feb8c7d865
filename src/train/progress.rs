//! What a training tells of itself while it runs.
//!
//! Owns: [`TrainEvent`], [`TrainProgress`]. Must not know: the terminal.

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainEvent {
    /// It begins, or goes on.
    Begun {
        /// Steps done before; 0 for a new training.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Epochs in all.
        epochs: u32,
        /// What it learns from, a line per data set, and what it is.
        summary: Vec<String>,
    },
    /// A step was made.
    Stepped {
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// The epoch, from 1.
        epoch: u32,
        /// Its loss; NaN when nothing was known.
        loss: f64,
        /// Learning rate.
        learning_rate: f64,
        /// Seconds this process takes per step, a mean of the last ones.
        secs_per_step: f64,
        /// Seconds left, validations included.
        secs_left: f64,
    },
    /// An epoch was judged.
    Validated {
        /// The epoch, from 1.
        epoch: u32,
        /// Epochs in all.
        epochs: u32,
        /// Mean loss of its steps.
        training_loss: f64,
        /// Loss of the validation split; NaN without one.
        validation_loss: f64,
        /// Other numbers by name.
        metrics: Vec<(String, f64)>,
        /// Whether these weights are the best so far.
        is_best: bool,
    },
    /// All is kept: a training that is killed goes on from here.
    Kept {
        /// Steps done.
        step: u64,
    },
}

/// Who is told.
pub trait TrainProgress: Sync {
    /// Takes note.
    fn tell(&self, event: &TrainEvent);
}

/// Nobody.
impl TrainProgress for () {
    fn tell(&self, _: &TrainEvent) {}
}
