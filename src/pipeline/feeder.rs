//! One slide after another: looked at, planned, its tiles sent into the flow, its end waited for and remembered.
//!
//! Owns: [`Feeder`]. Must not know: what stages do, who else works for the output directory.

use super::{
    beat::{Common, unix_secs},
    cancel::StopReason,
    job::{Failure, SlideJob},
    manifest::rfc3339,
    prepare::{SlidePlan, fit_stain, overview_picture, plan_slide},
    progress::SlideEnd,
    record,
    run::SlideResult,
    stages::{SlideOutcome, TileRef, WriteMessage, output_failure},
    work::{MOST_LOSSES, Next, Task},
};
use crate::{
    error::{RunError, SlideError, StageName},
    model::SlideBlend,
    output::{PARTIAL_DIR, SlideRecord, SlideStatus, SlideWriter},
    run::{Claim, Fingerprint, SlideState},
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How often a waiting feeder looks whether the run was broken off.
const LOOK_AT_TOKEN: Duration = Duration::from_millis(100);

/// The ends of the queues a feeder needs.
pub struct Feeder<'a> {
    /// What all threads share.
    pub common: &'a Common<'a>,
    /// Which of the slides in flight its slides are.
    pub slot: usize,
    /// Takes tiles.
    pub tiles: Sender<TileRef>,
    /// Takes what begins and ends a slide.
    pub writer: Sender<WriteMessage>,
    /// Tells how a slide ended.
    pub done: Receiver<SlideOutcome>,
}

/// What became of a slide in this run.
enum Ended {
    /// It has a row.
    Result(Box<SlideResult>),
    /// Another process has it now.
    TakenOver,
    /// The run broke off under it.
    Broken,
}

