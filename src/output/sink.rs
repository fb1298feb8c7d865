//! The protocol between the flow and whatever is written for a slide.
//!
//! Owns: [`SlideHeader`], [`SlidePart`], [`Committed`], [`Artifact`], [`OutputError`]. Must not know: formats.

use super::commit::PARTIAL_DIR;
use crate::{
    geometry::{Level0, Rect, Target, TargetGrid},
    instances::Instance,
    model::ClassInfo,
};
use std::path::{Path, PathBuf};

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

/// What a slide's results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultKind {
    /// Nuclei: a table of them, an instance mask, and a class mask painted from them.
    Nuclei,
    /// A class per pixel, and a table of lesions found in it.
    Semantic,
    /// A class per tile: a table of tiles, and masks with a pixel per tile.
    Tiles,
}

/// A piece of a slide's results. Pieces arrive in any order; the cores of one kind do not overlap.
#[derive(Debug, Clone, PartialEq)]
pub enum SlidePart {
    /// The nuclei that belong to `core` (their pixels may lie outside it).
    Nuclei {
        /// The part answered for.
        core: Rect<Target>,
        /// `[core.h, core.w]`, 1 where computed, 0 where not.
        computed: Vec<u8>,
        /// In any order.
        instances: Vec<Instance>,
    },
    /// Classes of the pixels of `core`.
    Semantic {
        /// The part answered for.
        core: Rect<Target>,
        /// `[core.h, core.w]`: 0 background, 1… classes, 255 not computed.
        classes: Vec<u8>,
    },
    /// The tiles of a slide: what the rows of its table are made of. Classes and probabilities come beside it.
    Tiles {
        /// The part answered for.
        core: Rect<Target>,
        /// In any order; each covers its pixel of the grid.
        tiles: Vec<Instance>,
    },
    /// Probabilities of the pixels of `core`, written when `ome_zarr.prob` asks for them.
    Prob {
        /// The part answered for.
        core: Rect<Target>,
        /// Number of channels; the same for every part of a slide.
        channels: u32,
        /// `[channels, core.h, core.w]`, `round(prob · 255)`; 0 where not computed.
        data: Vec<u8>,
    },
}

impl SlidePart {
    /// The part answered for.
    pub fn core(&self) -> Rect<Target> {
        match self {
            Self::Nuclei { core, .. }
            | Self::Semantic { core, .. }
            | Self::Tiles { core, .. }
            | Self::Prob { core, .. } => *core,
        }
    }
}

/// What stands under its final name once a slide is committed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Committed {
    /// Every file and directory of the slide, by path.
    pub artifacts: Vec<Artifact>,
    /// Rows of the table: nuclei, or lesions.
    pub instances: u64,
    /// Rows of the table per class, in the order of the header's classes.
    pub class_counts: Vec<u64>,
    /// Pixels of each class × area of a pixel, µm², in the order of the header's classes.
    pub class_area_um2: Vec<f64>,
    /// Pixels that were computed × area of a pixel, µm²: what shares are shares of.
    pub computed_area_um2: f64,
}

/// A file or directory that was committed under its final name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Artifact {
    /// Path relative to the output directory.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// sha256 of the file; of a directory, of its sorted `name sha256` lines.
    pub sha256: String,
}

/// Why a result could not be written, or one that was written not be read.
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
    /// The file system did not give back what was written.
    #[error("cannot read: {source}: {}", path.display())]
    Unreadable {
        /// What was being read.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// What was read is not what is written here.
    #[error("cannot read {format}: {reason}: {}", path.display())]
    Damaged {
        /// `OME-Zarr`, `Parquet`, `PNG`, …
        format: &'static str,
        /// What was being read.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The system's numbers for what no slide is to blame for: EIO, ENODEV, ENOSPC, EROFS, ENOTCONN, ESTALE, EDQUOT.
const NO_SLIDES_FAULT: [i32; 7] = [5, 19, 28, 30, 107, 116, 122];

impl OutputError {
    /// Whether the place of the outputs is to blame (full, read-only, gone), so that no other slide would fare better.
    pub fn is_of_the_place(&self) -> bool {
        // Libraries hand the system's error on as text, alone or inside an error of their own.
        let says = |text: &str| NO_SLIDES_FAULT.iter().any(|code| text.contains(&format!("(os error {code})")));
        match self {
            Self::Io { source, .. } | Self::Unreadable { source, .. } => match source.raw_os_error() {
                Some(code) => NO_SLIDES_FAULT.contains(&code),
                None => says(&source.to_string()),
            },
            Self::Format { reason, .. } | Self::Damaged { reason, .. } => says(reason),
        }
    }

    /// Whether what was being written is gone: somebody who was stopped and still took the slide for its own has taken
    /// the place away. The slide is not to blame, and can be done again.
    pub fn is_of_a_taken_place(&self) -> bool {
        match self {
            Self::Io { path, source } | Self::Unreadable { path, source } => {
                use std::io::ErrorKind::{NotFound, StaleNetworkFileHandle};
                // A network file system says of what is gone that the handle is stale.
                let is_gone = matches!(source.kind(), NotFound | StaleNetworkFileHandle);
                is_gone && path.components().any(|c| c.as_os_str() == PARTIAL_DIR)
            }
            _ => false,
        }
    }

    /// Turns the system's error at `path` into ours.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// Turns a library's error at `path` into ours.
    pub(crate) fn format<E: std::fmt::Display>(format: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::Format { format, path, reason: reason.to_string() }
    }

    /// Turns the system's error while reading `path` into ours.
    pub(crate) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Unreadable { path, source }
    }

    /// Turns a library's error while reading `path` into ours.
    pub(crate) fn damaged<E: std::fmt::Display>(format: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |reason| Self::Damaged { format, path, reason: reason.to_string() }
    }
}
