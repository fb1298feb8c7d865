//! How a model's nuclei are found: its heads say.
//!
//! Owns: [`Extractor`]. Must not know: models by name, files.

use super::{
    extract::{extract_nuclei, halo_px, scratch_bytes},
    instance::Instance,
    np_hv::{extract_np_hv, np_hv_halo_px, np_hv_scratch_bytes},
    star::{extract_stars, proposes_above, star_halo_px, star_scratch_bytes},
};
use crate::{
    config::settings,
    geometry::TargetGrid,
    model::{Head, ModelSpec},
    stitch::Region,
    units::Mpp,
};

/// A way to find nuclei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extractor {
    /// From probabilities alone: distance transform and watershed.
    Watershed,
    /// From probabilities and distances to the centre: HoVer-Net's post-processing.
    NpHv,
    /// From star-convex predictions: non-maximum suppression.
    Star,
}

impl Extractor {
    /// What a model's heads ask for; `None` when it does not tell nuclei.
    pub fn of(spec: &ModelSpec) -> Option<Self> {
        let ways = [(Head::HorizontalVertical, Self::NpHv), (Head::StarDistance, Self::Star)];
        let by_head = ways.into_iter().find(|(head, _)| spec.has(*head)).map_or(Self::Watershed, |(_, way)| way);
        spec.has(Head::NuclearPixel).then_some(by_head)
    }

    /// Width of the ring around a region's core that [`Extractor::extract`] needs to see.
    pub fn halo_px(self, settings: &settings::Instances, input_mpp: Mpp) -> u32 {
        match self {
            Self::Watershed => halo_px(&settings.watershed, input_mpp),
            Self::NpHv => np_hv_halo_px(&settings.np_hv, input_mpp),
            Self::Star => star_halo_px(&settings.star, input_mpp),
        }
    }

    /// Where the nuclear-pixel head is not above this, in fixed point, star distances are not looked at; `None`: nowhere.
    pub fn rays_above(self, settings: &settings::Instances) -> Option<i16> {
        (self == Self::Star).then(|| proposes_above(&settings.star))
    }

    /// Bytes that a thread keeps after extracting from a region of `rect_px` pixels, halo included, without the
    /// instances.
    pub fn scratch_bytes(self, rect_px: u64) -> u64 {
        match self {
            Self::Watershed => scratch_bytes(rect_px),
            Self::NpHv => np_hv_scratch_bytes(rect_px),
            Self::Star => star_scratch_bytes(rect_px),
        }
    }

    /// Finds the nuclei whose centroid lies in the region's core, sorted by the first pixel.
    pub fn extract(
        self,
        region: &Region,
        grid: &TargetGrid,
        settings: &settings::Instances,
        spec: &ModelSpec,
    ) -> Vec<Instance> {
        match self {
            Self::Watershed => extract_nuclei(region, grid, &settings.watershed, spec),
            Self::NpHv => extract_np_hv(region, grid, &settings.np_hv, spec),
            Self::Star => extract_stars(region, grid, &settings.star, spec),
        }
    }
}
