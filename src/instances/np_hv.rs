//! Nuclei of a region from nuclear pixels and distances to their centres: HoVer-Net's post-processing.
//!
//! Owns: [`extract_np_hv`], [`np_hv_halo_px`], [`np_hv_scratch_bytes`], [`NP_HV_DEFAULTS`]. Must not know: networks,
//! files, other regions.
//!
//! What is found does not depend on how the slide was cut into regions, as long as each has [`np_hv_halo_px`] around
//! its core (or ends at the slide's edge): a connected area of nuclear pixels that fits into a square of some two
//! nuclei is worked on as a whole and by itself; in larger ones nothing farther than the halo matters.
//!
//! Source: HoVer-Net (Graham et al. 2019), authors' code `models/hovernet/post_proc.py`, `__proc_np_hv` and `process`.
//! Differs:
//! - each connected area has its own smallest and largest slope (there: the array's, see `energy.rs`), and areas do
//!   not see each other;
//! - holes and areas have upper limits; large areas have limits of reach (see `markers.rs`, `marked_watershed.rs`);
//! - of a nucleus the largest 4-connected piece is kept;
//! - a nucleus whose pixels all vote for the background gets the most probable type instead of none, and the
//!   probability of a type is the mean over the nucleus (there: the share of its votes).

use super::{
    energy::{Blob, CELL_PX, Energy, Maps},
    finish::{Finisher, Vote},
    foreground::for_each_run,
    grouped_runs::GroupedRuns,
    instance::{Instance, Run},
    joined_runs::{Area, JoinedRuns},
    marked_watershed::{MarkedRules, MarkedWatershed},
    markers::{MarkerRules, Markers},
    mask_grid::MaskGrid,
    pieces::keep_largest_piece,
    semantic::fixed_threshold,
    slopes::SLOPE_REACH_PX,
};
use crate::{
    config::settings,
    geometry::TargetGrid,
    model::{Head, ModelSpec},
    stitch::Region,
    units::Mpp,
};
use std::cell::RefCell;

/// The authors' numbers, their 10 px taken at 0.25 µm/px; the upper limits are ours.
pub const NP_HV_DEFAULTS: settings::NpHv = settings::NpHv {
    np_threshold: 0.5,
    overall_threshold: 0.4,
    min_area_um2: 0.625,
    max_area_um2: 400.0,
    min_marker_um2: 0.625,
    max_hole_um2: 4.0,
};

/// What the settings mean in px.
struct Rules {
    /// Connected areas up to this side are worked on as a whole; in larger ones a nucleus has at most this side.
    side_px: u32,
    /// Squares around a pixel that its slopes are measured by in large areas.
    cells: usize,
    least_px: f64,
    marker: MarkerRules,
    marked: MarkedRules,
}

impl Rules {
    fn new(s: &settings::NpHv, mpp: Mpp) -> Self {
        let um = mpp.um_per_px();
        let px = |um2: f64| um2 / (um * um);
        let radius_px = (px(s.max_area_um2) / std::f64::consts::PI).sqrt().max(1.0);
        let side_px = (2.5 * radius_px).ceil() as u32;
        Self {
            side_px,
            cells: (radius_px / CELL_PX as f64).ceil() as usize,
            least_px: px(s.min_area_um2),
            marker: MarkerRules {
                hole_area_px: px(s.max_hole_um2).floor() as u64,
                hole_side_px: (1.5 * px(s.max_hole_um2).sqrt()).ceil() as u32,
                least_px: px(s.min_marker_um2),
                side_px,
            },
            marked: MarkedRules { steps: (radius_px / 3.0).ceil().clamp(2.0, 100.0) as u8, side_px },
        }
    }

    /// Farthest pixel that anything about a nucleus depends on, from its centroid.
    ///
    /// A nucleus of a large area lies in a square of `side_px` about its marker, and so within `side_px` of its
    /// centroid. Whether the area is large is seen `side_px` from any of its pixels; where a pixel belongs is decided
    /// by heights (smoothed: 1 px) and markers (holes, opening: 4 px) on the way, they by slopes in squares around.
    fn halo_px(&self) -> u32 {
        let energy = ((self.cells + 1) * CELL_PX + SLOPE_REACH_PX) as u32 + 1;
        let label = self.marked.reach_px() + (self.marker.hole_side_px + 1) + 4;
        self.side_px + (label + energy).max(self.side_px + 2)
    }
}

/// Width of the ring around a region's core that [`extract_np_hv`] needs to see.
pub fn np_hv_halo_px(settings: &settings::NpHv, input_mpp: Mpp) -> u32 {
    Rules::new(settings, input_mpp).halo_px()
}

