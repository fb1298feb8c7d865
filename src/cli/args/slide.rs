//! What the verbs of one slide may be told: `info`, `thumbnail`.
//!
//! Owns: the clap types of the verbs. Must not know: readers.

use clap::Args;
use std::path::PathBuf;

/// `info`.
#[derive(Debug, Clone, Args)]
pub struct InfoArgs {
    /// The slide
    #[arg(value_name = "SLIDE")]
    pub slide: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `thumbnail`.
#[derive(Debug, Clone, Args)]
pub struct ThumbnailArgs {
    /// The slide
    #[arg(value_name = "SLIDE")]
    pub slide: PathBuf,
    /// The PNG to write; default: the name of the slide with .png, in the current directory
    #[arg(short, long, value_name = "PNG")]
    pub output: Option<PathBuf>,
    /// Longest side of the picture, px
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=16384))]
    pub max_px: u32,
}
