//! Owns the outputs of the slides of one slot: writes parts, commits or drops, and tells how each slide ended.

use super::WriteMessage;
use crate::{
    error::{SlideError, StageName},
    instances::{Instance, Lesion, LesionFinder},
    output::{Committed, OutputError, ResultKind, SlidePart, SlideWriter},
    pipeline::{
        heap,
        job::{Failure, SlideJob},
        stage::{Emit, Stage, StageStop},
    },
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
    pub fn new(kind: ResultKind, lesion_min_area_um2: f64, regions: Arc<RegionPool>) -> Self {
        Self { kind, lesion_min_area_um2, regions, slides: HashMap::new() }
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
        let writer = self.slides.remove(&job.slot).and_then(|o| o.writer);
        let mut committed = None;
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
                Err(error) => job.fail(output_failure(&error)),
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
    writer.semantic_rows(&mut |y, classes| finder.push_row(y, classes, None, &mut keep))?;
    finder.finish(&mut keep);
    writer.add_lesions(&lesions)
}

fn output_failure(error: &OutputError) -> Failure {
    Failure::Error(
        SlideError::new(StageName::Output, error)
            .hint("check that the output directory exists, may be written to, and has room"),
    )
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
                let Some(open) = self.open_of(&job) else { return Ok(()) };
                // Probabilities and rows of tiles come before the region's classes or nuclei; only the latter count it.
                let counts = !matches!(part, SlidePart::Prob { .. } | SlidePart::Tiles { .. });
                if job.failure().is_none()
                    && let Some(writer) = &mut open.writer
                    && let Err(error) = job.clocks.time(StageName::Output, || writer.write(part))
                {
                    job.fail(output_failure(&error));
                }
                if job.failure().is_some() {
                    // Dropping the writer removes what it wrote.
                    open.writer = None;
                }
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
