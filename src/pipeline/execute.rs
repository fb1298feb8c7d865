//! The main job from end to end: find slides, run those that need it, leave `slides.parquet` and `run.json`.
//!
//! Owns: [`execute`], [`Part`]. Must not know: YAML, terminals.

use crate::{
    config::settings::{Settings, SlideSource, TissueMethod},
    error::{RunError, exit},
    output::{OutputError, SlideRecord, SlideStatus, sweep, write_slides_table},
    pipeline::{
        cancel::StopReason,
        estimate, heap,
        manifest::{Counts, Manifest, SlideArtifacts},
        report,
        run::{RunContext, RunSummary, Share, SlideResult, run},
        setup::Setup,
        work::Failed,
    },
    run::{Claim, Claims, OutputPlace, Shard, SlideList, StateDir, Taking, deal},
    slides::{self, SlideEntry},
};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

/// Which slides a run takes, and with whom it shares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All; no other run may be at work.
    Whole,
    /// Those dealt to it; it leaves `slides.parquet` to [`crate::pipeline::merge`].
    Shard {
        /// Which part.
        shard: Shard,
        /// Whether slides and their work are those of the list that was written when the batch was submitted.
        is_listed: bool,
    },
    /// Any that nobody has; any number of processes may share an output directory.
    Claim,
    /// Those that failed or lost tiles.
    Failed,
}

/// What the user asked for, as text and resolved.
pub struct Request<'a> {
    /// The YAML file.
    pub config_path: &'a Path,
    /// Its text.
    pub config_text: &'a str,
    /// What was said over it, as `key=value`.
    pub overrides: &'a [String],
    /// The run.
    pub settings: &'a Settings,
    /// Which slides.
    pub part: Part,
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
        return Err(RunError::NoSlide(match &settings.slides.source {
            SlideSource::Dir(dir) => format!("`slides.dir` holds none: {}", dir.display()),
            SlideSource::Glob(patterns) => format!("`slides.glob` matches none: {}", patterns.join(", ")),
            SlideSource::List(_) => "`slides.list` names none".to_owned(),
            SlideSource::Synthetic(_) => "`slides.synthetic` asks for none".to_owned(),
        }));
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

/// All slides of the batch, and those of this part.
fn slides_of(request: &Request<'_>, state: &StateDir) -> Result<(SlideList, Vec<SlideEntry>), RunError> {
    match request.part {
        Part::Shard { is_listed: true, .. } | Part::Failed => {
            let list = SlideList::read(state).ok_or_else(|| RunError::Setup {
                message: format!("no slide list of a batch: {}", state.path("list.json").display()),
                hint: Some("`wsi-run submit` writes it, and so does every run".to_owned()),
            })?;
            let entries = list.entries();
            Ok(of_part(request.part, list, entries))
        }
        _ => {
            let entries = find_slides(request.settings)?;
            let list = match request.part {
                Part::Shard { shard, .. } => estimate::by_tissue(&entries, request.settings, state, shard),
                // Nobody else has to come to the same: what costs nothing is enough to tell the time left.
                _ => SlideList::by_bytes(&entries),
            };
            Ok(of_part(request.part, list, entries))
        }
    }
}

fn of_part(part: Part, list: SlideList, entries: Vec<SlideEntry>) -> (SlideList, Vec<SlideEntry>) {
    let Part::Shard { shard, .. } = part else { return (list, entries) };
    let dealt = list.slides.iter().zip(deal(&list.slides, shard.count));
    let mine: Vec<&str> = dealt.filter(|(_, of)| *of == shard.index).map(|(slide, _)| slide.id.as_str()).collect();
    let mine = entries.into_iter().filter(|entry| mine.binary_search(&entry.id.as_str()).is_ok()).collect();
    (list, mine)
}

/// The right to be the only run of the output directory, for parts that want it.
fn lock(part: Part, locks: &Claims, state: &StateDir) -> Result<Option<Claim>, RunError> {
    let words = |owner: crate::run::Owner| {
        let who = if owner.host.is_empty() {
            "somebody".to_owned()
        } else {
            format!("{}, process {}", owner.host, owner.pid)
        };
        RunError::Locked(format!("{who}: {}", state.out().display()))
    };
    match part {
        Part::Whole | Part::Failed => match locks.take("run").map_err(|e| unwritable(&e))? {
            Taking::Mine(claim) => Ok(Some(claim)),
            Taking::Busy(owner) => Err(words(owner)),
        },
        Part::Shard { .. } | Part::Claim => locks.owner("run").map_or(Ok(None), |owner| Err(words(owner))),
    }
}

