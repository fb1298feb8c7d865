//! Progress as bars on a terminal: one for the batch, one per slide in flight.
//!
//! Owns: [`Bars`]. Must not know: log files.

use super::lines::{ending, last_line, warned};
use super::{clock, grouped};
use crate::pipeline::{Progress, SlideEnd, SlideStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Widest slide name shown in full.
const NAME_CHARS: usize = 28;

/// Bars. indicatif draws at most 20 times a second, whatever the number of events.
pub struct Bars {
    multi: MultiProgress,
    noun: &'static str,
    started: Instant,
    batch: ProgressBar,
    slides: Mutex<HashMap<String, SlideBar>>,
    failed: AtomicU64,
    interrupted: AtomicU64,
}

struct SlideBar {
    bar: ProgressBar,
    instances: Arc<AtomicU64>,
}

impl Bars {
    /// Bars drawn by `multi`.
    pub fn new(multi: MultiProgress, noun: &'static str) -> Self {
        let batch = ProgressBar::no_length()
            .with_style(style("{prefix:28!} [{bar:30.green/dim}] {pos}/{len} slides  {msg}{elapsed}{left}"))
            .with_prefix("batch");
        let batch = multi.add(batch);
        Self {
            multi,
            noun,
            started: Instant::now(),
            batch,
            slides: Mutex::default(),
            failed: AtomicU64::new(0),
            interrupted: AtomicU64::new(0),
        }
    }

    /// What draws the bars, for messages that must stand above them.
    pub fn multi(&self) -> MultiProgress {
        self.multi.clone()
    }

    /// Slides that are over.
    pub fn slides_done(&self) -> u64 {
        self.batch.position()
    }

    // A panic elsewhere leaves bars that are still right.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, SlideBar>> {
        self.slides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: &str) {
        // Nobody sees it: that is no reason to stop a run.
        let _ = self.multi.println(text);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are tested")
        .progress_chars("━╸─")
        .with_key("elapsed", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&clock(state.elapsed().as_secs_f64()));
        })
        .with_key("speed", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.0} tiles/s", state.per_sec());
        })
        // Nothing is known of the time left before something is done.
        .with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
            if state.pos() > 0 {
                let _ = write!(out, "  {} left", clock(state.eta().as_secs_f64()));
            }
        })
}

/// The end of a long name tells more than its beginning.
fn short(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME_CHARS {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(count + 1 - NAME_CHARS).collect();
    format!("…{tail}")
}

impl Progress for Bars {
    fn run_started(&self, slides: u64) {
        self.batch.set_length(slides);
        self.batch.reset_elapsed();
        self.batch.tick();
    }

    fn slide_started(&self, slide: &str, tiles: u64) {
        let instances = Arc::new(AtomicU64::new(0));
        let (found, noun) = (Arc::clone(&instances), self.noun);
        // The count is written when the bar is drawn, not for every batch.
        let style = style("{prefix:28!} [{bar:30.cyan/dim}] {human_pos}/{human_len} tiles  {speed}  {found}{left}")
            .with_key("found", move |_: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{} {noun}", grouped(found.load(Ordering::Relaxed)));
            });
        let bar = self.multi.insert_before(&self.batch, ProgressBar::new(tiles).with_style(style));
        bar.set_prefix(short(slide));
        self.lock().insert(slide.to_owned(), SlideBar { bar, instances });
    }

    fn slide_warned(&self, slide: &str, warning: &str) {
        self.say(&warned(slide, warning));
    }

    fn tiles_done(&self, slide: &str, tiles: u64, instances: u64) {
        if let Some(slide) = self.lock().get(slide) {
            slide.instances.fetch_add(instances, Ordering::Relaxed);
            slide.bar.inc(tiles);
        }
    }

    fn slide_passed(&self, _: &str, _: SlideStatus) {
        self.batch.inc(1);
    }

    fn slide_finished(&self, end: &SlideEnd<'_>) {
        let slide = self.lock().remove(end.slide);
        if let Some(slide) = slide {
            slide.bar.finish_and_clear();
            self.multi.remove(&slide.bar);
        }
        self.say(&ending(end, self.noun, ""));
        if end.status == SlideStatus::Failed {
            let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
            self.batch.set_message(format!("{} failed  ", grouped(failed)));
        }
        self.interrupted.fetch_add(u64::from(end.status == SlideStatus::Interrupted), Ordering::Relaxed);
        self.batch.inc(1);
    }

    fn run_finished(&self) {
        // Those of an interrupted run are still there.
        for (_, slide) in self.lock().drain() {
            slide.bar.finish_and_clear();
        }
        let done = self.batch.position().saturating_sub(self.interrupted.load(Ordering::Relaxed));
        let (all, failed) = (self.batch.length().unwrap_or(done), self.failed.load(Ordering::Relaxed));
        self.batch.finish_and_clear();
        self.say(&last_line((done, all), failed, "", self.started.elapsed().as_secs_f64()));
    }
}
