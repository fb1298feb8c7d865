//! A run's progress as the user sees it: bars on a terminal, plain lines elsewhere, JSON for machines.
//!
//! Owns: [`choose`], [`Tally`]. Must not know: the pipeline, but for the trait it calls.

mod bars;
mod json;
mod lines;
mod training;

pub use bars::Bars;
pub use json::JsonLines;
pub use lines::Lines;
pub use training::{TrainingProgress, of_training};

use super::{args::CommonArgs, style::grouped};
use crate::pipeline::Progress;
use indicatif::MultiProgress;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a slide in flight is mentioned where there are no bars.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// How often a slide in flight is mentioned in JSON.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// The progress that fits the options and the terminal; `noun` is what the run counts, `nuclei` or `lesions`.
///
/// The bars, where there are any, must be known to [`super::log::start`].
pub fn choose(
    common: &CommonArgs,
    no_progress: bool,
    noun: &'static str,
) -> (Arc<dyn Progress>, Option<MultiProgress>) {
    let stderr = || Box::new(std::io::stderr());
    if common.log_json {
        return (Arc::new(JsonLines::new(stderr(), JSON_INTERVAL)), None);
    }
    if common.quiet || no_progress || !std::io::stderr().is_terminal() {
        return (Arc::new(Lines::new(stderr(), LINE_INTERVAL, noun, common.quiet)), None);
    }
    let bars = Bars::new(MultiProgress::new(), noun);
    let multi = bars.multi();
    (Arc::new(bars), Some(multi))
}

/// How far each slide in flight is.
#[derive(Debug)]
pub struct Tally {
    started: Instant,
    interval: Duration,
    slides: Mutex<HashMap<String, SlideTally>>,
}

/// How far one slide is.
#[derive(Debug, Clone, Copy)]
pub struct SlideTally {
    /// Tiles planned.
    pub tiles: u64,
    /// Tiles done.
    pub done: u64,
    /// Instances found.
    pub instances: u64,
    started: Instant,
    said: Instant,
}

impl Tally {
    fn new(interval: Duration) -> Self {
        Self { started: Instant::now(), interval, slides: Mutex::default() }
    }

    // A panic elsewhere leaves counts that are still right.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, SlideTally>> {
        self.slides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_secs(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn slide_started(&self, slide: &str, tiles: u64) {
        let now = Instant::now();
        let tally = SlideTally { tiles, done: 0, instances: 0, started: now, said: now };
        self.lock().insert(slide.to_owned(), tally);
    }

    /// Counts, and gives the counts when it is time to say them.
    fn tiles_done(&self, slide: &str, tiles: u64, instances: u64) -> Option<SlideTally> {
        let mut slides = self.lock();
        let tally = slides.get_mut(slide)?;
        tally.done += tiles;
        tally.instances += instances;
        let now = Instant::now();
        (now.duration_since(tally.said) >= self.interval).then(|| {
            tally.said = now;
            *tally
        })
    }

    fn slide_finished(&self, slide: &str) -> Option<SlideTally> {
        self.lock().remove(slide)
    }
}

impl SlideTally {
    fn tiles_per_sec(&self) -> f64 {
        let secs = self.started.elapsed().as_secs_f64();
        if secs > 0.0 { self.done as f64 / secs } else { 0.0 }
    }

    /// Time left at the mean speed so far.
    fn secs_left(&self) -> Option<f64> {
        let speed = self.tiles_per_sec();
        (speed > 0.0).then(|| self.tiles.saturating_sub(self.done) as f64 / speed)
    }
}

/// `75` as `1:15`, `4000` as `1:06:40`.
fn clock(secs: f64) -> String {
    let secs = if secs.is_finite() { secs.clamp(0.0, 1e9).round() as u64 } else { 0 };
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{SlideEnd, SlideStatus};
    use std::io::Write;

    /// What was written, readable afterwards.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn end<'a>(slide: &'a str, error: Option<&'a str>) -> SlideEnd<'a> {
        let status = if error.is_some() { SlideStatus::Failed } else { SlideStatus::Complete };
        let hint = error.map(|_| "scan it again");
        SlideEnd { slide, status, error, hint, secs: 75.2, instances: 12345 }
    }

    fn play(progress: &dyn Progress) {
        progress.run_started(2);
        progress.slide_started("a", 100);
        progress.slide_warned("a", "it looks brown");
        progress.tiles_done("a", 40, 1500);
        progress.tiles_done("a", 60, 500);
        progress.slide_finished(&end("a", None));
        progress.slide_finished(&end("b", Some("slides: cannot open")));
        progress.run_finished();
    }

