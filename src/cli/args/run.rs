//! What `wsi-run run` may be told.
//!
//! Owns: the clap types of the verb. Must not know: how slides are run.

use super::{PipelineArgs, time::seconds};
use crate::run::Shard;
use clap::Args;

/// Examples of the verb.
pub(super) const EXAMPLES: &str = "\
Examples:
  wsi-run pipeline.yaml
  wsi-run pipeline.yaml --set tiling.stride_px=128 --set pixels.stain=macenko
  wsi-run pipeline.yaml --output /scratch/run7 --threads 16 --memory 32GiB
  wsi-run pipeline.yaml --log-json 2> run.jsonl
  wsi-run pipeline.yaml --shard 3/16              the third of sixteen parts; `wsi-run merge` when all are done
  wsi-run pipeline.yaml --claim                   on as many hosts as you like, with one output directory
  wsi-run pipeline.yaml --watch /data/incoming    slides as they come, until SIGTERM

Running it again does only what is missing or has changed: slides, settings, weights.";

/// `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Print plain lines instead of progress bars
    #[arg(long)]
    pub no_progress: bool,
    /// Run one part of the slides: the third of sixteen is `3/16`
    ///
    /// Slides are dealt by their tissue, largest first, each to the part with the least. A look at each slide's coarsest
    /// level tells (10 to 20 ms a slide and core, 30 to 50 ms through OpenSlide; tasks that begin together share it).
    /// Estimates stay in the output directory, so that every task deals alike, whenever it begins. A slide that cannot
    /// be looked at, or has no small level, counts by its bytes
    #[arg(long, value_name = "TASK/TASKS", conflicts_with = "claim")]
    pub shard: Option<Shard>,
    /// Deal the slides that were listed when the batch was submitted, not those there are now
    #[arg(long, requires = "shard")]
    pub listed: bool,
    /// Share the slides with any number of other processes that are given the same output directory
    #[arg(long)]
    pub claim: bool,
    /// Run the slides of a directory (slides.dir), and again whenever some come or change, until a signal ends it; a
    /// line of JSON on standard output tells of each round
    #[arg(long, value_name = "DIR", conflicts_with = "shard")]
    pub watch: Option<String>,
    /// How often a watched directory is looked at: 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = seconds, requires = "watch")]
    pub every: u64,
}
