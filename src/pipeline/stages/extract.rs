//! Turns regions into what is written: instances, or classes.

use super::{Stitched, TileAnswer, WriteMessage};
use crate::{
    config::settings,
    error::{SlideError, StageName},
    instances::{self, Extractor, MaskGrid},
    model::{Head, ModelSpec},
    output::SlidePart,
    pipeline::{
        job::{Failure, SlideJob},
        progress::Progress,
        stage::{Emit, Stage, StageStop},
    },
    stitch::{Region, RegionPool},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// A model with one class says it is there at this probability or above.
const SEMANTIC_THRESHOLD: f64 = 0.5;

/// One extractor thread's state.
pub struct ExtractStage {
    /// How objects are found.
    pub settings: settings::Instances,
    /// Which way, for a model that tells nuclei.
    pub extractor: Option<Extractor>,
    /// Pixels of nuclei's masks along one pixel of the maps.
    pub mask_factor: u32,
    /// What the model's heads mean.
    pub spec: ModelSpec,
    /// Whether probabilities are written too.
    pub writes_prob: bool,
    /// Where regions go when they were used.
    pub pool: Arc<RegionPool>,
    /// Is told of instances found.
    pub progress: Arc<dyn Progress>,
}

impl ExtractStage {
    fn parts(&self, job: &SlideJob, region: &Region) -> Vec<SlidePart> {
        let mut parts = vec![];
        let masks = MaskGrid { grid: job.header.grid, factor: self.mask_factor };
        let core = masks.pixels_of(region.core);
        let prob_head = if self.spec.has(Head::NuclearPixel) { Head::NuclearPixel } else { Head::Semantic };
        if let (true, Some(plane)) = (self.writes_prob, region.plane(prob_head)) {
            let channels = plane.channels;
            let of_channel = |c| masks.spread(region, instances::prob_u8(region, prob_head, c));
            parts.push(SlidePart::Prob { core, channels, data: (0..channels).flat_map(of_channel).collect() });
        }
        if let Some(extractor) = self.extractor {
            let found = extractor.extract(region, &job.plan.grid, &masks, &self.settings, &self.spec);
            self.progress.tiles_done(&job.header.id, 0, found.len() as u64);
            let computed = masks.spread(region, region.core_computed());
            parts.push(SlidePart::Nuclei { core, computed, instances: found });
        } else {
            parts.push(SlidePart::Semantic { core, classes: instances::semantic_classes(region, SEMANTIC_THRESHOLD) });
        }
        parts
    }
}

/// A slide's tiles as a class map with a pixel per tile, its probabilities, and the rows of its table.
fn tile_parts(job: &SlideJob, answers: &[TileAnswer]) -> Vec<SlidePart> {
    let (grid, classes) = (&job.header.grid, job.header.classes.len());
    let maps = instances::tile_maps(grid, classes, answers.iter().map(|a| (a.at, &a.probs[..])));
    let core = grid.size.rect();
    vec![
        SlidePart::Prob { core, channels: classes as u32, data: maps.prob },
        SlidePart::Tiles { core, tiles: maps.tiles },
        SlidePart::Semantic { core, classes: maps.classes },
    ]
}

impl Stage for ExtractStage {
    type In = Stitched;
    type Out = WriteMessage;

    fn process(&mut self, item: Stitched, out: &mut dyn Emit<WriteMessage>) -> Result<(), StageStop> {
        let job = match &item {
            Stitched::Ended(job) => return Ok(out.emit(WriteMessage::Ended(job.clone()))?),
            Stitched::Region(job, _) | Stitched::Tiles(job, _) => job.clone(),
        };
        if job.failure().is_some() {
            return Ok(out.emit(WriteMessage::Lost(job))?);
        }
        let work = || match &item {
            Stitched::Region(job, region) => self.parts(job, region),
            Stitched::Tiles(job, answers) => tile_parts(job, answers),
            Stitched::Ended(_) => vec![],
        };
        let parts = job.clocks.time(StageName::Instances, || catch_unwind(AssertUnwindSafe(work)));
        if let Stitched::Region(_, region) = item {
            self.pool.give(region);
        }
        match parts {
            Ok(parts) => {
                for part in parts {
                    out.emit(WriteMessage::Part(job.clone(), part))?;
                }
            }
            Err(_) => {
                job.fail(Failure::Error(SlideError::new(StageName::Instances, "extracting a region panicked")));
                out.emit(WriteMessage::Lost(job))?;
            }
        }
        Ok(())
    }
}
