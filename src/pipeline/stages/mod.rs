//! Adapters between the folders of the flow and the threads: each takes a message, calls into its folder, hands on.

mod batch;
mod extract;
mod predict;
mod read;
mod stitch;
mod write;

pub use batch::BatchStage;
pub use extract::ExtractStage;
pub use predict::PredictStage;
pub use read::ReadStage;
pub use stitch::StitchStage;
pub use write::{SlideOutcome, WriteStage, output_failure};

use crate::stitch::Region;
use crate::{model::HeadMap, output::SlidePart, output::SlideWriter, pipeline::job::SlideJob, pixels::PooledBuf};
use std::sync::Arc;

/// Tile `index` of a slide's plan: to be read, or not to be had.
pub struct TileRef {
    /// The slide.
    pub job: Arc<SlideJob>,
    /// Index into the plan's tiles.
    pub index: usize,
}

/// A tile with its pixels, `[tile_px, tile_px, 3]`.
pub struct Tile {
    /// Which.
    pub at: TileRef,
    /// Pixels as the model sees them.
    pub rgb: PooledBuf,
}

/// What becomes of a planned tile: exactly one of the two, exactly once.
pub enum ReadTile {
    /// Its pixels.
    Tile(Tile),
    /// It could not be read, or its slide failed.
    Skipped(TileRef),
}

/// Tiles that go through the model together.
pub enum Batch {
    /// At least one tile.
    Tiles(Vec<Tile>),
    /// Passed through.
    Skipped(TileRef),
}

/// What a model said of a tile.
pub enum Prediction {
    /// Its maps.
    Maps(Vec<HeadMap>),
    /// Its maps were added to the slide's blocks where the model runs.
    Added,
}

/// A planned tile after the model.
pub enum TileOutcome {
    /// What was said, and the tile's pixels for what is measured on them.
    Predicted(Tile, Prediction),
    /// Passed through.
    Skipped(TileRef),
}

/// What was said of one tile.
pub struct TileAnswer {
    /// Column and row of the tile.
    pub at: (u32, u32),
    /// Probability of each class, in fixed point.
    pub probs: Vec<i16>,
}

/// What the stitcher hands on.
pub enum Stitched {
    /// A finished region.
    Region(Arc<SlideJob>, Region),
    /// What was said of each tile of a slide, of models that say one thing per tile.
    Tiles(Arc<SlideJob>, Vec<TileAnswer>),
    /// Every planned tile of the slide has arrived; no region follows.
    Ended(Arc<SlideJob>),
}

/// What a writer is told.
pub enum WriteMessage {
    /// A slide begins; comes before anything else of the slide.
    Start(Arc<SlideJob>, Box<SlideWriter>),
    /// Something to write.
    Part(Arc<SlideJob>, SlidePart),
    /// A region was lost: its slide has failed.
    Lost(Arc<SlideJob>),
    /// Every region of the slide was handed out; some may still be on their way.
    Ended(Arc<SlideJob>),
}
