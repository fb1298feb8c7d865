//! `tissue`: how tissue is found.
//!
//! Owns: the keys under `tissue` and their types. Must not know: slides.

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use crate::units::Mpp;
use serde::Deserialize;
use std::path::PathBuf;

const CHANNEL: Kind = Kind::OneOf(&["saturation", "optical_density"]);
const AREA: Kind = Kind::Real { min: 0.0, max: f64::INFINITY };

pub(super) const KEYS: &[Key] = &[
    Key::section(
        "tissue",
        "how tissue is found; exactly one of `otsu`, `fixed`, `mask_dir`, `geojson_dir`, `everything`",
    ),
    Key::choice("tissue.otsu", Kind::Section, Preset::Is("{}"), "a threshold per slide by Otsu's method"),
    Key::plain("tissue.otsu.channel", CHANNEL, "saturation", "what is thresholded"),
    Key::choice("tissue.fixed", Kind::Section, Preset::Unset("{}"), "the same threshold on every slide"),
    Key::plain("tissue.fixed.channel", CHANNEL, "saturation", "what is thresholded"),
    Key::plain(
        "tissue.fixed.threshold",
        Kind::Real { min: 0.0, max: 5.0 },
        "0.07",
        "tissue is above it: saturation from 0 to 1, or optical density",
    ),
    Key::choice(
        "tissue.mask_dir",
        Kind::Path,
        Preset::Unset("masks"),
        "a picture per slide, `<dir>/<slide stem>.png` or `.tif`, scaled to the slide; tissue where it is not 0",
    ),
    Key::choice(
        "tissue.geojson_dir",
        Kind::Path,
        Preset::Unset("annotations"),
        "polygons per slide, `<dir>/<slide stem>.geojson`, in level-0 px",
    ),
    Key::choice("tissue.everything", Kind::Section, Preset::Unset("{}"), "the whole slide is tissue"),
    Key::value(
        "tissue.mpp",
        Kind::Real { min: 0.25, max: 100.0 },
        Preset::Is("8.0"),
        "µm/px",
        "resolution of the picture tissue is found on",
    ),
    Key::value("tissue.min_area_um2", AREA, Preset::Is("20000"), "µm²", "smaller pieces of tissue are dropped"),
    Key::value("tissue.max_hole_um2", AREA, Preset::Is("5000"), "µm²", "smaller holes in tissue are filled"),
    Key::plain("tissue.exclude_pen", Kind::Bool, "true", "leave out felt-pen marks (red, green, blue, black)"),
    Key::plain("tissue.exclude_blur", Kind::Bool, "false", "leave out areas out of focus"),
];

/// `tissue`.
///
/// ```
/// let tissue: wsi_run::config::schema::Tissue = serde_saphyr::from_str(r#"
/// otsu: { channel: saturation }
/// mpp: 8.0
/// min_area_um2: 20000
/// max_hole_um2: 5000
/// exclude_pen: true
/// exclude_blur: false
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tissue {
    otsu: Option<Otsu>,
    fixed: Option<Fixed>,
    mask_dir: Option<PathBuf>,
    geojson_dir: Option<PathBuf>,
    everything: Option<Everything>,
    #[serde(deserialize_with = "forms::mpp")]
    mpp: Mpp,
    min_area_um2: f64,
    max_hole_um2: f64,
    exclude_pen: bool,
    exclude_blur: bool,
}

/// `tissue.otsu`.
///
/// ```
/// let otsu: wsi_run::config::schema::Otsu = serde_saphyr::from_str("channel: optical_density")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otsu {
    channel: settings::TissueChannel,
}

/// `tissue.fixed`.
///
/// ```
/// let fixed: wsi_run::config::schema::Fixed = serde_saphyr::from_str("{ channel: saturation, threshold: 0.07 }")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    channel: settings::TissueChannel,
    threshold: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Everything {}

impl Tissue {
    pub(super) fn into_settings(self) -> settings::Tissue {
        let method = if let Some(otsu) = self.otsu {
            settings::TissueMethod::Otsu { channel: otsu.channel }
        } else if let Some(fixed) = self.fixed {
            settings::TissueMethod::Fixed { channel: fixed.channel, threshold: fixed.threshold }
        } else if let Some(dir) = self.mask_dir {
            settings::TissueMethod::MaskDir(dir)
        } else if let Some(dir) = self.geojson_dir {
            settings::TissueMethod::GeojsonDir(dir)
        } else {
            // One of the five is there: `defaults` saw to it.
            let Everything {} = self.everything.unwrap_or(Everything {});
            settings::TissueMethod::Everything
        };
        settings::Tissue {
            method,
            mpp: self.mpp,
            min_area_um2: self.min_area_um2,
            max_hole_um2: self.max_hole_um2,
            exclude_pen: self.exclude_pen,
            exclude_blur: self.exclude_blur,
        }
    }
}
