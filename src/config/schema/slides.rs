//! `slides`: which slides, and what to believe of their resolution.
//!
//! Owns: the keys under `slides` and their types. Must not know: files.

use super::forms;
use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use crate::units::{Mpp, MppXy};
use serde::Deserialize;
use std::path::PathBuf;

const MPP: Kind = Kind::MppXy { min: 0.001, max: 1000.0 };

pub(super) const KEYS: &[Key] = &[
    Key::section("slides", "which slides; exactly one of `glob`, `dir`, `list`, `synthetic`"),
    Key::choice(
        "slides.glob",
        Kind::Texts { min_count: 1 },
        Preset::Unset("[\"data/**/*.svs\"]"),
        "files that match a pattern or any of a list of patterns; `**` is any depth",
    ),
    Key::choice(
        "slides.dir",
        Kind::Path,
        Preset::Unset("data"),
        "every slide under a directory, known by its extension",
    ),
    Key::choice("slides.list", Kind::Texts { min_count: 1 }, Preset::Unset("[a.svs, b.svs]"), "exactly these files"),
    Key::choice(
        "slides.synthetic",
        Kind::Section,
        Preset::Unset("{}"),
        "slides drawn by the program, with known nuclei",
    ),
    Key::plain("slides.synthetic.count", int(1, 10_000), "1", "how many; each has its own seed"),
    Key::value("slides.synthetic.width_px", int(64, 1_000_000), Preset::Is("12000"), "px", "width of level 0"),
    Key::value("slides.synthetic.height_px", int(64, 1_000_000), Preset::Is("9000"), "px", "height of level 0"),
    Key::value(
        "slides.synthetic.mpp",
        Kind::Real { min: 0.05, max: 5.0 },
        Preset::Is("0.25"),
        "µm/px",
        "resolution of level 0",
    ),
    Key::plain("slides.synthetic.seed", int(0, u64::MAX), "1", "seed of the first slide"),
    Key::plain(
        "slides.exclude",
        Kind::Texts { min_count: 0 },
        "[]",
        "patterns of files to leave out, written like `glob`",
    ),
    Key::value(
        "slides.mpp",
        MPP,
        Preset::Found("what each slide says of itself", "0.25"),
        "µm/px",
        "resolution of level 0 of every slide, over whatever the file says",
    ),
    Key::value(
        "slides.mpp_csv",
        Kind::Path,
        Preset::Unset("mpp.csv"),
        "",
        "CSV with columns `slide,mpp_x[,mpp_y]`: resolutions by file name, stem or relative path",
    ),
    Key::plain(
        "slides.reader",
        Kind::OneOf(&["auto", "openslide", "tiff"]),
        "auto",
        "which reader opens slides; `auto` takes our TIFF reader where it can, else OpenSlide",
    ),
];

const fn int(min: u64, max: u64) -> Kind {
    Kind::Int { min, max, step: 1 }
}

/// `slides`.
///
/// ```
/// let slides: wsi_run::config::schema::Slides = serde_saphyr::from_str(r#"
/// glob: ["data/**/*.svs", "data/**/*.tif"]
/// exclude: ["**/*_label*"]
/// mpp: { x: 0.25, y: 0.25 }
/// reader: auto
/// "#)?;
/// # let drawn: wsi_run::config::schema::Slides = serde_saphyr::from_str(r#"
/// # { synthetic: { count: 1, width_px: 12000, height_px: 9000, mpp: 0.25, seed: 1 }, exclude: [], reader: tiff }
/// # "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slides {
    glob: Option<Vec<String>>,
    dir: Option<PathBuf>,
    list: Option<Vec<PathBuf>>,
    synthetic: Option<Synthetic>,
    exclude: Vec<String>,
    #[serde(default, deserialize_with = "forms::optional_mpp_xy")]
    mpp: Option<MppXy>,
    mpp_csv: Option<PathBuf>,
    reader: settings::ReaderChoice,
}

/// `slides.synthetic`.
///
/// ```
/// let synthetic: wsi_run::config::schema::Synthetic = serde_saphyr::from_str(r#"
/// count: 1
/// width_px: 12000
/// height_px: 9000
/// mpp: 0.25
/// seed: 1
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    count: u32,
    width_px: u32,
    height_px: u32,
    #[serde(deserialize_with = "forms::mpp")]
    mpp: Mpp,
    seed: u64,
}

impl Slides {
    pub(super) fn into_settings(self) -> settings::Slides {
        // One of the four is there: `check` saw to it.
        let source = if let Some(globs) = self.glob {
            settings::SlideSource::Glob(globs)
        } else if let Some(dir) = self.dir {
            settings::SlideSource::Dir(dir)
        } else if let Some(s) = self.synthetic {
            settings::SlideSource::Synthetic(settings::Synthetic {
                count: s.count,
                width_px: s.width_px,
                height_px: s.height_px,
                mpp: s.mpp,
                seed: s.seed,
            })
        } else {
            settings::SlideSource::List(self.list.unwrap_or_default())
        };
        settings::Slides { source, exclude: self.exclude, mpp: self.mpp, mpp_csv: self.mpp_csv, reader: self.reader }
    }
}