/// Runs everything and writes what a run leaves behind. Returns the summary and the exit code of the program.
///
/// # Errors
/// [`RunError`]; `run.json` then says `failed`, and what slides had finished stays.
pub fn execute(request: &Request<'_>, context: &RunContext) -> Result<(RunSummary, u8), RunError> {
    execute_under(request, context, None)
}

/// The right to the output directory of a run that goes on after one [`execute_under`].
///
/// # Errors
/// [`RunError`] when another run has it, or the directory cannot be used.
pub(super) fn take_lock(request: &Request<'_>) -> Result<Option<Claim>, RunError> {
    let (dir, state) = (&request.settings.output.dir, StateDir::new(&request.settings.output.dir));
    OutputPlace::of(dir).map_err(|e| unwritable(&e))?;
    lock(request.part, &Claims::locks(&state, lease(request.settings)), &state)
}

fn lease(settings: &Settings) -> Duration {
    Duration::from_secs(settings.run.lease_secs.into())
}

/// [`execute`], by one who holds the output directory already when there is `held`.
pub(super) fn execute_under(
    request: &Request<'_>,
    context: &RunContext,
    held: Option<&Claim>,
) -> Result<(RunSummary, u8), RunError> {
    heap::keep_small();
    let began = Instant::now();
    let setup = Setup::new(request.settings)?;
    check_paths(request.settings)?;
    let dir = &request.settings.output.dir;
    let state = StateDir::new(dir);
    let (list, entries) = slides_of(request, &state)?;
    if dir.exists() && !dir.is_dir() {
        return Err(RunError::Output {
            message: format!("output directory is a file, expected a directory or nothing: {}", dir.display()),
            hint: Some("choose another with `--output` (`output.dir`)".to_owned()),
        });
    }
    let place = OutputPlace::of(dir).map_err(|e| unwritable(&e))?;
    let lease = lease(request.settings);
    let lock = match held {
        Some(claim) => Some(claim.clone()),
        None => lock(request.part, &Claims::locks(&state, lease), &state)?,
    };
    list.write(&state).map_err(|e| unwritable(&e))?;
    let (shard, failed) = match request.part {
        Part::Whole => (None, Failed::Again),
        Part::Shard { shard, .. } => (Some(shard), Failed::Left),
        Part::Claim => (None, Failed::Left),
        Part::Failed => (None, Failed::Only),
    };
    let entries = if failed == Failed::Only { lacking(entries, &state) } else { entries };
    let name = Manifest::name_of(shard);
    let mut manifest = manifest(request, &setup, &list, shard);
    manifest.write(dir, &name).map_err(|e| unwritable(&e))?;
    let claims = Claims::new(&state, lease);
    let share = Share { state, claims, failed, shard: manifest.shard.clone(), lock };
    let ran = run(&setup, &entries, &share, context).and_then(|summary| {
        place.check().map_err(|e| stopped_writing(&e.to_string()))?;
        leave((&summary, began), &list, &share, shard, (&mut manifest, &name))?;
        let now = share.state.now();
        sweep(dir, now, &|slide| {
            let is_done = share.state.slide(slide).is_some_and(|state| state.is_complete());
            is_done && share.claims.owner(slide).is_none()
        });
        share.state.sweep(now);
        match &summary.stopped {
            // The slides are remembered; the run itself has failed.
            Some(StopReason::Output(message)) => Err(stopped_writing(message)),
            _ => Ok(summary),
        }
    });
    match ran {
        Ok(summary) => {
            let code = ending(&summary).1;
            Ok((summary, code))
        }
        Err(error) => {
            if manifest.exit_code.is_none() && place.check().is_ok() {
                manifest.finish("failed", exit::RUN, vec![]);
                // The run's own error is what the user must see, also when the manifest cannot say it.
                let _ = manifest.write(dir, &name);
            }
            Err(error)
        }
    }
}

