//! The protocol between the flow and whatever is written for a slide.
//!
//! Owns: [`SlideHeader`], [`Artifact`], [`OutputError`]. Must not know: formats.

use crate::{
    geometry::{Level0, Rect, TargetGrid},
    model::ClassInfo,
};
use std::path::PathBuf;

/// What every output of a slide says of the slide.
#[derive(Debug, Clone)]
pub struct SlideHeader {
    /// Name of the slide in every table and file name.
    pub id: String,
    /// File it was read from, as the user gave it.
    pub path: PathBuf,
    /// Target grid: level-0 size, slide mpp, mask resolution.
    pub grid: TargetGrid,
    /// Scanned part of level 0, when the file says so.
    pub bounds: Option<Rect<Level0>>,
    /// Model that made the results.
    pub model: String,
    /// Its classes; class `i` has label value `i + 1`.
    pub classes: Vec<ClassInfo>,
}

/// A file or directory that was committed under its final name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Artifact {
    /// Path relative to the output directory.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// sha256 of the file; of a directory, of its sorted `name sha256` lines.
    pub sha256: String,
}

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file system said no.
    #[error("cannot write: {source}: {}", path.display())]
    Io {
        /// What was being written.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A format's library said no.
    #[error("cannot write {format}: {reason}: {}", path.display())]
    Format {
        /// `OME-Zarr`, `Parquet`, `PNG`, …
        format: &'static str,
        /// What was being written.
        path: PathBuf,
        /// The library's words.
        reason: String,
    },
}
