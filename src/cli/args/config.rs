//! What `wsi-run config` may be told.
//!
//! Owns: the clap types of the verb. Must not know: which keys there are.

use super::OverrideArgs;
use clap::Args;
use std::path::PathBuf;

/// Examples of the verb.
pub(super) const EXAMPLES: &str = "\
Examples:
  wsi-run config > pipeline.yaml                every key with its default, to start from
  wsi-run config pipeline.yaml                  every setting of that run, and where each is from
  wsi-run config pipeline.yaml --set batch.size=32
  wsi-run config --markdown                     the keys as tables";

/// `config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The YAML file of the run; without it, every key is printed with its default
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<PathBuf>,
    /// What is said over the file.
    #[command(flatten)]
    pub over: OverrideArgs,
    /// Print the keys as Markdown tables
    #[arg(long, conflicts_with = "pipeline")]
    pub markdown: bool,
    /// Print the keys of a training file
    #[arg(long, conflicts_with_all = ["pipeline", "markdown"])]
    pub training: bool,
}
