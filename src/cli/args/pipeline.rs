//! A pipeline or training file on the command line, and what is said over it.
//!
//! Owns: [`PipelineArgs`], [`OverrideArgs`]. Must not know: verbs.

use super::time::seconds;
use clap::Args;
use std::path::PathBuf;

/// A pipeline file and what is said over it.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// The YAML file of the run
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// What is said over the file.
    #[command(flatten)]
    pub over: OverrideArgs,
}

/// What is said over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct OverrideArgs {
    /// Set a key over the file, for example `tiling.stride_px=128`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Directory of the results (output.dir)
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<String>,
    /// Compute threads (run.threads)
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Most memory a slide may ask for, for example 4GiB (run.memory)
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// When to end, whatever is left: 90m, 12h, or seconds (run.time_limit_secs)
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub time_limit: Option<u64>,
    /// Start no further slide after N failed ones (run.max_failures)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_failures: Option<u32>,
}

impl OverrideArgs {
    /// All of it as `key.path=value`; the named options win over `--set`.
    pub fn as_overrides(&self) -> Vec<String> {
        let mut all = self.set.clone();
        all.extend(self.output.as_ref().map(|dir| format!("output.dir={dir}")));
        all.extend(self.threads.map(|threads| format!("run.threads={threads}")));
        all.extend(self.memory.as_ref().map(|memory| format!("run.memory={memory}")));
        all.extend(self.time_limit.map(|secs| format!("run.time_limit_secs={secs}")));
        all.extend(self.max_failures.map(|most| format!("run.max_failures={most}")));
        all
    }
}
