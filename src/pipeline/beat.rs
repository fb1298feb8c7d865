//! What a run does while its slides are under way: it shows that it is alive, tells how far it is, and keeps its time.
//!
//! Owns: [`Common`], [`beat`]. Must not know: how a slide is run.

use super::{
    cancel::StopReason,
    job::SlideJob,
    run::{RunContext, Share, SlideResult},
    setup::Setup,
    work::Work,
};
use crate::{
    output::OutputError,
    run::{Claim, OutputPlace, Owner, SlideInWork, Worker},
    slides::SlideEntry,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often the time limit is looked at.
const TICK: Duration = Duration::from_millis(200);

/// A slide under way.
pub struct UnderWay {
    /// The right to run it.
    pub claim: Claim,
    /// Its id, and when it began, s since 1970.
    pub slide: (String, f64),
    /// Once its tiles are planned: the job, and the number of its tiles with those of earlier runs.
    pub job: Option<(Arc<SlideJob>, u64)>,
}

/// What the threads of a run share.
pub struct Common<'a> {
    /// What every slide shares.
    pub setup: &'a Setup,
    /// What the run needs beside its settings.
    pub context: &'a RunContext,
    /// What it shares with other runs.
    pub share: &'a Share,
    /// The slides.
    pub entries: &'a [SlideEntry],
    /// Those still to be looked at.
    pub work: Work<'a>,
    /// Held by the slot whose tiles are handed out: slides in flight follow each other, so that one is opened and another
    /// written out while the tiles of a third keep the model busy.
    pub turn: Mutex<()>,
    /// Index into the slides, result.
    pub results: Mutex<Vec<(usize, SlideResult)>>,
    /// Where results go; nothing when not even that could be made, which the first slide will tell.
    place: Option<OutputPlace>,
    /// The slides under way, by slot.
    under_way: Mutex<HashMap<usize, UnderWay>>,
    started: Instant,
    longest_millis: AtomicU64,
    failures: AtomicU32,
}

/// s since 1970.
pub fn unix_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

impl<'a> Common<'a> {
    /// A run that starts now.
    pub fn new(setup: &'a Setup, entries: &'a [SlideEntry], share: &'a Share, context: &'a RunContext) -> Self {
        let weights = setup.weights();
        let work = Work::new(entries, &setup.settings, &weights, (&share.state, &share.claims), share.failed);
        Self {
            setup,
            context,
            share,
            entries,
            work,
            turn: Mutex::default(),
            results: Mutex::default(),
            place: OutputPlace::of(share.state.out()).ok(),
            under_way: Mutex::default(),
            started: Instant::now(),
            longest_millis: AtomicU64::new(0),
            failures: AtomicU32::new(0),
        }
    }

    // A panic elsewhere leaves a map that is still right.
    fn slides(&self) -> MutexGuard<'_, HashMap<usize, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether results still go where the run began. When not, the run ends: what would be made now would be lost.
    pub fn has_its_place(&self) -> bool {
        let checked = self.place.as_ref().map_or(Ok(()), OutputPlace::check);
        checked.map_err(|error| self.stop_for(&error)).is_ok()
    }

    /// Ends the run because of what the output directory says.
    pub fn stop_for(&self, error: &OutputError) {
        self.context.cancel.stop(StopReason::Output(error.to_string()), true);
    }

    /// A slide begins in `slot`.
    pub fn begins(&self, slot: usize, claim: Claim, id: &str) {
        self.slides().insert(slot, UnderWay { claim, slide: (id.to_owned(), unix_secs()), job: None });
    }

    /// The tiles of the slide in `slot` are planned.
    pub fn is_planned(&self, slot: usize, job: Arc<SlideJob>, tiles: u64) {
        if let Some(under_way) = self.slides().get_mut(&slot) {
            under_way.job = Some((job, tiles));
        }
    }

    /// The slide in `slot` is over after `secs`.
    pub fn ends(&self, slot: usize, secs: f64, has_failed: bool) {
        self.slides().remove(&slot);
        self.longest_millis.fetch_max((secs * 1000.0) as u64, Ordering::Relaxed);
        let failures = self.failures.fetch_add(u32::from(has_failed), Ordering::Relaxed) + u32::from(has_failed);
        if self.setup.settings.run.max_failures.is_some_and(|most| failures >= most) {
            self.context.cancel.stop(StopReason::Failures, false);
        }
    }

    /// Whether another slide may start; with a time limit, one that takes as long as the longest so far must fit.
    pub fn admits_slides(&self) -> bool {
        if let Some(limit) = self.setup.settings.run.time_limit_secs {
            let longest = Duration::from_millis(self.longest_millis.load(Ordering::Relaxed));
            if self.started.elapsed() + longest > Duration::from_secs(limit) {
                self.context.cancel.stop(StopReason::Time, false);
            }
        }
        self.context.cancel.admits_slides()
    }
}

/// Until `stop` closes: renews the claims, tells how far the slides are, ends the run when its time is up.
pub fn beat(common: &Common<'_>, stop: &Receiver<()>) {
    let share = common.share;
    let pause = share.claims.beat();
    let job = |key: &str| std::env::var(key).ok();
    let mut worker = Worker {
        owner: Owner::this(),
        shard: share.shard.clone(),
        job: job("SLURM_ARRAY_JOB_ID").zip(job("SLURM_ARRAY_TASK_ID")).map(|(j, t)| format!("{j}_{t}")),
        since_unix_secs: unix_secs(),
        slides: vec![],
    };
    let limit = common.setup.settings.run.time_limit_secs.map(Duration::from_secs);
    let mut told: Option<Instant> = None;
    loop {
        if told.is_none_or(|at| at.elapsed() >= pause) {
            told = Some(Instant::now());
            let slides = common.slides();
            worker.slides = slides.values().map(in_work).collect();
            let claims: Vec<Claim> = slides.values().map(|s| s.claim.clone()).chain(share.lock.clone()).collect();
            // The file system may be slow: nobody waits for it.
            drop(slides);
            claims.iter().for_each(Claim::renew);
            // Who asks how far the run is sees it later, or not at all.
            if common.has_its_place() {
                let _ = worker.tell(&share.state);
            }
        }
        if limit.is_some_and(|limit| common.started.elapsed() >= limit) {
            common.context.cancel.stop(StopReason::Time, true);
        }
        match stop.recv_timeout(TICK.min(pause)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    worker.leave(&share.state);
}

fn in_work(slide: &UnderWay) -> SlideInWork {
    let (id, since_unix_secs) = slide.slide.clone();
    let (done, tiles) = slide.job.as_ref().map_or((0, 0), |(job, tiles)| (job.tiles_done_count(), *tiles));
    SlideInWork { id, tiles, done, since_unix_secs }
}
