//! One step of the flow, and the one loop that drives it.
//!
//! Owns: [`Stage`], [`Emit`], [`drive`]. Must not know: what any stage does.
//!
//! # Error handling
//! A slide's own error is not here: it goes to `SlideJob::fail` and the slide drains as skipped tiles. A stage
//! returns [`StageStop::Run`] only for what ends the run.
//!
//! # Stopping
//! A dropped receiver makes [`Emit::emit`] return [`Stopped`]; a dropped sender ends the loop. The token is checked
//! between items.

use crate::{error::RunError, pipeline::cancel::CancelToken};
use crossbeam_channel::{Receiver, Sender};

/// The other end is gone: wind down quietly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Where a stage's output goes. `Vec<T>` implements it, so a stage is tested without a thread.
pub trait Emit<T> {
    /// Hands `item` on; waits when the next stage is busy.
    ///
    /// # Errors
    /// [`Stopped`] when nobody takes items any more.
    fn emit(&mut self, item: T) -> Result<(), Stopped>;
}

impl<T> Emit<T> for Vec<T> {
    fn emit(&mut self, item: T) -> Result<(), Stopped> {
        self.push(item);
        Ok(())
    }
}

impl<T> Emit<T> for Sender<T> {
    fn emit(&mut self, item: T) -> Result<(), Stopped> {
        self.send(item).map_err(|_| Stopped)
    }
}

/// Sends each item to the thread that owns its slide.
pub struct Router<T> {
    senders: Vec<Sender<T>>,
    slot_of: fn(&T) -> usize,
}

impl<T> Router<T> {
    /// Routes by `slot_of(item)`, an index into `senders`.
    pub fn new(senders: Vec<Sender<T>>, slot_of: fn(&T) -> usize) -> Self {
        Self { senders, slot_of }
    }
}

impl<T> Clone for Router<T> {
    fn clone(&self) -> Self {
        Self { senders: self.senders.clone(), slot_of: self.slot_of }
    }
}

impl<T> Emit<T> for Router<T> {
    fn emit(&mut self, item: T) -> Result<(), Stopped> {
        let slot = (self.slot_of)(&item);
        self.senders[slot].send(item).map_err(|_| Stopped)
    }
}

/// Why a stage stopped early.
#[derive(Debug)]
pub enum StageStop {
    /// The next stage is gone.
    Downstream,
    /// The run cannot go on.
    Run(RunError),
}

impl From<Stopped> for StageStop {
    fn from(_: Stopped) -> Self {
        Self::Downstream
    }
}

impl From<RunError> for StageStop {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

/// One step: a plain struct without threads.
pub trait Stage: Send {
    /// What it takes.
    type In: Send;
    /// What it gives.
    type Out: Send;

    /// Handles one item; may emit none, one or many.
    ///
    /// # Errors
    /// [`StageStop`]; the item's slide failing is not an error of the stage.
    fn process(&mut self, item: Self::In, out: &mut dyn Emit<Self::Out>) -> Result<(), StageStop>;

    /// Called once after the last item, unless the run was stopped.
    ///
    /// # Errors
    /// [`StageStop`].
    fn finish(&mut self, out: &mut dyn Emit<Self::Out>) -> Result<(), StageStop> {
        let _ = out;
        Ok(())
    }
}

/// Receives until the queue closes or the run is stopped.
///
/// # Errors
/// The [`RunError`] of the stage; the token is then cancelled, so that every other thread winds down.
pub fn drive<S: Stage>(
    mut stage: S,
    receiver: Receiver<S::In>,
    mut out: impl Emit<S::Out>,
    cancel: &CancelToken,
) -> Result<(), RunError> {
    let mut run = || -> Result<(), StageStop> {
        for item in &receiver {
            if cancel.is_abandoned() {
                return Ok(());
            }
            stage.process(item, &mut out)?;
        }
        stage.finish(&mut out)
    };
    match run() {
        Ok(()) | Err(StageStop::Downstream) => Ok(()),
        Err(StageStop::Run(error)) => {
            cancel.abandon();
            Err(error)
        }
    }
}