impl Feeder<'_> {
    /// Takes slides until none is left or the run is asked to stop.
    ///
    /// # Errors
    /// None of its own; what stops the run is told to the token.
    pub fn feed(self) -> Result<(), RunError> {
        while self.common.admits_slides() && self.common.has_its_place() {
            match self.common.work.next() {
                Ok(Next::Run(task)) => {
                    if !self.run(task) {
                        break;
                    }
                }
                Ok(Next::Known(index, known)) => {
                    let SlideState { record, artifacts, .. } = *known;
                    self.pass(index, SlideResult { record, artifacts, is_unchanged: true });
                }
                Ok(Next::Deferred(index, record)) => {
                    self.log(&record.id, "left for later: still being written");
                    self.pass(index, SlideResult { record: *record, artifacts: vec![], is_unchanged: true });
                }
                Ok(Next::Wait(pause)) => std::thread::sleep(pause.min(LOOK_AT_TOKEN)),
                Ok(Next::Done) => break,
                Err(error) => self.common.stop_for(&error),
            }
        }
        Ok(())
    }

    fn log(&self, id: &str, what: &str) {
        self.common.share.state.log(id, &format!("{} {what}", rfc3339(SystemTime::now())));
    }

    fn keep(&self, index: usize, result: SlideResult) {
        self.common.results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
    }

    /// A slide with nothing to do for.
    fn pass(&self, index: usize, result: SlideResult) {
        let status = result.record.status.unwrap_or(SlideStatus::Failed);
        self.common.context.progress.slide_passed(&result.record.id, status);
        self.keep(index, result);
    }

    /// Runs a slide and remembers what became of it. False when the run broke off.
    fn run(&self, task: Task) -> bool {
        let (start, entry) = (Instant::now(), &self.common.entries[task.index]);
        let Task { index, claim, fingerprint } = task;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.log(&entry.id, &format!("started on {host}, process {}", std::process::id()));
        self.common.begins(self.slot, claim.clone(), &entry.id);
        let ended = self.one_slide(&Task { index, claim: claim.clone(), fingerprint: fingerprint.clone() });
        let has_failed =
            |ended: &Ended| matches!(ended, Ended::Result(r) if r.record.status == Some(SlideStatus::Failed));
        // A slide that failed here and is another's by now is for the other to tell.
        let ended = if has_failed(&ended) && !claim.is_held() { Ended::TakenOver } else { ended };
        let secs = start.elapsed().as_secs_f64();
        let failed = has_failed(&ended);
        self.common.ends(self.slot, secs, failed);
        let mut result = match ended {
            Ended::Broken => return false,
            Ended::TakenOver => {
                self.taken_over(index, &claim);
                return true;
            }
            Ended::Result(result) => *result,
        };
        if !self.common.has_its_place() {
            return true;
        }
        // Where the file could be read once and not twice.
        result.record.sha = result.record.sha.take().or_else(|| fingerprint.content.clone());
        result.record.wall_secs = Some(secs);
        result.record.peak_rss_bytes = peak_rss_bytes();
        self.remember(&result, fingerprint, host);
        self.tell(&result.record, secs);
        self.keep(index, result);
        // Only now may another process look at the slide.
        drop(claim);
        true
    }

    /// What this process wrote of a slide is gone. That is as it should be when another process has the slide now, or
    /// had it for a moment; when it happens again and again, nothing that is written here stays.
    fn taken_over(&self, index: usize, claim: &Claim) {
        if !self.common.has_its_place() {
            return;
        }
        let (id, share) = (&self.common.entries[index].id, self.common.share);
        match share.claims.owner(id).filter(|owner| !claim.is_of(owner)) {
            Some(owner) => {
                self.log(id, &format!("taken over by {}, process {}", owner.host, owner.pid));
                self.common.work.put_back(index);
            }
            None if self.common.work.may_lose(index) => {
                self.log(id, "what was written of it was taken away; begun anew");
                self.common.work.put_back(index);
            }
            None => {
                let message = format!(
                    "unfinished results of slide `{id}` were taken away {} times while they were written, expected \
                     them to stay: {}",
                    MOST_LOSSES + 1,
                    share.state.out().join(PARTIAL_DIR).display()
                );
                self.log(id, &message);
                self.common.context.cancel.stop(StopReason::Output(message), true);
            }
        }
    }

    /// Writes the slide's state, unless it is to be gone on with.
    fn remember(&self, result: &SlideResult, fingerprint: Fingerprint, host: String) {
        if matches!(result.record.status, Some(SlideStatus::Interrupted | SlideStatus::Deferred)) {
            return;
        }
        let (record, artifacts) = (result.record.clone(), result.artifacts.clone());
        let state = SlideState { record, artifacts, fingerprint, host, ended_unix_secs: unix_secs() };
        if let Err(error) = self.common.share.state.remember(&state) {
            self.common.stop_for(&error);
        }
    }

    fn tell(&self, record: &SlideRecord, secs: f64) {
        let status = record.status.unwrap_or(SlideStatus::Failed);
        let mut line = format!("{status}, {} instances, {secs:.1} s", record.instances);
        for (what, text) in [("error", &record.error), ("hint", &record.hint), ("note", &record.notes)] {
            if let Some(text) = text {
                line.push_str(&format!("; {what}: {text}"));
            }
        }
        self.log(&record.id, &line);
        self.common.context.progress.slide_finished(&SlideEnd {
            slide: &record.id,
            status,
            error: record.error.as_deref(),
            hint: record.hint.as_deref(),
            secs,
            instances: record.instances,
        });
    }

    /// One slide from opening to its record.
    fn one_slide(&self, task: &Task) -> Ended {
        let result = |record| Ended::Result(Box::new(SlideResult { record, artifacts: vec![], is_unchanged: false }));
        let entry = &self.common.entries[task.index];
        let planned = catch_unwind(AssertUnwindSafe(|| plan_slide(entry, self.common.setup)))
            .unwrap_or_else(|_| Err(SlideError::new(StageName::Slides, "opening the slide panicked")));
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(error) => return result(record::of_unopened(entry, &error)),
        };
        let (job, stain) = match self.start(&mut plan, task) {
            Ok(started) => started,
            Err(Failure::Error(error)) => return result(record::of_planned(&plan, &error)),
            Err(Failure::Interrupted) => return result(record::of_interrupted(&plan)),
            Err(Failure::TakenOver) => return Ended::TakenOver,
        };
        if !self.hand_out(&job) {
            return Ended::Broken;
        }
        if job.plan.tiles.is_empty() && self.writer.send(WriteMessage::Ended(job)).is_err() {
            return Ended::Broken;
        }
        let Some(outcome) = self.wait() else { return Ended::Broken };
        if outcome.committed.is_none() && outcome.job.failure() == Some(&Failure::TakenOver) {
            return Ended::TakenOver;
        }
        let record = record::of_outcome(&plan, &outcome, &stain);
        let artifacts = outcome.committed.map_or(vec![], |c| c.artifacts);
        Ended::Result(Box::new(SlideResult { record, artifacts, is_unchanged: false }))
    }

    /// Sends the slide's tiles on when it is its turn. False when the run broke off.
    fn hand_out(&self, job: &Arc<SlideJob>) -> bool {
        let _turn = self.common.turn.lock().unwrap_or_else(PoisonError::into_inner);
        (0..job.plan.tiles.len()).all(|index| self.tiles.send(TileRef { job: job.clone(), index }).is_ok())
    }

    /// Waits for the writer's word on the slide. The feeder holds a sender of the writer's queue, so a broken run
    /// cannot show as a closed queue: the token is looked at.
    fn wait(&self) -> Option<SlideOutcome> {
        loop {
            match self.done.recv_timeout(LOOK_AT_TOKEN) {
                Ok(outcome) => return Some(outcome),
                Err(RecvTimeoutError::Timeout) if !self.common.context.cancel.is_abandoned() => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether the slide fits the memory the run may use.
    fn check_memory(&self, plan: &SlidePlan) -> Result<(), Failure> {
        let setup = self.common.setup;
        let Some(limit) = setup.settings.run.memory_bytes else { return Ok(()) };
        let needed = setup.flow_bytes() + plan.slide_bytes(setup) * setup.slots() as u64;
        if needed <= limit {
            return Ok(());
        }
        let mib = |b: u64| b.div_ceil(1 << 20);
        let message = format!("plan needs {} MiB, `run.memory` allows {} MiB", mib(needed), mib(limit));
        Err(Failure::Error(
            SlideError::new(StageName::Tiling, message)
                .hint("lower `run.slides_in_flight`, `run.threads` or `tiling.tile_px`, or raise `run.memory`"),
        ))
    }

    /// Whether the slide's results fit the disk. One that is too full for this slide soon is for every other.
    fn check_disk(&self, plan: &SlidePlan) -> Result<(), Failure> {
        let dir = self.common.share.state.out();
        let Ok(stat) = rustix::fs::statvfs(dir) else { return Ok(()) };
        let (free, needed) = (stat.f_bavail.saturating_mul(stat.f_frsize), plan.disk_bytes(self.common.setup));
        if free >= needed {
            return Ok(());
        }
        let mb = |bytes: u64| bytes / 1_000_000;
        let message =
            format!("disk is full: {} MB free, slide needs about {} MB: {}", mb(free), mb(needed), dir.display());
        self.common.context.cancel.stop(StopReason::Output(message), true);
        Err(Failure::Interrupted)
    }

    fn start(&self, plan: &mut SlidePlan, task: &Task) -> Result<(Arc<SlideJob>, String), Failure> {
        let (setup, cancel) = (self.common.setup, &self.common.context.cancel);
        self.check_memory(plan)?;
        self.check_disk(plan)?;
        let stain = fit_stain(plan, setup);
        let stain_word = match (&stain.flag, stain.method) {
            (Some(why), _) => format!("identity: {why}"),
            (None, "none") => "off".to_owned(),
            (None, _) => "fitted".to_owned(),
        };
        let picture = overview_picture(plan, setup);
        let tiles = plan.tiles.clone();
        let mut writer = SlideWriter::create(
            plan.header.clone(),
            setup.kind,
            &setup.settings.output,
            &plan.tissue.mask,
            picture,
            &|rect| tiles.cells.intersects(rect),
        )
        .map_err(|e| output_failure(&e, &task.claim, cancel))?;
        // What finished parts depend on, beside what results do: which regions there are.
        let identity = format!("{} {}", task.fingerprint.digest, setup.tiler.region_px);
        let is_wanted = |core| tiles.region_of(&core).is_some();
        let cores = writer.resume(&identity, &is_wanted).map_err(|e| output_failure(&e, &task.claim, cancel))?;
        let left = tiles.without(&cores);
        let before = (tiles.tiles.len() - left.tiles.len()) as u64;
        if before > 0 {
            let regions = tiles.region_count();
            self.log(&plan.header.id, &format!("goes on: {} of {regions} regions are there", cores.len()));
        }
        let (header, reader) = (plan.header.clone(), plan.reader.clone());
        let claim = (self.slot, task.claim.clone());
        let blend = setup.blend_of(&tiles).map(|blend| Arc::new(SlideBlend::new(blend.clone())));
        if blend.is_none() && setup.blends_elsewhere() {
            self.log(
                &plan.header.id,
                "its tiles are blended on the processor: their sums do not fit into the GPU's memory",
            );
        }
        let job = Arc::new(SlideJob::new(claim, header, reader, (Arc::new(left), before), stain.transform, blend));
        let all = tiles.tiles.len() as u64;
        self.common.context.progress.slide_started(&job.header.id, all);
        if let Some(warning) = &plan.color.warning {
            self.common.context.progress.slide_warned(&job.header.id, warning);
        }
        self.common.context.progress.tiles_done(&job.header.id, before, 0);
        self.common.is_planned(self.slot, job.clone(), all);
        if self.writer.send(WriteMessage::Start(job.clone(), Box::new(writer))).is_err() {
            job.fail(Failure::Interrupted);
        }
        Ok((job, stain_word))
    }
}

/// Most memory the process has had, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}
