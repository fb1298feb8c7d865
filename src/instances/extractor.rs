//! How a model's nuclei are found: its heads say.
//!
//! Owns: [`Extractor`]. Must not know: models by name, files.

use super::{
    extract::{extract_nuclei, halo_px, scratch_bytes},
    instance::Instance,
    mask_grid::MaskGrid,
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

    /// Pixels of the masks along one pixel of the maps, of a model that says one thing per `out_stride` × `out_stride`
    /// pixels of the image: polygons are drawn on those.
    pub fn mask_factor(self, out_stride: u32) -> u32 {
        if self == Self::Star { out_stride } else { 1 }
    }

    /// Where the nuclear-pixel head is not above this, in fixed point, star distances are not looked at; `None`: nowhere.
    pub fn rays_above(self, settings: &settings::Instances) -> Option<i16> {
        (self == Self::Star).then(|| proposes_above(&settings.star))
    }

    /// Bytes that a thread keeps after extracting from a region of `rect_px` pixels of the maps, halo included, without
    /// the instances; `mask_factor` pixels of the masks are along one of them.
    pub fn scratch_bytes(self, rect_px: u64, mask_factor: u32) -> u64 {
        match self {
            Self::Watershed => scratch_bytes(rect_px),
            Self::NpHv => np_hv_scratch_bytes(rect_px),
            Self::Star => star_scratch_bytes(rect_px, mask_factor),
        }
    }

    /// Finds the nuclei whose centroid lies in the region's core, sorted by the first pixel; in pixels of `masks`.
    pub fn extract(
        self,
        region: &Region,
        maps: &TargetGrid,
        masks: &MaskGrid,
        settings: &settings::Instances,
        spec: &ModelSpec,
    ) -> Vec<Instance> {
        match self {
            Self::Watershed => extract_nuclei(region, maps, &settings.watershed, spec),
            Self::NpHv => extract_np_hv(region, maps, &settings.np_hv, spec),
            Self::Star => extract_stars(region, maps, masks, &settings.star, spec),
        }
    }
}
