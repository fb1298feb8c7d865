//! `output`: what is written, and where.
//!
//! Owns: the keys under `output` and their types. Must not know: how files are written.

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;
use std::path::PathBuf;

const ZSTD: Kind = Kind::Int { min: 1, max: 22, step: 1 };

pub(super) const KEYS: &[Key] = &[
    Key::section("output", "what is written, and where"),
    Key::plain("output.dir", Kind::Path, "results", "directory of the run; made when it is not there"),
    Key::switch("output.ome_zarr", "{}", "masks, `masks/<slide>.ome.zarr`"),
    Key::value(
        "output.ome_zarr.chunk_px",
        Kind::PowerOfTwo { min: 128, max: 4096 },
        Preset::Is("512"),
        "px",
        "side of a chunk",
    ),
    Key::value(
        "output.ome_zarr.version",
        Kind::OneOf(&["0.4", "0.5"]),
        Preset::Is("\"0.5\""),
        "",
        "OME-Zarr version: 0.5 on Zarr v3, sharded; 0.4 on Zarr v2",
    ),
    Key::plain("output.ome_zarr.zstd_level", ZSTD, "3", "zstd level: 1 is fastest, 22 smallest"),
    Key::plain("output.ome_zarr.prob", Kind::Bool, "false", "also write probabilities, as uint8"),
    Key::switch("output.parquet", "{}", "tables of nuclei and lesions"),
    Key::plain(
        "output.parquet.row_group_rows",
        Kind::Int { min: 100, max: 1_000_000, step: 1 },
        "20000",
        "rows per row group; smaller groups let readers skip more",
    ),
    Key::plain("output.parquet.zstd_level", ZSTD, "3", "zstd level: 1 is fastest, 22 smallest"),
    Key::switch("output.geojson", "false", "objects for QuPath, `geojson/<slide>.geojson.gz`"),
    Key::plain(
        "output.geojson.origin",
        Kind::OneOf(&["full", "bounds"]),
        "full",
        "where (0, 0) is: the corner of the whole slide, or of its scanned bounds",
    ),
    Key::switch("output.overview", "{}", "a picture per slide with tissue, classes, legend and scale bar"),
    Key::value(
        "output.overview.max_px",
        Kind::Int { min: 256, max: 16_384, step: 1 },
        Preset::Is("2048"),
        "px",
        "longest side of the slide's picture; up to a fifth less where the slide has a level of that size",
    ),
    Key::plain("output.report", Kind::Bool, "true", "the batch on one page, `report.html`"),
];

/// `output`.
///
/// ```
/// let output: wsi_run::config::schema::Output = serde_saphyr::from_str(r#"
/// dir: results
/// ome_zarr: { chunk_px: 512, version: "0.5", zstd_level: 3, prob: false }
/// parquet: { row_group_rows: 20000, zstd_level: 3 }
/// geojson: false               # or { origin: full }
/// overview: { max_px: 2048 }
/// report: true
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    dir: PathBuf,
    #[serde(deserialize_with = "forms::switch")]
    ome_zarr: Option<OmeZarr>,
    #[serde(deserialize_with = "forms::switch")]
    parquet: Option<Parquet>,
    #[serde(deserialize_with = "forms::switch")]
    geojson: Option<Geojson>,
    #[serde(deserialize_with = "forms::switch")]
    overview: Option<Overview>,
    report: bool,
}

/// `output.ome_zarr`.
///
/// ```
/// let masks: wsi_run::config::schema::OmeZarr = serde_saphyr::from_str(r#"
/// chunk_px: 512
/// version: "0.5"
/// zstd_level: 3
/// prob: false
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OmeZarr {
    chunk_px: u32,
    version: settings::OmeZarrVersion,
    zstd_level: i32,
    prob: bool,
}

/// `output.parquet`.
///
/// ```
/// let tables: wsi_run::config::schema::Parquet = serde_saphyr::from_str("{ row_group_rows: 20000, zstd_level: 3 }")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parquet {
    row_group_rows: u32,
    zstd_level: i32,
}

/// `output.geojson`.
///
/// ```
/// let objects: wsi_run::config::schema::Geojson = serde_saphyr::from_str("origin: full")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geojson {
    origin: settings::Origin,
}

/// `output.overview`.
///
/// ```
/// let picture: wsi_run::config::schema::Overview = serde_saphyr::from_str("max_px: 2048")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    max_px: u32,
}

impl Output {
    pub(super) fn into_settings(self) -> settings::Output {
        settings::Output {
            dir: self.dir,
            ome_zarr: self.ome_zarr.map(|z| settings::OmeZarr {
                chunk_px: z.chunk_px,
                version: z.version,
                zstd_level: z.zstd_level,
                prob: z.prob,
            }),
            parquet: self
                .parquet
                .map(|p| settings::Parquet { row_group_rows: p.row_group_rows, zstd_level: p.zstd_level }),
            geojson: self.geojson.map(|g| settings::Geojson { origin: g.origin }),
            overview: self.overview.map(|o| settings::Overview { max_px: o.max_px }),
            report: self.report,
        }
    }
}