/// What is known before the first slide.
fn manifest(request: &Request<'_>, setup: &Setup, list: &SlideList, shard: Option<Shard>) -> Manifest {
    let config = (request.config_path, request.config_text, request.overrides);
    let mut manifest = Manifest::new(config, request.settings, setup.weights());
    let spec = setup.model.spec();
    manifest.model = Some(spec.name.to_owned());
    manifest.classes.clone_from(&spec.classes);
    manifest.results = Some(setup.kind);
    manifest.shard = shard.map(|shard| shard.to_string());
    manifest.list_digest = Some(list.digest.clone());
    manifest
}

/// Slides that failed or lost tiles; those that nothing is known of were never run, and are no failures.
fn lacking(entries: Vec<SlideEntry>, state: &StateDir) -> Vec<SlideEntry> {
    let is_lacking = |entry: &SlideEntry| state.slide(&entry.id).is_some_and(|state| state.is_lacking());
    entries.into_iter().filter(is_lacking).collect()
}

/// Status and exit code of a run.
fn ending(summary: &RunSummary) -> (&'static str, u8) {
    let is_lacking = |r: &SlideRecord| r.status == Some(SlideStatus::Failed) || r.tiles_failed > 0;
    let any = |is: &dyn Fn(&SlideRecord) -> bool| summary.slides.iter().any(|s| is(&s.record));
    let is_left = |r: &SlideRecord| matches!(r.status, Some(SlideStatus::Deferred | SlideStatus::Interrupted));
    match &summary.stopped {
        Some(StopReason::Output(_)) => ("failed", exit::RUN),
        Some(StopReason::Asked) => ("interrupted", exit::INTERRUPTED),
        Some(StopReason::Failures) => ("slides_failed", exit::SLIDES),
        _ if any(&is_lacking) => ("slides_failed", exit::SLIDES),
        _ if summary.not_started > 0 || any(&is_left) => ("unfinished", exit::UNFINISHED),
        _ => ("complete", exit::OK),
    }
}

/// Writes the table of slides, unless other shards have a part of it, and closes the manifest.
fn leave(
    (summary, began): (&RunSummary, Instant),
    list: &SlideList,
    share: &Share,
    shard: Option<Shard>,
    (manifest, name): (&mut Manifest, &Path),
) -> Result<(), RunError> {
    let dir = share.state.out();
    let mut all: BTreeMap<&str, SlideResult> = BTreeMap::new();
    if shard.is_none() {
        // What this run did not look at is as earlier runs left it.
        for slide in &list.slides {
            if let Some(state) = share.state.slide(&slide.id) {
                let result = SlideResult { record: state.record, artifacts: state.artifacts, is_unchanged: true };
                all.insert(&slide.id, result);
            }
        }
    }
    all.extend(summary.slides.iter().map(|result| (result.record.id.as_str(), result.clone())));
    let (status, code) = ending(summary);
    let slides = all.values().map(|s| SlideArtifacts {
        id: s.record.id.clone(),
        status: s.record.status.map_or("failed", SlideStatus::name).to_owned(),
        artifacts: s.artifacts.clone(),
    });
    manifest.finish(status, code, slides.collect());
    manifest.counts = Some(Counts::of(summary));
    let write = || -> Result<(), OutputError> {
        if shard.is_none() {
            let records: Vec<SlideRecord> = all.values().map(|s| s.record.clone()).collect();
            write_slides_table(dir, &records)?;
        }
        manifest.write(dir, name)?;
        if shard.is_none() && manifest.settings.output.report {
            let slides: Vec<_> = all.values().map(|s| (&s.record, &s.artifacts[..])).collect();
            let run = report::of_run(manifest, summary, list, began.elapsed());
            report::write(&share.state, run, &slides)?;
        }
        Ok(())
    };
    match write() {
        // Nothing can be written because the disk is full: that is what the user is to be told, once.
        Err(_) if matches!(summary.stopped, Some(StopReason::Output(_))) => Ok(()),
        written => written.map_err(|e| unwritable(&e)),
    }
}

fn stopped_writing(message: &str) -> RunError {
    RunError::Output {
        message: message.to_owned(),
        hint: Some("make room or mount it again, and run the same command: it goes on where it stopped".to_owned()),
    }
}

fn unwritable(error: &OutputError) -> RunError {
    RunError::Output {
        message: error.to_string(),
        hint: Some("choose another directory with `--output` (`output.dir`), or make room".to_owned()),
    }
}
