//! `stitch`: how tile predictions are put together.
//!
//! Owns: the keys under `stitch` and their types. Must not know: models, files.

use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;

pub(super) const KEYS: &[Key] = &[
    Key::section("stitch", "how tile predictions are put together; exactly one of `crop`, `blend`"),
    Key::choice(
        "stitch.crop",
        Kind::Section,
        Preset::Is("{}"),
        "each pixel from the one tile whose stride cell holds it",
    ),
    Key::choice(
        "stitch.blend",
        Kind::Section,
        Preset::Unset("{}"),
        "all tiles that cover a pixel, weighted by a window",
    ),
    Key::plain("stitch.blend.window", Kind::OneOf(&["hann"]), "hann", "the weights"),
    Key::value(
        "stitch.block_px",
        Kind::Int { min: 256, max: 8192, step: 256 },
        Preset::Found("512, or 256 where a batch takes all processors", "512"),
        "px",
        "side of the squares maps are kept in until their last tile lands",
    ),
    Key::plain(
        "stitch.on_device",
        Kind::Bool,
        "true",
        "whether overlapping tiles are blended on the GPU, where a network runs on one GPU without `views`; results are the same",
    ),
];

/// `stitch`.
///
/// ```
/// let stitch: wsi_run::config::schema::Stitch = serde_saphyr::from_str(r#"
/// blend: { window: hann }      # or crop: {}
/// block_px: 512
/// on_device: true
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stitch {
    crop: Option<Crop>,
    blend: Option<Blend>,
    block_px: Option<u32>,
    on_device: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Crop {}

/// `stitch.blend`.
///
/// ```
/// let blend: wsi_run::config::schema::Blend = serde_saphyr::from_str("window: hann")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    window: BlendWindow,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BlendWindow {
    Hann,
}

impl Stitch {
    pub(super) fn into_settings(self) -> settings::Stitch {
        let window = match (self.crop, self.blend) {
            (None, Some(Blend { window: BlendWindow::Hann })) => settings::Window::Hann,
            (Some(Crop {}) | None, _) => settings::Window::Crop,
        };
        settings::Stitch { window, block_px: self.block_px, on_device: self.on_device }
    }
}
