//! What `report.html` says of a run, or of a batch that was merged.
//!
//! Owns: [`of_run`], [`of_batch`], [`write`]. Must not know: the page.

use super::{manifest::Manifest, merge::Merged, run::RunSummary};
use crate::{
    output::{Artifact, OutputError, ReportRun, ReportSlide, ResultKind, SlideRecord, write_report},
    run::{SlideList, SlideState, StateDir},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Of a run that took `time`.
pub(super) fn of_run(manifest: &Manifest, summary: &RunSummary, list: &SlideList, time: Duration) -> ReportRun {
    let worked = summary.slides.iter().filter(|slide| !slide.is_unchanged).count();
    let known: BTreeSet<&str> = manifest.slides.iter().map(|slide| slide.id.as_str()).collect();
    let not_done = list.slides.iter().map(|slide| &slide.id).filter(|id| !known.contains(id.as_str()));
    ReportRun {
        model: manifest.model.clone().unwrap_or_default(),
        classes: manifest.classes.clone(),
        noun: noun(manifest.results).to_owned(),
        started_at: Some(manifest.started_at.clone()),
        finished_at: manifest.finished_at.clone(),
        status: manifest.status.to_owned(),
        hosts: vec![manifest.host.clone()],
        pace: Some((time.as_secs_f64(), worked)),
        not_done: not_done.cloned().collect(),
        faults: vec![],
    }
}

/// Of a batch, from what its manifest `run` says; nothing of that is trusted to be there.
pub(super) fn of_batch(run: &Value, merged: &Merged, done: &[&SlideState]) -> ReportRun {
    let text = |key: &str| run[key].as_str().map(str::to_owned);
    let hosts: BTreeSet<&str> = done.iter().map(|state| state.host.as_str()).collect();
    let results = serde_json::from_value::<ResultKind>(run["results"].clone()).ok();
    ReportRun {
        model: text("model").unwrap_or_default(),
        classes: serde_json::from_value(run["classes"].clone()).unwrap_or_default(),
        noun: noun(results).to_owned(),
        started_at: text("started_at"),
        finished_at: text("finished_at"),
        status: text("status").unwrap_or_default(),
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        pace: None,
        not_done: merged.missing.clone(),
        faults: merged.faults.clone(),
    }
}

fn noun(results: Option<ResultKind>) -> &'static str {
    match results {
        Some(ResultKind::Nuclei) => "nuclei",
        Some(ResultKind::Semantic) => "lesions",
        Some(ResultKind::Tiles) => "tiles",
        None => "objects",
    }
}

/// Writes the page.
///
/// # Errors
/// [`OutputError`] of the file system.
pub(super) fn write(
    state: &StateDir,
    run: ReportRun,
    slides: &[(&SlideRecord, &[Artifact])],
) -> Result<(), OutputError> {
    let by_id: BTreeMap<&str, ReportSlide<'_>> =
        slides.iter().map(|&(record, artifacts)| (record.id.as_str(), ReportSlide { record, artifacts })).collect();
    let slides: Vec<ReportSlide<'_>> = by_id.into_values().collect();
    write_report(state.out(), &state.path("thumbs"), &run, &slides).map(drop)
}
