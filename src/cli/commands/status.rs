//! `wsi-run status DIR`: how far a batch is, while it runs and afterwards.
//!
//! Owns: what is printed of a batch. Must not know: how slides are run.

use super::pipeline::report;
use crate::{
    cli::{
        args::{CommonArgs, StatusArgs},
        style::Style,
    },
    error::{RunError, exit},
    output::SlideStatus,
    run::{SlideList, SlideState, StateDir, Worker},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A process that has told nothing for so long is not counted.
const SILENCE: Duration = Duration::from_secs(180);
/// Failed slides that are printed.
const NAMED: usize = 20;

/// What is known of a batch.
struct Batch {
    list: SlideList,
    states: BTreeMap<String, SlideState>,
    workers: Vec<Worker>,
    now: f64,
}

impl Batch {
    fn read(dir: &StateDir) -> Option<Self> {
        let list = SlideList::read(dir)?;
        let states = list.slides.iter().filter_map(|s| Some((s.id.clone(), dir.slide(&s.id)?))).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        Some(Self { list, states, workers: Worker::all(dir, SILENCE), now })
    }

    fn failed(&self) -> Vec<&SlideState> {
        self.states.values().filter(|s| s.record.status == Some(SlideStatus::Failed)).collect()
    }

    /// Seconds since the first of those at work began, and the work done since.
    fn pace(&self) -> Option<(f64, f64, usize)> {
        let since = self.workers.iter().map(|w| w.since_unix_secs).min_by(f64::total_cmp)?;
        let fresh = |id: &str| self.states.get(id).is_some_and(|s| s.ended_unix_secs >= since);
        let done: Vec<u64> = self.list.slides.iter().filter(|s| fresh(&s.id)).map(|s| s.work.max(1)).collect();
        let part = |w: &Worker| -> f64 { w.slides.iter().map(|s| self.part_done(s)).sum() };
        let work = done.iter().sum::<u64>() as f64 + self.workers.iter().map(part).sum::<f64>();
        Some((self.now - since, work, done.len()))
    }

    /// The work done on a slide under way.
    fn part_done(&self, slide: &crate::run::SlideInWork) -> f64 {
        let work = self.list.slides.iter().find(|s| s.id == slide.id).map_or(1, |s| s.work.max(1));
        slide.done as f64 / slide.tiles.max(1) as f64 * work as f64
    }

    /// Slides per hour and seconds left, at the pace of those at work.
    fn rate(&self) -> Option<(f64, f64)> {
        let (secs, work, slides) = self.pace()?;
        if work <= 0.0 || secs <= 0.0 {
            return None;
        }
        let open = self.list.slides.iter().filter(|s| !self.states.contains_key(&s.id)).map(|s| s.work.max(1));
        let part: f64 = self.workers.iter().flat_map(|w| &w.slides).map(|s| self.part_done(s)).sum();
        let left = (open.sum::<u64>() as f64 - part).max(0.0);
        Some((slides as f64 / secs * 3600.0, left / (work / secs)))
    }
}

/// Prints it.
pub(super) fn run(args: &StatusArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let Some(batch) = Batch::read(&StateDir::new(&args.dir)) else {
        let error = RunError::Setup {
            message: format!("no batch: expected the output directory of a run: {}", args.dir.display()),
            hint: Some("name the directory of `output.dir`".to_owned()),
        };
        return Ok(report(&error, common, style));
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", as_json(&batch))?;
    } else {
        print(&batch, &mut out)?;
    }
    let (all, done) = (batch.list.slides.len(), batch.states.len());
    Ok(match (batch.failed().is_empty(), done < all) {
        (_, true) => exit::UNFINISHED,
        (false, false) => exit::SLIDES,
        (true, false) => exit::OK,
    })
}

fn as_json(batch: &Batch) -> serde_json::Value {
    let failed = batch.failed();
    let rate = batch.rate();
    let lost = batch.states.values().filter(|s| s.record.tiles_failed > 0).count();
    json!({
        "slides": batch.list.slides.len(),
        "done": batch.states.values().filter(|s| s.is_complete()).count(),
        "with_lost_tiles": lost,
        "failed": failed.iter().map(|s| json!({
            "slide": s.record.id, "host": s.host, "error": s.record.error, "hint": s.record.hint,
        })).collect::<Vec<_>>(),
        "running": batch.workers,
        "slides_per_hour": rate.map(|r| r.0),
        "secs_left": rate.map(|r| r.1),
    })
}

pub(super) fn clock(secs: f64) -> String {
    let secs = secs.clamp(0.0, 1e9) as u64;
    format!("{}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

fn print(batch: &Batch, out: &mut dyn Write) -> std::io::Result<()> {
    let (all, failed) = (batch.list.slides.len(), batch.failed());
    let done = batch.states.values().filter(|s| s.is_complete()).count();
    let running: usize = batch.workers.iter().map(|w| w.slides.len()).sum();
    let waiting = all.saturating_sub(batch.states.len() + running);
    writeln!(out, "{done} of {all} slides done, {} failed, {running} running, {waiting} waiting", failed.len())?;
    if let Some((per_hour, left)) = batch.rate() {
        writeln!(out, "{per_hour:.1} slides per hour, about {} left", clock(left))?;
    }
    for worker in &batch.workers {
        let task = worker.job.as_ref().map_or(String::new(), |job| format!(", job {job}"));
        let shard = worker.shard.as_ref().map_or(String::new(), |shard| format!(", shard {shard}"));
        writeln!(out, "{} process {}{task}{shard}", worker.owner.host, worker.owner.pid)?;
        for slide in &worker.slides {
            let (at, for_secs) = (slide.done as f64 / slide.tiles.max(1) as f64, batch.now - slide.since_unix_secs);
            writeln!(out, "  {}: {:.0} % of {} tiles, {}", slide.id, at * 100.0, slide.tiles, clock(for_secs))?;
        }
    }
    for state in failed.iter().take(NAMED) {
        let (record, words) = (&state.record, |text: &Option<String>| text.clone().unwrap_or_default());
        writeln!(out, "failed on {}: {}: {}", state.host, record.id, words(&record.error))?;
        if let Some(hint) = &record.hint {
            writeln!(out, "  hint: {hint}")?;
        }
    }
    if failed.len() > NAMED {
        writeln!(out, "and {} more failed", failed.len() - NAMED)?;
    }
    Ok(())
}
