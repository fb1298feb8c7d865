//! What `wsi-run bench` may be told.
//!
//! Owns: the clap types of the verb. Must not know: how a network is timed.

use clap::Args;
use std::path::PathBuf;

/// Examples of the verb.
pub(super) const EXAMPLES: &str = "\
Examples:
  wsi-run bench hover_net_fast                  images per second with all CPUs this process may use
  wsi-run bench u_net --threads 1 --batch 1     how long one image takes on one core
  wsi-run bench stardist_unet --size 512 --plan every step: what was fused, memory, time
  wsi-run bench stardist_unet --train --batch 4 seconds per training step
  WSI_RUN_ISA=avx2 wsi-run bench resnet_50      as on a processor without AVX-512";

/// `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The network, as `wsi-run models` lists it
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Threads; default: WSI_RUN_THREADS, else the CPUs this process may use
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Images of a batch; default: as many as threads
    #[arg(short, long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// Side of the images; default: that of the network's paper
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub size: Option<u32>,
    /// Precision of products
    #[arg(long, value_enum, default_value_t, value_name = "P")]
    pub precision: BenchPrecision,
    /// Weights; default: values computed from the tensors' names
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// How long to measure after warming up
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub secs: f64,
    /// Print every step of the plan and how long it takes
    #[arg(long)]
    pub plan: bool,
    /// Time training steps: forward, backward, Adam; in single precision
    #[arg(long, conflicts_with_all = ["plan", "precision"])]
    pub train: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Precision of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BenchPrecision {
    /// Single precision
    #[default]
    F32,
    /// Factors of 16 bits (bfloat16, or whole numbers with a scale) where the processor multiplies them
    Bf16,
    /// bf16 where the processor multiplies it, else f32
    Auto,
}
