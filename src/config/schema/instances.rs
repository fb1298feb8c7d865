//! `instances`: how objects are found in the maps.
//!
//! Owns: the keys under `instances` and their types. Must not know: maps.

use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;

const AREA: Kind = Kind::Real { min: 0.0, max: f64::INFINITY };
/// The context a region needs grows with the largest nucleus and hole; 2,000 µm² is 50 µm across.
const NUCLEUS_AREA: Kind = Kind::Real { min: 0.0, max: 2000.0 };

pub(super) const KEYS: &[Key] = &[
    Key::section("instances", "how objects are found in the maps"),
    Key::section("instances.watershed", "nuclei from a probability map: threshold, distance transform, watershed"),
    Key::plain(
        "instances.watershed.threshold",
        Kind::Real { min: 0.01, max: 0.99 },
        "0.5",
        "a pixel is in a nucleus at or above this probability",
    ),
    Key::value("instances.watershed.min_area_um2", AREA, Preset::Is("12"), "µm²", "smaller nuclei are dropped"),
    Key::value("instances.watershed.max_area_um2", NUCLEUS_AREA, Preset::Is("400"), "µm²", "larger nuclei are dropped"),
    Key::value(
        "instances.watershed.min_distance_um",
        Kind::Real { min: 0.0, max: 100.0 },
        Preset::Is("3.0"),
        "µm",
        "two centres nearer than this are one nucleus",
    ),
    Key::value(
        "instances.watershed.max_hole_um2",
        NUCLEUS_AREA,
        Preset::Is("16"),
        "µm²",
        "smaller holes in nuclei are filled",
    ),
    Key::section(
        "instances.np_hv",
        "nuclei from nuclear pixels and distances to their centres: HoVer-Net's post-processing; areas are its 10 px at 0.25 µm/px",
    ),
    Key::plain(
        "instances.np_hv.np_threshold",
        Kind::Real { min: 0.01, max: 0.99 },
        "0.5",
        "a pixel is in a nucleus at or above this probability",
    ),
    Key::plain(
        "instances.np_hv.overall_threshold",
        Kind::Real { min: 0.01, max: 0.99 },
        "0.4",
        "a pixel divides nuclei at or above this energy, 1 being the steepest edge of the connected area",
    ),
    Key::value(
        "instances.np_hv.min_area_um2",
        NUCLEUS_AREA,
        Preset::Is("0.625"),
        "µm²",
        "smaller connected areas, and smaller nuclei, are dropped",
    ),
    Key::value("instances.np_hv.max_area_um2", NUCLEUS_AREA, Preset::Is("400"), "µm²", "larger nuclei are dropped"),
    Key::value(
        "instances.np_hv.min_marker_um2",
        NUCLEUS_AREA,
        Preset::Is("0.625"),
        "µm²",
        "nuclei whose middle, below `overall_threshold`, is smaller are dropped",
    ),
    Key::value(
        "instances.np_hv.max_hole_um2",
        NUCLEUS_AREA,
        Preset::Is("4"),
        "µm²",
        "smaller holes in the middle of a nucleus are filled",
    ),
    Key::section("instances.star", "nuclei from star-convex predictions: non-maximum suppression"),
    Key::value(
        "instances.star.prob_threshold",
        Kind::Real { min: 0.01, max: 0.99 },
        Preset::Found("what the weights say, or 0.69", "0.69"),
        "",
        "a pixel proposes a nucleus above this probability; each network has its own best value",
    ),
    Key::plain(
        "instances.star.nms_overlap",
        Kind::Real { min: 0.0, max: 1.0 },
        "0.2",
        "of two proposals that share more than this part of the smaller one's area, the less probable goes",
    ),
    Key::value("instances.star.min_area_um2", AREA, Preset::Is("8"), "µm²", "smaller nuclei are dropped"),
    Key::value("instances.star.max_area_um2", AREA, Preset::Is("400"), "µm²", "larger nuclei are dropped"),
    Key::value(
        "instances.star.max_radius_um",
        Kind::Real { min: 1.0, max: 50.0 },
        Preset::Is("12"),
        "µm",
        "distances from a nucleus' centre are cut here; the context a region needs is eight times as wide",
    ),
    Key::section("instances.lesions", "lesions from a semantic map: connected areas of a class"),
    Key::value(
        "instances.lesions.min_area_um2",
        AREA,
        Preset::Is("1000"),
        "µm²",
        "smaller lesions are left out of the table; they stay in the mask",
    ),
    Key::value(
        "instances.region_px",
        Kind::Int { min: 256, max: 16_384, step: 256 },
        Preset::Found("1024, or 512 where a batch takes all processors", "1024"),
        "px",
        "side of the region objects are found in at once; the result does not depend on it",
    ),
];

