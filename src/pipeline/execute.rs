//! The main job from end to end: find slides, run them, leave `slides.parquet` and `run.json`.
//!
//! Owns: [`execute`]. Must not know: YAML, terminals.

use crate::{
    config::settings::{Settings, TissueMethod},
    error::{RunError, exit},
    output::{OutputError, SlideRecord, SlideStatus, write_slides_table},
    pipeline::{
        manifest::{Manifest, SlideArtifacts},
        run::{RunContext, RunSummary, run},
        setup::Setup,
    },
    slides::{self, SlideEntry},
};
use std::path::Path;

/// What the user asked for, as text and resolved.
pub struct Request<'a> {
    /// The YAML file.
    pub config_path: &'a Path,
    /// Its text.
    pub config_text: &'a str,
    /// The run.
    pub settings: &'a Settings,
}

/// Finds the slides of `settings`, relative to the current directory.
///
/// # Errors
/// [`RunError::Setup`] when a glob or a path cannot be used, [`RunError::NoSlide`] when nothing matches.
pub fn find_slides(settings: &Settings) -> Result<Vec<SlideEntry>, RunError> {
    let entries = slides::discover(&settings.slides, Path::new("")).map_err(|e| RunError::Setup {
        message: e.to_string(),
        hint: Some("see `slides:`; paths and globs are relative to the current directory".to_owned()),
    })?;
    if entries.is_empty() {
        return Err(RunError::NoSlide);
    }
    Ok(entries)
}

/// What the settings name for all slides must be there before the first.
fn check_paths(settings: &Settings) -> Result<(), RunError> {
    let missing = |key: &str, path: &Path, expected: &str| RunError::Setup {
        message: format!("`{key}` is no {expected}: {}", path.display()),
        hint: Some("paths are relative to the current directory".to_owned()),
    };
    if let Some(csv) = settings.slides.mpp_csv.as_deref().filter(|p| !p.is_file()) {
        return Err(missing("slides.mpp_csv", csv, "file"));
    }
    match &settings.tissue.method {
        TissueMethod::MaskDir(dir) if !dir.is_dir() => Err(missing("tissue.mask_dir", dir, "directory")),
        TissueMethod::GeojsonDir(dir) if !dir.is_dir() => Err(missing("tissue.geojson_dir", dir, "directory")),
        _ => Ok(()),
    }
}

/// Runs everything and writes what a run leaves behind. Returns the summary and the exit code of the program.
///
/// # Errors
/// [`RunError`]; `run.json` then says `failed`, and what slides had finished stays.
pub fn execute(request: &Request<'_>, context: &RunContext) -> Result<(RunSummary, u8), RunError> {
    let setup = Setup::new(request.settings)?;
    check_paths(request.settings)?;
    let entries = find_slides(request.settings)?;
    let dir = &request.settings.output.dir;
    if dir.exists() && !dir.is_dir() {
        return Err(RunError::Output {
            message: format!("output directory is a file, expected a directory or nothing: {}", dir.display()),
            hint: Some("choose another with `--output` (`output.dir`)".to_owned()),
        });
    }
    std::fs::create_dir_all(dir).map_err(|source| unwritable(&OutputError::Io { path: dir.clone(), source }))?;
    let mut manifest = Manifest::new(request.config_path, request.config_text, request.settings);
    let spec = setup.model.spec();
    manifest.weights = spec.weights_sha256.iter().map(|sha256| (spec.name.to_owned(), sha256.clone())).collect();
    manifest.write(dir).map_err(|e| unwritable(&e))?;
    let summary = match run(&setup, &entries, context) {
        Ok(summary) => summary,
        Err(error) => {
            manifest.finish("failed", exit::RUN, vec![]);
            // The run's own error is what the user must see, also when the manifest cannot say it.
            let _ = manifest.write(dir);
            return Err(error);
        }
    };
    let records: Vec<SlideRecord> = summary.slides.iter().map(|s| s.record.clone()).collect();
    write_slides_table(dir, &records).map_err(|e| unwritable(&e))?;
    let (status, code) = if summary.is_interrupted {
        ("interrupted", exit::INTERRUPTED)
    } else if records.iter().any(is_lacking) {
        ("slides_failed", exit::SLIDES)
    } else {
        ("complete", exit::OK)
    };
    let slides = summary.slides.iter().map(|s| SlideArtifacts {
        id: s.record.id.clone(),
        status: s.record.status.map_or("failed", SlideStatus::name).to_owned(),
        artifacts: s.artifacts.clone(),
    });
    manifest.finish(status, code, slides.collect());
    manifest.write(dir).map_err(|e| unwritable(&e))?;
    Ok((summary, code))
}

/// Whether a slide failed or lost tiles.
fn is_lacking(record: &SlideRecord) -> bool {
    !matches!(record.status, Some(SlideStatus::Complete | SlideStatus::NoTissue)) || record.tiles_failed > 0
}

fn unwritable(error: &OutputError) -> RunError {
    RunError::Output {
        message: error.to_string(),
        hint: Some("choose another directory with `--output` (`output.dir`), or make room".to_owned()),
    }
}
