//! What is written.
//!
//! Owns: [`Output`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// Directory of the run.
    pub dir: PathBuf,
    /// Masks.
    pub ome_zarr: Option<OmeZarr>,
    /// Tables of instances.
    pub parquet: Option<Parquet>,
    /// QuPath export.
    pub geojson: Option<Geojson>,
    /// Overview picture.
    pub overview: Option<Overview>,
    /// The batch on one page.
    pub report: bool,
}

/// Settings of the masks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OmeZarr {
    /// Side of a chunk.
    pub chunk_px: u32,
    /// OME-Zarr version.
    pub version: OmeZarrVersion,
    /// zstd level.
    pub zstd_level: i32,
    /// Also write the probabilities, as uint8.
    pub prob: bool,
}

/// OME-Zarr versions we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OmeZarrVersion {
    /// 0.4, on Zarr v2, unsharded.
    #[serde(rename = "0.4")]
    V04,
    /// 0.5, on Zarr v3, sharded.
    #[serde(rename = "0.5")]
    V05,
}

/// Settings of the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parquet {
    /// Rows per row group.
    pub row_group_rows: u32,
    /// zstd level.
    pub zstd_level: i32,
}

/// Settings of the QuPath export.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Geojson {
    /// Where (0, 0) is.
    pub origin: Origin,
}

/// Where (0, 0) of an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The corner of the whole slide, padding included.
    Full,
    /// The corner of the scanned bounds (what QuPath shows of some MRXS slides).
    Bounds,
}

/// Settings of the overview picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// Longest side of the slide's picture.
    pub max_px: u32,
}