/// `instances`.
///
/// ```
/// let instances: wsi_run::config::schema::Instances = serde_saphyr::from_str(r#"
/// watershed: { threshold: 0.5, min_area_um2: 10, max_area_um2: 1000, min_distance_um: 3.0, max_hole_um2: 10 }
/// np_hv:
///   np_threshold: 0.5
///   overall_threshold: 0.4
///   min_area_um2: 1
///   max_area_um2: 400
///   min_marker_um2: 1
///   max_hole_um2: 16
/// star: { prob_threshold: 0.69, nms_overlap: 0.3, min_area_um2: 8, max_area_um2: 400, max_radius_um: 12 }
/// lesions: { min_area_um2: 1000 }
/// region_px: 1024
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instances {
    watershed: Watershed,
    np_hv: NpHv,
    star: Star,
    lesions: Lesions,
    region_px: Option<u32>,
}

/// `instances.watershed`.
///
/// ```
/// let watershed: wsi_run::config::schema::Watershed = serde_saphyr::from_str(r#"
/// threshold: 0.5
/// min_area_um2: 10
/// max_area_um2: 1000
/// min_distance_um: 3.0
/// max_hole_um2: 10
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watershed {
    threshold: f64,
    min_area_um2: f64,
    max_area_um2: f64,
    min_distance_um: f64,
    max_hole_um2: f64,
}

/// `instances.np_hv`.
///
/// ```
/// let np_hv: wsi_run::config::schema::NpHv = serde_saphyr::from_str(r#"
/// np_threshold: 0.5
/// overall_threshold: 0.4
/// min_area_um2: 1
/// max_area_um2: 400
/// min_marker_um2: 1
/// max_hole_um2: 16
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpHv {
    np_threshold: f64,
    overall_threshold: f64,
    min_area_um2: f64,
    max_area_um2: f64,
    min_marker_um2: f64,
    max_hole_um2: f64,
}

/// `instances.star`.
///
/// ```
/// let star: wsi_run::config::schema::Star = serde_saphyr::from_str(r#"
/// prob_threshold: 0.69
/// nms_overlap: 0.3
/// min_area_um2: 12
/// max_area_um2: 400
/// max_radius_um: 12
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Star {
    prob_threshold: Option<f64>,
    nms_overlap: f64,
    min_area_um2: f64,
    max_area_um2: f64,
    max_radius_um: f64,
}

/// `instances.lesions`.
///
/// ```
/// let lesions: wsi_run::config::schema::Lesions = serde_saphyr::from_str("min_area_um2: 1000")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesions {
    min_area_um2: f64,
}

impl Instances {
    pub(super) fn into_settings(self) -> settings::Instances {
        let (w, n, s) = (self.watershed, self.np_hv, self.star);
        settings::Instances {
            watershed: settings::Watershed {
                threshold: w.threshold,
                min_area_um2: w.min_area_um2,
                max_area_um2: w.max_area_um2,
                min_distance_um: w.min_distance_um,
                max_hole_um2: w.max_hole_um2,
            },
            np_hv: settings::NpHv {
                np_threshold: n.np_threshold,
                overall_threshold: n.overall_threshold,
                min_area_um2: n.min_area_um2,
                max_area_um2: n.max_area_um2,
                min_marker_um2: n.min_marker_um2,
                max_hole_um2: n.max_hole_um2,
            },
            star: settings::Star {
                prob_threshold: s.prob_threshold,
                nms_overlap: s.nms_overlap,
                min_area_um2: s.min_area_um2,
                max_area_um2: s.max_area_um2,
                max_radius_um: s.max_radius_um,
            },
            lesions: settings::Lesions { min_area_um2: self.lesions.min_area_um2 },
            region_px: self.region_px,
        }
    }
}
