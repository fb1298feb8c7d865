//! Runs again whenever slides come or change, until asked to stop.
//!
//! Owns: [`watch`], [`Round`]. Must not know: terminals.
//!
//! The output directory is held all the time, also between rounds. A round begins when the slides found, their sizes
//! or their times are not those of the last one, or when it left some: still being copied, or lost to a slow disk.

use super::{
    execute::{Request, execute_under, find_slides, take_lock},
    manifest::{Counts, rfc3339},
    run::RunContext,
};
use crate::{
    error::{RunError, exit},
    run::{Claim, Claims, StateDir},
    slides,
};
use serde::Serialize;
use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

/// How often the token and the lease are looked at.
const TICK: Duration = Duration::from_millis(100);

/// One time that slides were run.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Counted from 1.
    pub round: u64,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// What a run of its own would have ended with.
    pub exit_code: u8,
    /// How many slides ended how.
    pub counts: Counts,
}

/// Files of all slides, with sizes and times.
type Seen = Vec<(PathBuf, u64, Option<SystemTime>)>;

fn seen(request: &Request<'_>) -> Result<Seen, RunError> {
    let entries = match find_slides(request.settings) {
        Err(RunError::NoSlide(_)) => vec![],
        found => found?,
    };
    let look = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok();
        let bytes = meta.as_ref().map_or(0, |meta| meta.len());
        (path, bytes, meta.and_then(|meta| meta.modified().ok()))
    };
    Ok(entries.iter().flat_map(|entry| slides::files_of(&entry.path)).map(look).collect())
}

/// Looks for slides every `pause`, runs those that need it, and tells of each round. Returns the exit code: that of the
/// last round when nothing was under way as the run was asked to stop.
///
/// # Errors
/// [`RunError`] as of a single run; having no slide yet is none.
pub fn watch(
    request: &Request<'_>,
    context: &RunContext,
    pause: Duration,
    tell: &mut dyn FnMut(&Round),
) -> Result<u8, RunError> {
    let lock = take_lock(request)?;
    let (mut last, mut code, mut is_left) = (Seen::new(), exit::OK, false);
    let mut round = 0;
    loop {
        let now = seen(request)?;
        if !now.is_empty() && (now != last || is_left) {
            let (summary, ended) = execute_under(request, context, lock.as_ref())?;
            round += 1;
            let (finished_at, counts) = (rfc3339(SystemTime::now()), Counts::of(&summary));
            tell(&Round { round, finished_at, exit_code: ended, counts });
            (last, code, is_left) = (now, ended, ended == exit::UNFINISHED);
        }
        if !rest(request, context, pause, lock.as_ref()) {
            return Ok(code);
        }
    }
}

/// Waits for `pause`, showing that the run is alive; false when it was asked to stop.
fn rest(request: &Request<'_>, context: &RunContext, pause: Duration, lock: Option<&Claim>) -> bool {
    let lease = Duration::from_secs(request.settings.run.lease_secs.into());
    let beat = Claims::locks(&StateDir::new(&request.settings.output.dir), lease).beat();
    let (began, mut renewed) = (Instant::now(), Instant::now());
    while began.elapsed() < pause && !context.cancel.is_cancelled() {
        std::thread::sleep(TICK.min(pause));
        if let Some(lock) = lock.filter(|_| renewed.elapsed() >= beat) {
            lock.renew();
            renewed = Instant::now();
        }
    }
    !context.cancel.is_cancelled()
}
