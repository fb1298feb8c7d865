//! Progress as one JSON object per line, for machines.
//!
//! Owns: [`JsonLines`]. Must not know: terminals.

use super::Tally;
use crate::pipeline::{Progress, SlideEnd, SlideStatus};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Every event as an object with `event`, `unix_secs` and what belongs to it.
///
/// `tiles_done` carries sums, not steps, and comes at most once per interval and slide.
pub struct JsonLines {
    out: Mutex<Box<dyn Write + Send>>,
    tally: Tally,
    ended: AtomicU64,
    failed: AtomicU64,
}

impl JsonLines {
    /// Lines to `out`; a slide in flight is mentioned once per `interval`.
    pub fn new(out: Box<dyn Write + Send>, interval: Duration) -> Self {
        Self { out: Mutex::new(out), tally: Tally::new(interval), ended: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    fn say(&self, event: &str, fields: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let mut object = json!({ "event": event, "unix_secs": rounded(now) });
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads it: that is no reason to stop a run.
        let _ = out.write_all(format!("{object}\n").as_bytes()).and_then(|()| out.flush());
    }
}

/// Milliseconds are enough.
fn rounded(secs: f64) -> f64 {
    (secs * 1000.0).round() / 1000.0
}

impl Progress for JsonLines {
    fn run_started(&self, slides: u64) {
        self.say("run_started", json!({ "slides": slides }));
    }

    fn slide_started(&self, slide: &str, tiles: u64) {
        self.tally.slide_started(slide, tiles);
        self.say("slide_started", json!({ "slide": slide, "tiles": tiles }));
    }

    fn slide_warned(&self, slide: &str, warning: &str) {
        self.say("slide_warned", json!({ "slide": slide, "warning": warning }));
    }

    fn tiles_done(&self, slide: &str, tiles: u64, instances: u64) {
        if let Some(tally) = self.tally.tiles_done(slide, tiles, instances) {
            self.say(
                "tiles_done",
                json!({
                    "slide": slide,
                    "tiles_done": tally.done,
                    "tiles": tally.tiles,
                    "instances": tally.instances,
                    "tiles_per_sec": rounded(tally.tiles_per_sec()),
                    "secs_left": tally.secs_left().map(rounded),
                }),
            );
        }
    }

    fn slide_passed(&self, slide: &str, status: SlideStatus) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.say("slide_passed", json!({ "slide": slide, "status": status }));
    }

    fn slide_finished(&self, end: &SlideEnd<'_>) {
        self.tally.slide_finished(end.slide);
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(end.status == SlideStatus::Failed), Ordering::Relaxed);
        self.say(
            "slide_finished",
            json!({
                "slide": end.slide,
                "status": end.status,
                "error": end.error,
                "hint": end.hint,
                "secs": rounded(end.secs),
                "instances": end.instances,
            }),
        );
    }

    fn run_finished(&self) {
        let (ended, failed) = (self.ended.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        self.say("run_finished", json!({ "slides": ended, "failed": failed, "secs": rounded(self.tally.run_secs()) }));
    }
}
