//! How far every process of a batch is, for those who ask while it runs.
//!
//! Owns: [`Worker`]. Must not know: how it is shown.

use super::{
    claim::Owner,
    state::{StateDir, read_json},
};
use crate::output::OutputError;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    time::{Duration, SystemTime},
};

/// A slide being run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlideInWork {
    /// Its id.
    pub id: String,
    /// Tiles to be done, those of earlier runs included.
    pub tiles: u64,
    /// Tiles done.
    pub done: u64,
    /// When it began, s since 1970.
    pub since_unix_secs: f64,
}

/// A process and what it works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// The process.
    pub owner: Owner,
    /// Its shard, if it has one.
    pub shard: Option<String>,
    /// Its Slurm job, if it has one.
    pub job: Option<String>,
    /// When it began, s since 1970.
    pub since_unix_secs: f64,
    /// The slides it is at.
    pub slides: Vec<SlideInWork>,
}

impl Worker {
    /// Tells what this process is at. Not made durable: it is of no use after the process.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn tell(&self, state: &StateDir) -> Result<(), OutputError> {
        let path = state.path("workers").join(format!("{}.json", self.owner.token));
        let aside = path.with_extension("new");
        let write = || {
            fs::create_dir_all(state.path("workers"))?;
            fs::write(&aside, serde_json::to_vec(self)?)?;
            fs::rename(&aside, &path)
        };
        write().map_err(|source| OutputError::Io { path: path.clone(), source })
    }

    /// Takes back what was told.
    pub fn leave(&self, state: &StateDir) {
        let _ = fs::remove_file(state.path("workers").join(format!("{}.json", self.owner.token)));
    }

    /// Everybody that told something within `silence` and is not known to be dead.
    pub fn all(state: &StateDir, silence: Duration) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(state.path("workers")) else { return vec![] };
        let is_alive = |entry: &fs::DirEntry| {
            let modified = entry.metadata().and_then(|meta| meta.modified());
            modified.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < silence)
        };
        let files = entries.flatten().filter(|e| e.path().extension().is_some_and(|e| e == "json"));
        let mut all: Vec<Self> = files.filter(is_alive).filter_map(|e| read_json(&e.path())).collect();
        all.retain(|worker| !worker.owner.is_dead());
        all.sort_by(|a, b| a.since_unix_secs.total_cmp(&b.since_unix_secs));
        all
    }
}
