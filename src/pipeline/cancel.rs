//! How a run is asked to stop, and why.
//!
//! Owns: [`CancelToken`], [`StopReason`]. Must not know: signals (the command line maps them), stages.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

const GO: u8 = 0;
const NO_MORE_SLIDES: u8 = 1;
const STOP_SLIDES: u8 = 2;
const ABANDON: u8 = 3;

/// Why a run stopped before its last slide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The user or the scheduler asked for it.
    Asked,
    /// Its time is up: by the scheduler's word, or by `run.time_limit_secs`.
    Time,
    /// As many slides failed as `run.max_failures` allows.
    Failures,
    /// The output directory cannot be written any more; in words.
    Output(String),
}

#[derive(Debug, Default)]
struct State {
    level: AtomicU8,
    reason: OnceLock<StopReason>,
}

/// Shared by everything that runs. It only ever moves towards stopping.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<State>);

impl CancelToken {
    /// One more request to stop: the first lets slides in flight finish, the second drops them.
    pub fn request(&self) {
        let _ = self.0.reason.set(StopReason::Asked);
        let next = |level: u8| (level < STOP_SLIDES).then_some(level + 1);
        let _ = self.0.level.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// No further slide is to start, and those in flight are to be dropped if `drops_slides`. The first reason stays.
    pub fn stop(&self, reason: StopReason, drops_slides: bool) {
        let _ = self.0.reason.set(reason);
        self.0.level.fetch_max(if drops_slides { STOP_SLIDES } else { NO_MORE_SLIDES }, Ordering::AcqRel);
    }

    /// The run cannot go on: every thread leaves its loop.
    pub fn abandon(&self) {
        self.0.level.store(ABANDON, Ordering::Release);
    }

    /// No further slide may start.
    pub fn admits_slides(&self) -> bool {
        self.0.level.load(Ordering::Acquire) < NO_MORE_SLIDES
    }

    /// Slides in flight are to be dropped.
    pub fn stops_slides(&self) -> bool {
        self.0.level.load(Ordering::Acquire) >= STOP_SLIDES
    }

    /// Threads are to leave at once.
    pub fn is_abandoned(&self) -> bool {
        self.0.level.load(Ordering::Acquire) == ABANDON
    }

    /// Whether anybody asked for anything.
    pub fn is_cancelled(&self) -> bool {
        self.0.level.load(Ordering::Acquire) != GO
    }

    /// Why the run was asked to stop, if it was.
    pub fn reason(&self) -> Option<&StopReason> {
        self.0.reason.get()
    }
}
