//! `pixels`: what happens to pixels before the model.
//!
//! Owns: the keys under `pixels` and their types. Must not know: tiles, models.

use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;
use std::path::PathBuf;

const REFERENCE: &str = "the look slides are brought to: `standard` (built in), or a path to a picture";

pub(super) const KEYS: &[Key] = &[
    Key::section("pixels", "what happens to pixels before the model"),
    Key::plain(
        "pixels.resample",
        Kind::OneOf(&["area", "bilinear", "lanczos"]),
        "area",
        "how pixels are brought to input_mpp, from the coarsest level not coarser than it",
    ),
    Key::section(
        "pixels.stain",
        "stain normalisation, fitted once per slide; exactly one of `none`, `macenko`, `reinhard`, `vahadane`, `ruifrok`",
    ),
    Key::choice("pixels.stain.none", Kind::Section, Preset::Is("{}"), "pixels as they are"),
    Key::choice("pixels.stain.macenko", Kind::Section, Preset::Unset("{}"), "Macenko 2009"),
    Key::plain("pixels.stain.macenko.reference", Kind::Path, "standard", REFERENCE),
    Key::choice("pixels.stain.reinhard", Kind::Section, Preset::Unset("{}"), "Reinhard 2001"),
    Key::plain("pixels.stain.reinhard.reference", Kind::Path, "standard", REFERENCE),
    Key::choice("pixels.stain.vahadane", Kind::Section, Preset::Unset("{}"), "Vahadane 2016"),
    Key::plain("pixels.stain.vahadane.reference", Kind::Path, "standard", REFERENCE),
    Key::choice(
        "pixels.stain.ruifrok",
        Kind::Section,
        Preset::Unset("{}"),
        "the fixed vectors of Ruifrok and Johnston 2001, concentrations scaled to the reference's",
    ),
    Key::plain("pixels.stain.ruifrok.reference", Kind::Path, "standard", REFERENCE),
];

/// `pixels`.
///
/// ```
/// let pixels: wsi_run::config::schema::Pixels = serde_saphyr::from_str(r#"
/// resample: area
/// stain: { macenko: { reference: standard } }
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pixels {
    resample: settings::Resample,
    stain: Stain,
}

/// `pixels.stain`.
///
/// ```
/// let stain: wsi_run::config::schema::Stain = serde_saphyr::from_str("reinhard: { reference: look.png }")?;
/// let plain: wsi_run::config::schema::Stain = serde_saphyr::from_str("none: {}")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stain {
    /// Pixels as they are.
    None {},
    /// Macenko 2009.
    Macenko(Reference),
    /// Reinhard 2001.
    Reinhard(Reference),
    /// Vahadane 2016.
    Vahadane(Reference),
    /// Ruifrok and Johnston 2001.
    Ruifrok(Reference),
}

/// The look that slides are brought to.
///
/// ```
/// let reference: wsi_run::config::schema::Reference = serde_saphyr::from_str("reference: standard")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    reference: PathBuf,
}

impl Reference {
    fn into_settings(self) -> settings::StainReference {
        // A picture of that very name is `./standard`.
        if self.reference.as_os_str() == "standard" {
            settings::StainReference::Standard
        } else {
            settings::StainReference::Image(self.reference)
        }
    }
}

impl Pixels {
    pub(super) fn into_settings(self) -> settings::Pixels {
        settings::Pixels { resample: self.resample, stain: stain_settings(self.stain) }
    }
}

/// A stain normalisation, wherever it stands.
pub(super) fn stain_settings(stain: Stain) -> settings::Stain {
    match stain {
        Stain::None {} => settings::Stain::None,
        Stain::Macenko(reference) => settings::Stain::Macenko(reference.into_settings()),
        Stain::Reinhard(reference) => settings::Stain::Reinhard(reference.into_settings()),
        Stain::Vahadane(reference) => settings::Stain::Vahadane(reference.into_settings()),
        Stain::Ruifrok(reference) => settings::Stain::Ruifrok(reference.into_settings()),
    }
}