/// Bytes that a thread keeps after extracting from a region of `rect_px` pixels, halo included, without the instances.
///
/// At worst one connected area fills the region: slopes and what they are made of 12 bytes a pixel, heights, markers,
/// labels and steps 12, and 60 for each of the runs, of which dense tissue has one to a dozen pixels.
pub fn np_hv_scratch_bytes(rect_px: u64) -> u64 {
    30 * rect_px
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of one region, kept by the thread.
#[derive(Default)]
struct Scratch {
    row: Vec<u8>,
    joined: JoinedRuns,
    blobs: GroupedRuns,
    energy: Energy,
    markers: Markers,
    watershed: MarkedWatershed,
    nuclei: GroupedRuns,
    pieces: Vec<u32>,
}

/// Finds the nuclei whose centroid lies in the region's core, sorted by the first pixel.
///
/// With a type head, a nucleus' class is the one that most of its pixels have as their most probable (background left
/// out unless it is most probable everywhere), and its probabilities are the means over its pixels; without, the class
/// is the model's first, and its probability the mean of the nuclear-pixel map. Empty when the region lacks the
/// nuclear-pixel plane or the two distance planes.
pub fn extract_np_hv(region: &Region, grid: &TargetGrid, settings: &settings::NpHv, spec: &ModelSpec) -> Vec<Instance> {
    let area_um2 = [settings.min_area_um2, settings.max_area_um2];
    let Some(finisher) = Finisher::new(region, MaskGrid::of_maps(grid), spec, area_um2, Vote::Pixels) else {
        return Vec::new();
    };
    let hv = region.plane(Head::HorizontalVertical).filter(|p| p.channels == 2);
    let Some(hv) = hv.filter(|_| region.rect.w > 0 && region.rect.h > 0) else { return Vec::new() };
    let (rect, slide) = (region.rect, grid.size);
    let maps = Maps {
        nuclear: &finisher.nuclear().data,
        hv: &hv.data,
        size: (rect.w as usize, rect.h as usize),
        origin: (rect.x, rect.y),
        slide_edges: [
            rect.x == 0,
            rect.y == 0,
            rect.right() == i64::from(slide.w),
            rect.bottom() == i64::from(slide.h),
        ],
        at_least: fixed_threshold(Head::NuclearPixel, settings.np_threshold),
    };
    let rules = Rules::new(settings, grid.input_mpp);
    SCRATCH.with_borrow_mut(|s| s.extract(region, &maps, &rules, settings.overall_threshold as f32, &finisher))
}

impl Scratch {
    fn extract(
        &mut self,
        region: &Region,
        maps: &Maps<'_>,
        rules: &Rules,
        threshold: f32,
        finisher: &Finisher<'_>,
    ) -> Vec<Instance> {
        self.find_blobs(maps);
        let (left, top) = (region.rect.x as u32, region.rect.y as u32);
        let mut instances = Vec::new();
        for number in 0..self.joined.areas().len() {
            let area = self.joined.areas()[number];
            let is_large = area.side_px() > rules.side_px;
            if !is_large && (area.px as f64) < rules.least_px || !may_own(&area, region) {
                continue;
            }
            let blob = Blob { runs: self.blobs.of(number), area, is_large };
            let frame = self.energy.make(maps, &blob, threshold, rules.cells);
            self.markers.find(&mut self.energy.marker, &frame, &rules.marker, is_large);
            self.nuclei.clear();
            let height = &self.energy.height;
            self.watershed.divide(height, &self.markers, &blob, &frame, &rules.marked, |marker, run| {
                self.nuclei.push(marker, Run { y: top + run.y, x0: left + run.x0, x1: left + run.x1 });
            });
            self.nuclei.group(self.markers.list.len());
            for marker in 0..self.markers.list.len() {
                let runs = self.nuclei.of(marker);
                if !runs.is_empty() {
                    let kept = keep_largest_piece(runs, &mut self.pieces);
                    instances.extend(finisher.finish_instance(&runs[..kept]));
                }
            }
        }
        instances.sort_unstable_by_key(|i: &Instance| i.runs[0]);
        instances
    }

    /// Finds the connected areas of nuclear pixels.
    fn find_blobs(&mut self, maps: &Maps<'_>) {
        self.joined.clear();
        for (y, prob) in maps.nuclear.chunks_exact(maps.size.0).enumerate() {
            self.row.clear();
            // Probabilities are 0 where nothing was computed.
            self.row.extend(prob.iter().map(|&p| u8::from(p >= maps.at_least)));
            let y = y as u32;
            for_each_run(&self.row, |x0, x1| self.joined.push(Run { y, x0: x0 as u32, x1: x1 as u32 }));
            self.joined.end_row(y, false);
        }
        self.joined.number();
        self.blobs.clear();
        self.joined.iter().for_each(|(area, run)| self.blobs.push(area, run));
        self.blobs.group(self.joined.areas().len());
    }
}

/// Whether a nucleus of an area could have its centroid in the region's core.
fn may_own(area: &Area, region: &Region) -> bool {
    let (x, y) = (region.core.x - region.rect.x, region.core.y - region.rect.y);
    let overlap =
        |from: u32, to: u32, core: i64, side: u32| i64::from(from) < core + i64::from(side) && i64::from(to) > core;
    overlap(area.left, area.right, x, region.core.w) && overlap(area.top, area.bottom, y, region.core.h)
}
