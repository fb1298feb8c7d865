//! Nuclei of a region: from its maps to instances.
//!
//! Owns: [`extract_nuclei`], [`halo_px`], [`scratch_bytes`]. Must not know: networks, files, other regions.
//!
//! What is found does not depend on how the slide was cut into regions, as long as each has [`halo_px`] around its
//! core (or ends at the slide's edge).

use super::{
    finish::{Finisher, Vote},
    foreground::Foreground,
    grouped_runs::GroupedRuns,
    instance::{Instance, Run},
    mask_grid::MaskGrid,
    pieces::keep_largest_piece,
    semantic::fixed_threshold,
    watershed::{Reach, Watershed},
};
use crate::{
    config::settings,
    geometry::TargetGrid,
    model::{Head, ModelSpec},
    stitch::Region,
    units::Mpp,
};
use std::cell::RefCell;

/// Width of the ring around a region's core that [`extract_nuclei`] needs to see.
pub fn halo_px(w: &settings::Watershed, input_mpp: Mpp) -> u32 {
    Reach::new(w, input_mpp).halo_px()
}

/// Bytes that a thread keeps after extracting from a region of `rect_px` pixels, halo included, without the instances.
///
/// Two masks, distances, heights and columns, directions, labels: 12 bytes a pixel; and 48 for each of the runs, of
/// which dense tissue has one to a dozen pixels.
pub fn scratch_bytes(rect_px: u64) -> u64 {
    16 * rect_px
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of one region, kept by the thread.
#[derive(Default)]
struct Scratch {
    foreground: Foreground,
    watershed: Watershed,
    nuclei: GroupedRuns,
    pieces: Vec<u32>,
}

/// Finds the nuclei whose centroid lies in the region's core, sorted by the first pixel.
///
/// The probability map is thresholded, small holes are filled, threads removed, touching nuclei divided by a
/// watershed; of each nucleus the largest 4-connected piece is kept. With a type head, a nucleus' class is the one
/// with the largest mean probability over its pixels (background left out); without, it is the model's first, and
/// its probability is the mean of the map. Empty when the region has no nuclear-pixel plane.
pub fn extract_nuclei(
    region: &Region,
    grid: &TargetGrid,
    settings: &settings::Watershed,
    spec: &ModelSpec,
) -> Vec<Instance> {
    let area_um2 = [settings.min_area_um2, settings.max_area_um2];
    let Some(finisher) = Finisher::new(region, MaskGrid::of_maps(grid), spec, area_um2, Vote::Mean) else {
        return Vec::new();
    };
    let reach = Reach::new(settings, grid.input_mpp);
    let w = region.rect.w as usize;
    let at_least = fixed_threshold(Head::NuclearPixel, settings.threshold);
    SCRATCH.with_borrow_mut(|s| {
        s.foreground.make(&finisher.nuclear().data, &region.computed, w, at_least, &reach);
        s.nuclei.clear();
        let (left, top) = (region.rect.x as u32, region.rect.y as u32);
        let numbers = s.watershed.run(&s.foreground.mask, w, &reach, |nucleus, y, x0, x1| {
            s.nuclei.push(nucleus, Run { y: top + y, x0: left + x0, x1: left + x1 });
        });
        s.nuclei.group(numbers);
        let mut instances = Vec::new();
        for number in 0..numbers {
            let runs = s.nuclei.of(number);
            if !runs.is_empty() {
                let kept = keep_largest_piece(runs, &mut s.pieces);
                instances.extend(finisher.finish_instance(&runs[..kept]));
            }
        }
        instances.sort_unstable_by_key(|i: &Instance| i.runs[0]);
        instances
    })
}
