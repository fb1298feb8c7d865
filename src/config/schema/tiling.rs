//! `tiling`: how slides are cut into tiles.
//!
//! Owns: the keys under `tiling` and their type. Must not know: slides, models.

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use crate::units::Mpp;
use serde::Deserialize;

pub(super) const KEYS: &[Key] = &[
    Key::section("tiling", "how slides are cut into tiles; what is left out is the model's own"),
    Key::value(
        "tiling.input_mpp",
        Kind::Real { min: 0.05, max: 100.0 },
        Preset::Found("the model's own", "0.5"),
        "µm/px",
        "resolution of the pixels the model sees",
    ),
    Key::value(
        "tiling.tile_px",
        Kind::Int { min: 32, max: 8192, step: 1 },
        Preset::Found("the model's own", "512"),
        "px",
        "side of a tile, at input_mpp",
    ),
    Key::value(
        "tiling.stride_px",
        Kind::Int { min: 1, max: 8192, step: 1 },
        Preset::Found("tile_px − 2·margin_px", "480"),
        "px",
        "step between tiles",
    ),
    Key::value(
        "tiling.margin_px",
        Kind::Int { min: 0, max: 4096, step: 1 },
        Preset::Found("the model's own", "16"),
        "px",
        "ring of a tile whose prediction is dropped",
    ),
    Key::plain(
        "tiling.min_tissue",
        Kind::Real { min: 0.0, max: 1.0 },
        "0.1",
        "a cell is computed when at least this share of it is tissue, and more than none",
    ),
];

/// `tiling`.
///
/// ```
/// let tiling: wsi_run::config::schema::Tiling = serde_saphyr::from_str(r#"
/// input_mpp: 0.5
/// tile_px: 512      # 512 = 480 + 2·16
/// stride_px: 480
/// margin_px: 16
/// min_tissue: 0.1
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    #[serde(default, deserialize_with = "forms::optional_mpp")]
    input_mpp: Option<Mpp>,
    tile_px: Option<u32>,
    stride_px: Option<u32>,
    margin_px: Option<u32>,
    min_tissue: f64,
}

impl Tiling {
    pub(super) fn into_settings(self) -> settings::Tiling {
        settings::Tiling {
            input_mpp: self.input_mpp,
            tile_px: self.tile_px,
            stride_px: self.stride_px,
            margin_px: self.margin_px,
            min_tissue: self.min_tissue,
        }
    }
}
