//! `run.json`: what ran, on what, with which result. Enough to run it again. A shard has `run-<task>-of-<tasks>.json`.
//!
//! Owns: [`Manifest`]. Must not know: how it ran.

use crate::{
    config::settings::Settings,
    model::ClassInfo,
    output::{Artifact, OutputError, ResultKind, SlideStatus, write_whole},
    pipeline::run::RunSummary,
    run::{OUTPUT_VERSION, Shard},
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// How many slides ended how: what a script looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Slides of the run.
    pub slides: usize,
    /// All results are there.
    pub complete: usize,
    /// Nothing to do; the results are there and empty.
    pub no_tissue: usize,
    /// Could not be finished.
    pub failed: usize,
    /// Stopped under way; the next run goes on with them.
    pub interrupted: usize,
    /// Still being written.
    pub deferred: usize,
    /// Not looked at.
    pub not_started: usize,
    /// Complete, and lost tiles.
    pub with_lost_tiles: usize,
    /// Of all these, those this run had nothing to do for.
    pub unchanged: usize,
}

impl Counts {
    /// Of what remains of a run.
    pub fn of(summary: &RunSummary) -> Self {
        let with = |status| summary.slides.iter().filter(|s| s.record.status == Some(status)).count();
        Self {
            slides: summary.slides.len() + summary.not_started,
            complete: with(SlideStatus::Complete),
            no_tissue: with(SlideStatus::NoTissue),
            failed: with(SlideStatus::Failed),
            interrupted: with(SlideStatus::Interrupted),
            deferred: with(SlideStatus::Deferred),
            not_started: summary.not_started,
            with_lost_tiles: summary.slides.iter().filter(|s| s.record.tiles_failed > 0).count(),
            unchanged: summary.slides.iter().filter(|s| s.is_unchanged).count(),
        }
    }
}

/// What a slide left behind.
#[derive(Debug, Clone, Serialize)]
pub struct SlideArtifacts {
    /// Name of the slide.
    pub id: String,
    /// `complete`, `no_tissue`, `failed`, `interrupted`.
    pub status: String,
    /// Its files and directories.
    pub artifacts: Vec<Artifact>,
}

/// What ran, on what, with which result.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// `wsi-run`.
    pub program: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// See [`OUTPUT_VERSION`].
    pub output_version: u32,
    /// The command line.
    pub command: Vec<String>,
    /// Directory that relative paths start from.
    pub directory: String,
    /// The YAML file.
    pub config_path: String,
    /// Its text.
    pub config_text: String,
    /// What was said over it, as `key=value`.
    pub overrides: Vec<String>,
    /// Everything resolved.
    pub settings: Settings,
    /// Where the model ran.
    pub device: &'static str,
    /// sha256 of weight files, by name; none for models without weights.
    pub weights: Vec<(String, String)>,
    /// Name of the model; null of a run that broke off before there was one.
    pub model: Option<String>,
    /// Its classes.
    pub classes: Vec<ClassInfo>,
    /// What results are of; null as `model`.
    pub results: Option<ResultKind>,
    /// Which part of the slides this run took; null when all of them.
    pub shard: Option<String>,
    /// sha256 of the full slide list; the same for all shards of a batch.
    pub list_digest: Option<String>,
    /// Name of the machine.
    pub host: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; null while running.
    pub finished_at: Option<String>,
    /// `running`, `complete`, `slides_failed`, `unfinished`, `interrupted`, `failed`.
    pub status: &'static str,
    /// Exit status of the program; null while running.
    pub exit_code: Option<u8>,
    /// How many slides ended how; null while running.
    pub counts: Option<Counts>,
    /// What each slide left behind.
    pub slides: Vec<SlideArtifacts>,
}

impl Manifest {
    /// A run that starts now.
    pub fn new(config: (&Path, &str, &[String]), settings: &Settings, weights: Vec<(String, String)>) -> Self {
        let (config_path, config_text, overrides) = config;
        Self {
            program: "wsi-run",
            version: env!("CARGO_PKG_VERSION"),
            output_version: OUTPUT_VERSION,
            command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
            directory: std::env::current_dir().map_or(String::new(), |dir| dir.to_string_lossy().into_owned()),
            config_path: config_path.to_string_lossy().into_owned(),
            config_text: config_text.to_owned(),
            overrides: overrides.to_vec(),
            settings: settings.clone(),
            device: "cpu",
            weights,
            model: None,
            classes: vec![],
            results: None,
            shard: None,
            list_digest: None,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            started_at: rfc3339(SystemTime::now()),
            finished_at: None,
            status: "running",
            exit_code: None,
            counts: None,
            slides: vec![],
        }
    }

    /// Closes it.
    pub fn finish(&mut self, status: &'static str, exit_code: u8, slides: Vec<SlideArtifacts>) {
        self.finished_at = Some(rfc3339(SystemTime::now()));
        self.status = status;
        self.exit_code = Some(exit_code);
        self.slides = slides;
    }

    /// Name of a shard's manifest.
    pub fn name_of(shard: Option<Shard>) -> PathBuf {
        match shard {
            None => "run.json".into(),
            Some(Shard { index, count }) => format!("run-{index}-of-{count}.json").into(),
        }
    }

    /// Writes it as `<dir>/<name>`, whole or not at all.
    ///
    /// # Errors
    /// [`OutputError`] of the file system; paths that are not UTF-8 cannot be said in JSON.
    pub fn write(&self, dir: &Path, name: &Path) -> Result<(), OutputError> {
        let text = serde_json::to_vec_pretty(self);
        let mut text = text.map_err(|e| OutputError::Io { path: dir.join(name), source: e.into() })?;
        text.push(b'\n');
        write_whole(dir, name, &mut |path| {
            std::fs::write(path, &text).map_err(|source| OutputError::Io { path: path.to_owned(), source })
        })?;
        Ok(())
    }
}

/// `2026-11-20T21:05:09Z`, UTC.
pub fn rfc3339(time: SystemTime) -> String {
    let secs = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = ((secs / 86_400) as i64, secs % 86_400);
    // Days to civil date, Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |secs| rfc3339(UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_795_219_509), "2026-11-21T00:05:09Z");
    }
}
