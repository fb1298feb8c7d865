//! Progress as plain lines, for log files.
//!
//! Owns: [`Lines`]. Must not know: terminals.

use super::{SlideTally, Tally, clock, grouped};
use crate::pipeline::{Progress, SlideEnd, SlideStatus};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A line when a slide starts and ends, and one in between from time to time.
pub struct Lines {
    out: Mutex<Box<dyn Write + Send>>,
    tally: Tally,
    noun: &'static str,
    failures_only: bool,
    slides: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    passed: AtomicU64,
    interrupted: AtomicU64,
}

impl Lines {
    /// Lines to `out`; a slide in flight is mentioned once per `interval`; with `failures_only` no others are.
    pub fn new(out: Box<dyn Write + Send>, interval: Duration, noun: &'static str, failures_only: bool) -> Self {
        Self {
            out: Mutex::new(out),
            tally: Tally::new(interval),
            noun,
            failures_only,
            slides: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            interrupted: AtomicU64::new(0),
        }
    }

    fn say(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads it: that is no reason to stop a run.
        let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
    }
}

/// How far a slide is, in one line.
fn way(slide: &str, tally: &SlideTally, noun: &str) -> String {
    let left = tally.secs_left().map_or(String::new(), |secs| format!(", {} left", clock(secs)));
    format!(
        "{slide}: {} of {} tiles, {:.0} tiles/s, {} {noun}{left}",
        grouped(tally.done),
        grouped(tally.tiles),
        tally.tiles_per_sec(),
        grouped(tally.instances),
    )
}

/// What is noteworthy of a slide.
pub(super) fn warned(slide: &str, warning: &str) -> String {
    format!("{slide}: warning: {warning}")
}

/// How a slide ended, in one line, or two with a hint.
pub(super) fn ending(end: &SlideEnd<'_>, noun: &str, count: &str) -> String {
    match (end.error, end.status) {
        (Some(error), status) => {
            let hint = end.hint.map_or(String::new(), |hint| format!("\n  hint: {hint}"));
            format!("{}: {status}: {error}{count}{hint}", end.slide)
        }
        (None, SlideStatus::NoTissue) => format!("{}: no tissue, {}{count}", end.slide, clock(end.secs)),
        (None, status) => {
            format!("{}: {status}, {} {noun}, {}{count}", end.slide, grouped(end.instances), clock(end.secs))
        }
    }
}

/// What a run did, in one line: `done` slides of `all`.
pub(super) fn last_line((done, all): (u64, u64), failed: u64, passed: &str, secs: f64) -> String {
    let (slides, failed, secs) = (if all == 1 { "slide" } else { "slides" }, grouped(failed), clock(secs));
    if done < all {
        let (done, all) = (grouped(done), grouped(all));
        return format!("{done} of {all} {slides}{passed}, {failed} failed, {secs}; the same command goes on");
    }
    format!("{} {slides}{passed}, {failed} failed, {secs}", grouped(done))
}

impl Progress for Lines {
    fn run_started(&self, slides: u64) {
        self.slides.store(slides, Ordering::Relaxed);
        if !self.failures_only {
            self.say(&format!("{} slide{}", grouped(slides), if slides == 1 { "" } else { "s" }));
        }
    }

    fn slide_started(&self, slide: &str, tiles: u64) {
        self.tally.slide_started(slide, tiles);
        if !self.failures_only {
            self.say(&format!("{slide}: {} tiles", grouped(tiles)));
        }
    }

    fn slide_warned(&self, slide: &str, warning: &str) {
        if !self.failures_only {
            self.say(&warned(slide, warning));
        }
    }

    fn tiles_done(&self, slide: &str, tiles: u64, instances: u64) {
        let due = self.tally.tiles_done(slide, tiles, instances);
        if let Some(tally) = due.filter(|_| !self.failures_only) {
            self.say(&way(slide, &tally, self.noun));
        }
    }

    fn slide_passed(&self, slide: &str, status: SlideStatus) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.passed.fetch_add(1, Ordering::Relaxed);
        if status == SlideStatus::Deferred && !self.failures_only {
            self.say(&format!("{slide}: still being written, left for later"));
        }
    }

    fn slide_finished(&self, end: &SlideEnd<'_>) {
        self.tally.slide_finished(end.slide);
        let ended = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = end.status == SlideStatus::Failed;
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.interrupted.fetch_add(u64::from(end.status == SlideStatus::Interrupted), Ordering::Relaxed);
        if failed || !self.failures_only {
            let count = format!(" [{} of {}]", grouped(ended), grouped(self.slides.load(Ordering::Relaxed)));
            self.say(&ending(end, self.noun, &count));
        }
    }

    fn run_finished(&self) {
        if !self.failures_only {
            let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let done = of(&self.ended).saturating_sub(of(&self.interrupted));
            let passed = match self.passed.load(Ordering::Relaxed) {
                0 => String::new(),
                passed => format!(" ({} with nothing to do)", grouped(passed)),
            };
            self.say(&last_line((done, of(&self.slides)), of(&self.failed), &passed, self.tally.run_secs()));
        }
    }
}
