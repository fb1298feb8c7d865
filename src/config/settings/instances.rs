//! How nuclei and lesions are found in maps.
//!
//! Owns: [`Instances`] and its parts. Must not know: how it was written (YAML, `--set`, environment).

use serde::Serialize;

/// How objects are found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Instances {
    /// Nuclei from a probability map: threshold, distance transform, watershed.
    pub watershed: Watershed,
    /// Nuclei from nuclear pixels and distances to their centres: HoVer-Net's post-processing.
    pub np_hv: NpHv,
    /// Nuclei from star-convex predictions: non-maximum suppression.
    pub star: Star,
    /// Lesions from a semantic map: connected components.
    pub lesions: Lesions,
    /// Side of the region extracted at once; `None`: what suits the model.
    pub region_px: Option<u32>,
}

/// Settings of the watershed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watershed {
    /// A pixel is foreground at or above it.
    pub threshold: f64,
    /// Smaller nuclei are dropped.
    pub min_area_um2: f64,
    /// Larger nuclei are dropped.
    pub max_area_um2: f64,
    /// Two peaks of the distance transform nearer than this are one nucleus.
    pub min_distance_um: f64,
    /// Smaller holes in nuclei are filled.
    pub max_hole_um2: f64,
}

/// Settings of HoVer-Net's post-processing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NpHv {
    /// A pixel is in a nucleus at or above this probability.
    pub np_threshold: f64,
    /// A pixel divides nuclei when the energy of its distance maps is at or above it.
    pub overall_threshold: f64,
    /// Smaller connected areas, and smaller nuclei, are dropped.
    pub min_area_um2: f64,
    /// Larger nuclei are dropped.
    pub max_area_um2: f64,
    /// Nuclei of a smaller middle are dropped.
    pub min_marker_um2: f64,
    /// Smaller holes in the middle of a nucleus are filled.
    pub max_hole_um2: f64,
}

/// Settings of star-convex nuclei.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Star {
    /// A pixel proposes a nucleus above it; `None`: what the weights say, or [`Star::USUAL_THRESHOLD`].
    pub prob_threshold: Option<f64>,
    /// Of two proposals that share more than this part of the smaller one's area, the less probable goes.
    pub nms_overlap: f64,
    /// Smaller nuclei are dropped.
    pub min_area_um2: f64,
    /// Larger nuclei are dropped.
    pub max_area_um2: f64,
    /// Distances from a nucleus' centre are cut here.
    pub max_radius_um: f64,
}

impl Star {
    /// Threshold of `stardist`'s network for H&E.
    pub const USUAL_THRESHOLD: f64 = 0.69;

    /// The threshold.
    pub fn threshold(&self) -> f64 {
        self.prob_threshold.unwrap_or(Self::USUAL_THRESHOLD)
    }
}

/// Settings of lesions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lesions {
    /// Smaller lesions are left out of the table (they stay in the mask).
    pub min_area_um2: f64,
}
