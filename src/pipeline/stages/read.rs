//! Reads tiles: pixels at the target resolution, stain-normalised unless the model does that.

use super::{ReadTile, Tile, TileRef};
use crate::{
    config::settings::OnTileError,
    error::{SlideError, StageName},
    pipeline::{
        cancel::CancelToken,
        job::Failure,
        stage::{Emit, Stage, StageStop},
    },
    pixels::{BufferPool, ReadScratch},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One reader thread's state.
pub struct ReadStage {
    /// Where tile buffers come from.
    pub pool: BufferPool,
    /// What an unreadable tile does.
    pub on_tile_error: OnTileError,
    /// Whether slides in flight are to be dropped.
    pub cancel: CancelToken,
    /// Whether the model normalises stain: tiles then stay as they are read.
    pub leaves_stain: bool,
    /// Buffers kept between tiles.
    pub scratch: ReadScratch,
}

impl ReadStage {
    /// The tile's pixels, or nothing after its failure was counted.
    fn read(&mut self, at: &TileRef) -> Option<crate::pixels::PooledBuf> {
        let job = &at.job;
        if self.cancel.stops_slides() {
            job.fail(Failure::Interrupted);
        }
        if job.claim.is_lost() {
            job.fail(Failure::TakenOver);
        }
        if job.failure().is_some() {
            return None;
        }
        let mut rgb = self.pool.acquire();
        let input = job.plan.tiles[at.index].input;
        let side = job.plan.tiler.tile_px as usize;
        let px = &mut rgb[..side * side * 3];
        // A panic here is a bug in one tile's decoder; the other slides need not pay for it.
        let read = catch_unwind(AssertUnwindSafe(|| {
            job.clocks.time(StageName::Pixels, || {
                let read = job.reader.read(input, px, &mut self.scratch);
                if read.is_ok() && !self.leaves_stain {
                    job.stain.apply(px);
                }
                read
            })
        }));
        let reason = match read {
            Ok(Ok(())) => return Some(rgb),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("reading tile {} panicked", at.index),
        };
        if self.on_tile_error == OnTileError::FailSlide {
            job.fail(Failure::Error(
                SlideError::new(StageName::Pixels, &reason)
                    .hint("the file may be damaged; `run.on_tile_error: leave_uncomputed` keeps the rest of the slide"),
            ));
        }
        job.tile_failed(reason);
        None
    }
}

impl Stage for ReadStage {
    type In = TileRef;
    type Out = ReadTile;

    fn process(&mut self, at: TileRef, out: &mut dyn Emit<ReadTile>) -> Result<(), StageStop> {
        Ok(out.emit(match self.read(&at) {
            Some(rgb) => ReadTile::Tile(Tile { at, rgb }),
            None => ReadTile::Skipped(at),
        })?)
    }
}
