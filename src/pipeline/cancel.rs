//! How a run is asked to stop.
//!
//! Owns: [`CancelToken`]. Must not know: signals (the command line maps them), stages.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

const GO: u8 = 0;
const NO_MORE_SLIDES: u8 = 1;
const STOP_SLIDES: u8 = 2;
const ABANDON: u8 = 3;

/// Shared by everything that runs. It only ever moves towards stopping.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicU8>);

impl CancelToken {
    /// One more request to stop: the first lets slides in flight finish, the second drops them.
    pub fn request(&self) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |s| (s < STOP_SLIDES).then_some(s + 1));
    }

    /// The run cannot go on: every thread leaves its loop.
    pub fn abandon(&self) {
        self.0.store(ABANDON, Ordering::Release);
    }

    /// No further slide may start.
    pub fn admits_slides(&self) -> bool {
        self.0.load(Ordering::Acquire) < NO_MORE_SLIDES
    }

    /// Slides in flight are to be dropped.
    pub fn stops_slides(&self) -> bool {
        self.0.load(Ordering::Acquire) >= STOP_SLIDES
    }

    /// Threads are to leave at once.
    pub fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::Acquire) == ABANDON
    }

    /// Whether anybody asked for anything.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) != GO
    }
}
