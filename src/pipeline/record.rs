//! From how a slide ended to its row in `slides.parquet`.
//!
//! Owns: the words of that row. Must not know: files, threads.

use super::{job::Failure, prepare::SlidePlan, stages::SlideOutcome};
use crate::{
    error::{SlideError, StageName, one_line},
    output::{SlideRecord, SlideStatus},
    slides::SlideEntry,
};

const STAGES: [StageName; 7] = [
    StageName::Slides,
    StageName::Tissue,
    StageName::Pixels,
    StageName::Model,
    StageName::Stitch,
    StageName::Instances,
    StageName::Output,
];

/// A slide that could not even be opened or planned.
pub fn of_unopened(entry: &SlideEntry, error: &SlideError) -> SlideRecord {
    SlideRecord {
        id: entry.id.clone(),
        path: entry.path.display().to_string(),
        status: Some(SlideStatus::Failed),
        error: Some(error.to_string()),
        hint: error.hint.clone(),
        ..SlideRecord::default()
    }
}

/// A slide that was planned and could not be started.
pub fn of_planned(plan: &SlidePlan, error: &SlideError) -> SlideRecord {
    SlideRecord {
        status: Some(SlideStatus::Failed),
        error: Some(error.to_string()),
        hint: error.hint.clone(),
        ..known(plan)
    }
}

/// A slide that was planned when the run was asked to stop.
pub fn of_interrupted(plan: &SlidePlan) -> SlideRecord {
    let hint = Some("run the same command again".to_owned());
    SlideRecord { status: Some(SlideStatus::Interrupted), hint, ..known(plan) }
}

/// A slide that went through the flow.
pub fn of_outcome(plan: &SlidePlan, outcome: &SlideOutcome, stain: &str) -> SlideRecord {
    let job = &outcome.job;
    let mut record = SlideRecord {
        tiles_done: job.tiles_done_count(),
        tiles_failed: job.tiles_failed_count(),
        stain: Some(stain.to_owned()),
        seconds: STAGES.iter().map(|&s| (s.to_string(), job.clocks.secs(s))).collect(),
        ..known(plan)
    };
    match (&outcome.committed, job.failure()) {
        (Some(done), _) => {
            let status = if plan.tiles.tiles.is_empty() { SlideStatus::NoTissue } else { SlideStatus::Complete };
            record.status = Some(status);
            record.instances = done.instances;
            record.computed_area_um2 = Some(done.computed_area_um2);
            let classes = plan.header.classes.iter().zip(&done.class_counts).zip(&done.class_area_um2);
            record.classes = classes.map(|((class, &n), &um2)| (class.name.clone(), n, um2)).collect();
            if let Some(reason) = job.first_tile_error() {
                let (lost, all) = (record.tiles_failed, record.tiles_planned);
                record.error =
                    Some(one_line(format!("pixels: {lost} of {all} tiles could not be read; the first: {reason}")));
                record.hint = Some("their pixels are marked not computed (255); copy the slide again".to_owned());
            }
        }
        (None, Some(Failure::Error(error))) => {
            record.status = Some(SlideStatus::Failed);
            record.error = Some(error.to_string());
            record.hint.clone_from(&error.hint);
        }
        (None, _) => {
            record.status = Some(SlideStatus::Interrupted);
            record.hint = Some("run the same command again".to_owned());
        }
    }
    record
}

/// What is known once a slide is planned.
fn known(plan: &SlidePlan) -> SlideRecord {
    let header = &plan.header;
    let notes: Vec<&str> = plan.tissue.notes.iter().map(String::as_str).chain(plan.color.warning.as_deref()).collect();
    SlideRecord {
        id: header.id.clone(),
        path: header.path.display().to_string(),
        sha: plan.identity.clone(),
        vendor: Some(plan.vendor.clone()),
        width_px: Some(header.grid.level0.w),
        height_px: Some(header.grid.level0.h),
        mpp_x: Some(header.grid.slide_mpp.x.um_per_px()),
        mpp_y: Some(header.grid.slide_mpp.y.um_per_px()),
        mpp_source: Some(plan.mpp_source.to_owned()),
        mask_mpp: Some(header.grid.input_mpp.um_per_px()),
        tissue_area_um2: Some(plan.tissue_area_um2()),
        tiles_planned: plan.tiles.tiles.len() as u64,
        notes: (!notes.is_empty()).then(|| one_line(notes.join("; "))),
        color_kind: Some(plan.color.kind.name().to_owned()),
        ..SlideRecord::default()
    }
}
