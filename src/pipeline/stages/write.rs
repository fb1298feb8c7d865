//! Owns the outputs of the slides of one slot: writes parts, commits or drops, and tells how each slide ended.

use super::WriteMessage;
use crate::{
    error::{SlideError, StageName},
    instances::{Instance, Lesion, LesionFinder},
    output::{Committed, OutputError, ResultKind, SlidePart, SlideWriter},
    pipeline::{
        cancel::{CancelToken, StopReason},
        heap,
        job::{Failure, SlideJob},
        stage::{Emit, Stage, StageStop},
    },
    run::Claim,
    stitch::RegionPool,
};
use std::{collections::HashMap, sync::Arc};

/// How a slide ended.
pub struct SlideOutcome {
    /// The slide.
    pub job: Arc<SlideJob>,
    /// What was committed; `None` when it failed (see [`SlideJob::failure`]).
    pub committed: Option<Committed>,
}

/// One writer thread's state.
pub struct WriteStage {
    kind: ResultKind,
    /// Smallest lesion of semantic models.
    lesion_min_area_um2: f64,
    /// Where used regions wait for the next slide.
    regions: Arc<RegionPool>,
    /// Asked to stop when no slide can be written any more.
    cancel: CancelToken,
    slides: HashMap<usize, Open>,
}

struct Open {
    job: Arc<SlideJob>,
    writer: Option<Box<SlideWriter>>,
    /// Regions written or lost.
    regions: usize,
    has_ended: bool,
}

impl WriteStage {
    /// A writer without slides.
    pub fn new(kind: ResultKind, lesion_min_area_um2: f64, regions: Arc<RegionPool>, cancel: CancelToken) -> Self {
        Self { kind, lesion_min_area_um2, regions, cancel, slides: HashMap::new() }
    }

    /// The open outputs of `job`; nothing for a late message of a slide whose slot has gone to the next.
    fn open_of(&mut self, job: &Arc<SlideJob>) -> Option<&mut Open> {
        self.slides.get_mut(&job.slot).filter(|open| Arc::ptr_eq(&open.job, job))
    }

    /// Ends the slide if nothing of it is still on its way.
    fn end_if_whole(&mut self, job: Arc<SlideJob>, out: &mut dyn Emit<SlideOutcome>) -> Result<(), StageStop> {
        // The tiles of a slide come as one.
        let of_tiles = usize::from(!job.plan.tiles.is_empty());
        let expected = if self.kind == ResultKind::Tiles { of_tiles } else { job.plan.region_count() };
        let Some(open) = self.open_of(&job) else { return Ok(()) };
        let is_whole = open.regions == expected || job.failure().is_some();
        if !(open.has_ended && is_whole) {
            return Ok(());
        }
        drop_failed(open);
        let writer = self.slides.remove(&job.slot).and_then(|o| o.writer);
        let mut committed = None;
        if job.failure().is_none() && !job.claim.is_held() {
            job.fail(Failure::TakenOver);
        }
        if let (None, Some(mut writer)) = (job.failure(), writer) {
            // What the flow used is free now, and the commit needs other sizes.
            self.regions.clear();
            heap::give_back();
            let commit = || {
                if self.kind == ResultKind::Semantic {
                    add_lesions(&mut writer, &job, self.lesion_min_area_um2)?;
                }
                writer.commit()
            };
            match job.clocks.time(StageName::Output, commit) {
                Ok(done) => committed = Some(done),
                Err(error) => job.fail(output_failure(&error, &job.claim, &self.cancel)),
            }
        }
        Ok(out.emit(SlideOutcome { job, committed })?)
    }
}

/// Finds the lesions of a finished class mask. Their pixels are in the mask, so only outlines are held.
fn add_lesions(writer: &mut SlideWriter, job: &SlideJob, min_area_um2: f64) -> Result<(), OutputError> {
    let grid = &job.header.grid;
    let mut lesions: Vec<Instance> = vec![];
    let mut keep = |lesion: Lesion| lesions.push(Instance { runs: vec![], ..lesion.instance });
    let mut finder = LesionFinder::new(grid.size.w, job.header.classes.len() as u8, grid.input_mpp, min_area_um2);
    if writer.has_probs() {
        finder = finder.with_probs();
    }
    writer.semantic_rows(&mut |y, classes, probs| finder.push_row(y, classes, probs, &mut keep))?;
    finder.finish(&mut keep);
    writer.add_lesions(&lesions)
}

/// What a failed write does to its slide; where the place is to blame, the run ends and the slide can go on later.
/// Who has taken a slide over takes away what its former owner was writing.
pub fn output_failure(error: &OutputError, claim: &Claim, cancel: &CancelToken) -> Failure {
    if !claim.is_held() || error.is_of_a_taken_place() {
        return Failure::TakenOver;
    }
    if error.is_of_the_place() {
        cancel.stop(StopReason::Output(error.to_string()), true);
        return Failure::Interrupted;
    }
    Failure::Error(
        SlideError::new(StageName::Output, error)
            .hint("check that the output directory exists, may be written to, and has room"),
    )
}

/// Gives up the outputs of a slide that failed or is another's now; one that was only interrupted keeps its journal.
fn drop_failed(open: &mut Open) {
    match (open.job.failure(), open.writer.take()) {
        (None, writer) => open.writer = writer,
        (Some(Failure::Error(_) | Failure::TakenOver), Some(writer)) => writer.discard(),
        _ => {}
    }
}

impl Stage for WriteStage {
    type In = WriteMessage;
    type Out = SlideOutcome;

    fn process(&mut self, item: WriteMessage, out: &mut dyn Emit<SlideOutcome>) -> Result<(), StageStop> {
        match item {
            WriteMessage::Start(job, writer) => {
                let slot = job.slot;
                self.slides.insert(slot, Open { job, writer: Some(writer), regions: 0, has_ended: false });
            }
            WriteMessage::Part(job, part) => {
                let cancel = self.cancel.clone();
                let Some(open) = self.open_of(&job) else { return Ok(()) };
                // Probabilities and rows of tiles come before the region's classes or nuclei; only the latter count it.
                let counts = !matches!(part, SlidePart::Prob { .. } | SlidePart::Tiles { .. });
                if job.failure().is_none()
                    && let Some(writer) = &mut open.writer
                {
                    if job.tiles_failed_count() > 0 {
                        // A part without its lost tiles is not one to go on from: they may be readable next time.
                        writer.end_journal();
                    }
                    if let Err(error) = job.clocks.time(StageName::Output, || writer.write(part)) {
                        job.fail(output_failure(&error, &job.claim, &cancel));
                    }
                }
                drop_failed(open);
                open.regions += usize::from(counts);
                self.end_if_whole(job, out)?;
            }
            WriteMessage::Lost(job) => self.end_if_whole(job, out)?,
            WriteMessage::Ended(job) => {
                if let Some(open) = self.open_of(&job) {
                    open.has_ended = true;
                }
                self.end_if_whole(job, out)?;
            }
        }
        Ok(())
    }
}
