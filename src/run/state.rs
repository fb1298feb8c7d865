//! What became of each slide, kept in the output directory: the one thing a later run trusts.
//!
//! Owns: [`StateDir`], [`SlideState`], the names below `.state` and `logs`. Must not know: how a slide is run.
//!
//! A slide is done when its state says so, its fingerprint is the present one, and its files are there. The state is
//! removed before a slide is run again and written after its last file is in place.

use super::fingerprint::Fingerprint;
use crate::output::{
    Artifact, OutputError, SlideRecord, SlideStatus, is_plain_name, sweep_aside, unique_token, write_atomically,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs,
    io::Write,
    path::{Component, Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Folder of what runs leave for each other.
const STATE_DIR: &str = ".state";

/// What became of a slide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlideState {
    /// Its row of `slides.parquet`.
    pub record: SlideRecord,
    /// Its files and directories.
    pub artifacts: Vec<Artifact>,
    /// What they depend on.
    pub fingerprint: Fingerprint,
    /// Where it was run.
    pub host: String,
    /// When it ended, s since 1970.
    pub ended_unix_secs: f64,
}

impl SlideState {
    /// Whether the slide ended well.
    pub fn is_complete(&self) -> bool {
        matches!(self.record.status, Some(SlideStatus::Complete | SlideStatus::NoTissue))
    }

    /// Whether it failed or lost tiles.
    pub fn is_lacking(&self) -> bool {
        !self.is_complete() || self.record.tiles_failed > 0
    }
}

/// The places of a run's state.
#[derive(Debug, Clone)]
pub struct StateDir {
    out: PathBuf,
}

impl StateDir {
    /// That of the output directory `out`.
    pub fn new(out: &Path) -> Self {
        Self { out: out.to_owned() }
    }

    /// The output directory.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where `name` of the state is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.out.join(STATE_DIR).join(name)
    }

    fn slide_path(&self, id: &str) -> PathBuf {
        self.path("slides").join(format!("{id}.json"))
    }

    /// What became of slide `id`, as far as it is known and readable.
    pub fn slide(&self, id: &str) -> Option<SlideState> {
        let is_below = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        // What lies elsewhere is none of the run's, whoever wrote so.
        let is_ours = |state: &SlideState| state.record.id == id && state.artifacts.iter().all(|a| is_below(&a.path));
        is_plain_name(id).then(|| read_json(&self.slide_path(id)).filter(is_ours)).flatten()
    }

    /// Whether `state` is that of a slide with nothing left to do.
    pub fn is_done(&self, state: &SlideState, now: &Fingerprint) -> bool {
        let is_there = |artifact: &Artifact| {
            let meta = fs::metadata(self.out.join(&artifact.path));
            meta.is_ok_and(|meta| meta.is_dir() || meta.len() == artifact.bytes)
        };
        state.is_complete() && state.fingerprint.digest == now.digest && state.artifacts.iter().all(is_there)
    }

    /// Remembers what became of a slide.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn remember(&self, state: &SlideState) -> Result<(), OutputError> {
        write_json(&self.slide_path(&state.record.id), state)
    }

    /// Forgets a slide: what lies under its names is no longer to be trusted.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn forget(&self, id: &str) -> Result<(), OutputError> {
        let path = self.slide_path(id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(OutputError::Io { path, source }),
            _ => Ok(()),
        }
    }

    /// Adds a line to the slide's log. A log that cannot be written stops nothing.
    pub fn log(&self, id: &str, line: &str) {
        let dir = self.out.join("logs");
        let file = || fs::File::options().create(true).append(true).open(dir.join(format!("{id}.log")));
        let file = file().or_else(|_| fs::create_dir_all(&dir).and_then(|()| file()));
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }

    /// The time by the clock of the output directory's file system: hosts need not agree.
    pub fn now(&self) -> Option<SystemTime> {
        let path = self.path(&format!(".clock-{}", unique_token()));
        fs::create_dir_all(self.path("")).ok()?;
        fs::write(&path, "").ok()?;
        let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
        let _ = fs::remove_file(&path);
        modified
    }

    /// The same, ns since 1970.
    pub fn now_ns(&self) -> Option<i128> {
        Some(self.now()?.duration_since(UNIX_EPOCH).ok()?.as_nanos() as i128)
    }

    /// Removes what processes that were killed long ago were about to put in place.
    pub fn sweep(&self, now: Option<SystemTime>) {
        let dirs = [self.out.clone(), self.path(""), self.path("slides"), self.path("work"), self.path("workers")];
        dirs.iter().for_each(|dir| sweep_aside(dir, now));
    }
}

/// Reads JSON; nothing when it is missing or not readable.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes JSON, whole and durable.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), OutputError> {
    let text =
        serde_json::to_vec(value).map_err(|source| OutputError::Io { path: path.into(), source: source.into() })?;
    write_atomically(path, &text)
}
