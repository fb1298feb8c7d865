//! The slides of a run that are still to be looked at, and what is found when one is.
//!
//! Owns: [`Work`], [`Next`], [`Task`]. Must not know: how a slide is run.
//!
//! A slide is looked at when its turn comes: done already, still being written, somebody else's, or ours from now on.

use crate::{
    config::settings::Settings,
    output::{OutputError, SlideRecord, SlideStatus},
    run::{Claim, Claims, Fingerprint, SettingsDigest, SlideState, StateDir, Taking},
    slides::SlideEntry,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a slide that somebody else works on is left alone.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for a slide that changed a moment ago; others are left for a later run.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// How often what was written of a slide may be gone though nobody else has the slide: a process that was stopped and
/// still took it for its own does that once.
pub const MOST_LOSSES: u32 = 3;

/// What happens to slides that failed before and have not changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// They are tried again.
    Again,
    /// They are left as they are.
    Left,
    /// They are tried again, and so are slides that lost tiles; no other slide is looked at.
    Only,
}

/// A slide that is this process's now.
pub struct Task {
    /// Index into the slide list.
    pub index: usize,
    /// The right to run it.
    pub claim: Claim,
    /// What its results depend on.
    pub fingerprint: Fingerprint,
}

/// What to do next.
pub enum Next {
    /// Run this slide.
    Run(Task),
    /// Nothing to do for this slide: it was run before, by this or another process.
    Known(usize, Box<SlideState>),
    /// It is still being written and left for later; the row that says so.
    Deferred(usize, Box<SlideRecord>),
    /// What is left is in other hands: look again later.
    Wait(Duration),
    /// Nothing is left.
    Done,
}

struct Waiting {
    index: usize,
    not_before: Instant,
    /// The files as they were when they looked too new.
    seen: Option<Fingerprint>,
}

/// The slides still to be looked at.
pub struct Work<'a> {
    entries: &'a [SlideEntry],
    state: StateDir,
    claims: Claims,
    settings: SettingsDigest,
    settle: Duration,
    failed: Failed,
    queue: Mutex<VecDeque<Waiting>>,
    /// How often each slide was lost, by index.
    losses: Mutex<HashMap<usize, u32>>,
}

impl<'a> Work<'a> {
    /// All of `entries`, in their order; `weights` are names and sha256 of the model's.
    pub fn new(
        entries: &'a [SlideEntry],
        settings: &Settings,
        weights: &[(String, String)],
        (state, claims): (&StateDir, &Claims),
        failed: Failed,
    ) -> Self {
        let now = Instant::now();
        let waiting = |index| Waiting { index, not_before: now, seen: None };
        Self {
            entries,
            state: state.clone(),
            claims: claims.clone(),
            settings: SettingsDigest::new(settings, weights),
            settle: Duration::from_secs(settings.run.settle_secs.into()),
            failed,
            queue: Mutex::new((0..entries.len()).map(waiting).collect()),
            losses: Mutex::default(),
        }
    }

    // A panic elsewhere leaves a queue that is still right.
    fn queue(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a slide back: somebody else has taken it over.
    pub fn put_back(&self, index: usize) {
        self.queue().push_back(Waiting { index, not_before: Instant::now() + BUSY_PAUSE, seen: None });
    }

    /// Counts that what was written of a slide is gone, and tells whether it may be begun anew.
    pub fn may_lose(&self, index: usize) -> bool {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = losses.entry(index).or_default();
        *count += 1;
        *count <= MOST_LOSSES
    }

    /// What to do next; may be called from many threads.
    ///
    /// # Errors
    /// [`OutputError`] when the output directory cannot be used.
    pub fn next(&self) -> Result<Next, OutputError> {
        loop {
            let waiting = {
                let (mut queue, now) = (self.queue(), Instant::now());
                let Some(first) = queue.iter().map(|w| w.not_before).min() else { return Ok(Next::Done) };
                let at = queue.iter().position(|w| w.not_before <= now);
                match at.and_then(|at| queue.remove(at)) {
                    Some(waiting) => waiting,
                    None => return Ok(Next::Wait(first - now)),
                }
            };
            if let Some(next) = self.look_at(waiting)? {
                return Ok(next);
            }
        }
    }

    /// The state of a slide that nothing needs to be done for.
    fn known(&self, id: &str, now: &Fingerprint) -> Option<SlideState> {
        let state = self.state.slide(id)?;
        let is_left = match self.failed {
            Failed::Only => false,
            Failed::Again => self.state.is_done(&state, now),
            Failed::Left => {
                let failed = state.record.status == Some(SlideStatus::Failed);
                self.state.is_done(&state, now) || (failed && state.fingerprint.digest == now.digest)
            }
        };
        is_left.then_some(state)
    }

    /// What to do about one slide; nothing when it waits again.
    fn look_at(&self, waiting: Waiting) -> Result<Option<Next>, OutputError> {
        let (index, entry) = (waiting.index, &self.entries[waiting.index]);
        let before = self.state.slide(&entry.id).map(|state| state.fingerprint);
        let fingerprint = self.settings.of(entry, before.as_ref());
        if let Some(state) = self.known(&entry.id, &fingerprint) {
            return Ok(Some(Next::Known(index, Box::new(state))));
        }
        if let Some(wait) = self.unsettled(&fingerprint) {
            let has_changed = waiting.seen.is_some_and(|seen| seen.inputs != fingerprint.inputs);
            if has_changed || wait > SETTLE_MAX {
                return Ok(Some(Next::Deferred(index, Box::new(deferred(entry, self.settle)))));
            }
            let not_before = Instant::now() + wait;
            self.queue().push_back(Waiting { index, not_before, seen: Some(fingerprint) });
            return Ok(None);
        }
        match self.claims.take(&entry.id)? {
            Taking::Busy(_) => {
                self.put_back(index);
                Ok(None)
            }
            Taking::Mine(claim) => {
                // Somebody may have finished it between the look and the claim.
                if let Some(state) = self.known(&entry.id, &fingerprint) {
                    return Ok(Some(Next::Known(index, Box::new(state))));
                }
                self.state.forget(&entry.id)?;
                Ok(Some(Next::Run(Task { index, claim, fingerprint })))
            }
        }
    }

    /// How long until no file of the slide is newer than the time after which it counts as finished.
    fn unsettled(&self, fingerprint: &Fingerprint) -> Option<Duration> {
        let newest = fingerprint.inputs.iter().map(|input| input.modified_ns).max()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos() as i128;
        // A time in the future is a wrong clock, not a file being written.
        let age = Duration::from_nanos(u64::try_from(now - newest).ok()?);
        self.settle.checked_sub(age).filter(|left| !left.is_zero())
    }
}

fn deferred(entry: &SlideEntry, settle: Duration) -> SlideRecord {
    SlideRecord {
        id: entry.id.clone(),
        path: entry.path.display().to_string(),
        status: Some(SlideStatus::Deferred),
        error: Some(format!("slides: still being written: it changed less than {} s ago", settle.as_secs())),
        hint: Some("run the same command again when it is there; see `run.settle_secs`".to_owned()),
        ..SlideRecord::default()
    }
}
