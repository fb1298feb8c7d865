//! `run.json`: what ran, on what, with which result. Enough to run it again.
//!
//! Owns: [`Manifest`]. Must not know: how it ran.

use crate::{
    config::settings::Settings,
    output::{Artifact, OutputError, write_whole},
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Raised whenever the same slide and settings give other pixels or rows than before.
pub const OUTPUT_VERSION: u32 = 2;

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
    /// The YAML file.
    pub config_path: PathBuf,
    /// Its text.
    pub config_text: String,
    /// Everything resolved.
    pub settings: Settings,
    /// Where the model ran.
    pub device: &'static str,
    /// sha256 of weight files, by name; none for models without weights.
    pub weights: Vec<(String, String)>,
    /// Which part of the slides this run took; null when all of them.
    pub shard: Option<String>,
    /// Name of the machine.
    pub host: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; null while running.
    pub finished_at: Option<String>,
    /// `running`, `complete`, `slides_failed`, `interrupted`, `failed`.
    pub status: &'static str,
    /// Exit status of the program; null while running.
    pub exit_code: Option<u8>,
    /// What each slide left behind.
    pub slides: Vec<SlideArtifacts>,
}

impl Manifest {
    /// A run that starts now.
    pub fn new(config_path: &Path, config_text: &str, settings: &Settings) -> Self {
        Self {
            program: "wsi-run",
            version: env!("CARGO_PKG_VERSION"),
            output_version: OUTPUT_VERSION,
            command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
            config_path: config_path.to_owned(),
            config_text: config_text.to_owned(),
            settings: settings.clone(),
            device: "cpu",
            weights: vec![],
            shard: None,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            started_at: rfc3339(SystemTime::now()),
            finished_at: None,
            status: "running",
            exit_code: None,
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

    /// Writes `<dir>/run.json`, whole or not at all.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn write(&self, dir: &Path) -> Result<(), OutputError> {
        let mut text = serde_json::to_vec_pretty(self).expect("the manifest has only string keys");
        text.push(b'\n');
        write_whole(dir, Path::new("run.json"), &mut |path| {
            std::fs::write(path, &text).map_err(|source| OutputError::Io { path: path.to_owned(), source })
        })?;
        Ok(())
    }
}

/// `2026-11-20T21:05:09Z`.
fn rfc3339(time: SystemTime) -> String {
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
