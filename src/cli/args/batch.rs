//! What the verbs of a batch may be told: `submit`, `status`, `merge`, `retry`, `verify`.
//!
//! Owns: the clap types of the verbs. Must not know: Slurm, what a batch leaves.

use super::{PipelineArgs, time::seconds};
use clap::Args;
use std::path::PathBuf;

/// Examples of `submit`.
pub(super) const EXAMPLES: &str = "\
Examples:
  wsi-run submit pipeline.yaml --tasks 16 --dry-run          print the scripts, submit nothing
  wsi-run submit pipeline.yaml --tasks 16 --cpus 8 --time 12:00:00
  wsi-run submit pipeline.yaml --tasks 16 --sbatch=--partition=long --sbatch=--gres=gpu:1
  wsi-run status results                                     while it runs";

/// `submit`.
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Tasks of the array
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tasks: u32,
    /// CPUs per task
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cpus: u32,
    /// Memory per task as Slurm writes it, for example 16G; default: what the plan needs
    #[arg(long, value_name = "MEMORY")]
    pub mem: Option<String>,
    /// Time limit of a task; a task whose time is up is queued again and goes on. Default: three times what the largest
    /// task would take on this machine, half an hour at least; with --gpus or --unopened 12:00:00
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub time: Option<u64>,
    /// Seconds before the limit at which a task stops and saves what it has
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(10..=3600))]
    pub grace: u32,
    /// GPUs per task
    #[arg(long, value_name = "N")]
    pub gpus: Option<u32>,
    /// Another option for sbatch, for example `--sbatch=--partition=long`; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Deal slides by the size of their files instead of their tissue, without opening them; needs `--mem`
    #[arg(long, requires = "mem")]
    pub unopened: bool,
    /// Print the scripts and submit nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The output directory of the batch
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `merge`.
#[derive(Debug, Clone, Args)]
pub struct DirArgs {
    /// The output directory of the batch
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// The output directory of the batch
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Set a key over those of the batch, for example `run.memory=32GiB`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print plain lines instead of progress bars
    #[arg(long)]
    pub no_progress: bool,
}

/// `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The directory of a run, where run.json is
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