    #[test]
    fn plain_lines_tell_start_way_and_end_of_each_slide() {
        let page = Page::default();
        play(&Lines::new(Box::new(page.clone()), Duration::ZERO, "nuclei", false));
        let text = page.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "2 slides");
        assert_eq!(lines[1], "a: 100 tiles");
        assert_eq!(lines[2], "a: warning: it looks brown");
        assert!(lines[3].starts_with("a: 40 of 100 tiles, ") && lines[3].contains("1,500 nuclei"), "{}", lines[3]);
        assert!(lines[4].ends_with("2,000 nuclei, 0:00 left"), "{}", lines[4]);
        assert_eq!(lines[5], "a: complete, 12,345 nuclei, 1:15 [1 of 2]");
        assert_eq!(lines[6..8], ["b: failed: slides: cannot open [2 of 2]", "  hint: scan it again"]);
        assert!(lines[8].starts_with("2 slides, 1 failed, "), "{}", lines[8]);
    }

    #[test]
    fn a_run_that_was_cut_short_says_how_much_it_did_and_that_it_goes_on() {
        let page = Page::default();
        let lines = Lines::new(Box::new(page.clone()), Duration::ZERO, "nuclei", false);
        lines.run_started(6);
        lines.slide_finished(&end("a", None));
        lines.slide_finished(&SlideEnd { status: SlideStatus::Interrupted, ..end("b", None) });
        lines.run_finished();
        assert!(page.text().ends_with("1 of 6 slides, 0 failed, 0:00; the same command goes on\n"), "{}", page.text());
    }

    #[test]
    fn quiet_lines_tell_only_what_failed() {
        let page = Page::default();
        play(&Lines::new(Box::new(page.clone()), Duration::ZERO, "nuclei", true));
        assert_eq!(page.text(), "b: failed: slides: cannot open [2 of 2]\n  hint: scan it again\n");
    }

    #[test]
    fn lines_of_a_slide_in_flight_keep_their_distance() {
        let page = Page::default();
        play(&Lines::new(Box::new(page.clone()), Duration::from_secs(3600), "nuclei", false));
        assert!(!page.text().contains(" of 100 tiles"));
    }

    #[test]
    fn every_json_line_is_an_object_with_its_event() {
        let page = Page::default();
        play(&JsonLines::new(Box::new(page.clone()), Duration::ZERO));
        let events: Vec<serde_json::Value> = page.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let names: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
        let expected = [
            "run_started",
            "slide_started",
            "slide_warned",
            "tiles_done",
            "tiles_done",
            "slide_finished",
            "slide_finished",
            "run_finished",
        ];
        assert_eq!(names, expected);
        assert_eq!(events[4]["tiles_done"], 100);
        assert_eq!(events[6]["hint"], "scan it again");
        assert_eq!(events[5]["error"], serde_json::Value::Null);
        assert_eq!(events[7]["failed"], 1);
    }

    #[test]
    fn bars_take_every_event_from_many_threads() {
        let bars = Bars::new(MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()), "nuclei");
        bars.run_started(8);
        rayon::scope(|scope| {
            for i in 0..8 {
                let bars = &bars;
                scope.spawn(move |_| {
                    let slide = format!("slide {i}");
                    bars.slide_started(&slide, 1000);
                    for _ in 0..100 {
                        bars.tiles_done(&slide, 10, 3);
                    }
                    bars.slide_finished(&end(&slide, None));
                });
            }
        });
        assert_eq!(bars.slides_done(), 8);
        bars.run_finished();
    }

    #[test]
    fn an_event_costs_less_than_a_hundredth_of_a_batch() {
        // A batch takes some 10 ms.
        let lines = Lines::new(Box::new(std::io::sink()), LINE_INTERVAL, "nuclei", false);
        lines.slide_started("a", 1_000_000);
        let started = Instant::now();
        for _ in 0..10_000 {
            lines.tiles_done("a", 8, 100);
        }
        assert!(started.elapsed().as_secs_f64() / 10_000.0 < 1e-4);
    }

    #[test]
    fn clocks_and_counts_read_well() {
        assert_eq!([clock(0.4), clock(75.0), clock(4000.0), clock(f64::NAN)], ["0:00", "1:15", "1:06:40", "0:00"]);
        assert_eq!([grouped(7), grouped(1234), grouped(1_234_567)], ["7", "1,234", "1,234,567"]);
    }
}
