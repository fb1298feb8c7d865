//! What `wsi-run train` may be told.
//!
//! Owns: the clap types of the verb. Must not know: how a network learns.

use super::PipelineArgs;
use clap::Args;

/// Examples of the verb.
pub(super) const EXAMPLES: &str = "\
Examples:
  wsi-run train.yaml                              train, or go on where it stopped
  wsi-run train.yaml --set train.learning_rate=3e-4 --output results/rate_3e-4
  wsi-run plan train.yaml                         samples, steps, parameters, memory
  wsi-run config --training > train.yaml          every key of a training file, to start from

Ctrl-C keeps everything; the same command goes on and ends in the same weights.
DIR/weights.safetensors are the best so far: `model: { network: { weights: DIR/weights.safetensors } }`.";

/// `train`.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    /// Which training.
    #[command(flatten)]
    pub training: PipelineArgs,
    /// Print plain lines instead of a progress bar
    #[arg(long)]
    pub no_progress: bool,
}
