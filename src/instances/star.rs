//! Nuclei of a region from star-convex predictions.
//!
//! Owns: [`extract_stars`], [`star_halo_px`], [`star_scratch_bytes`], [`STAR_DEFAULTS`], [`PX_PER_STAR`]. Must not know:
//! networks, files, other regions.
//!
//! What is found does not depend on how the slide was cut into regions, as long as each has [`star_halo_px`] around
//! its core (or ends at the slide's edge).
//!
//! Source: the `stardist` package (Schmidt 2018; Weigert 2022 for types), `nms.py`, `models/model2d.py`. Differs: which
//! proposals stay depends on what is near only (see [`super::suppress`]); a nucleus' type is that of its pixels, not
//! of its centre's; of a nucleus cut by a better one the largest piece is kept; pixels not computed belong to none.

use super::{
    finish::{Finisher, Vote},
    instance::{Instance, Run},
    mask_grid::MaskGrid,
    pieces::keep_largest_piece,
    star_polygon::{Outline, Star, Stars, take_free},
    suppress::{Suppression, reach_px},
};
use crate::{
    config::settings,
    geometry::{Rect, Size, Target, TargetGrid},
    model::{Head, ModelSpec},
    stitch::{Plane, Region},
    units::Mpp,
};
use std::cell::RefCell;

/// The overlap that the weights in the program do best with.
pub const STAR_DEFAULTS: settings::Star = settings::Star {
    prob_threshold: None,
    nms_overlap: 0.2,
    min_area_um2: 8.0,
    max_area_um2: 400.0,
    max_radius_um: 12.0,
};

/// Pixels nearer than this to the slide's edge propose nothing: networks are unsure there.
const EDGE_PX: i64 = 2;

/// Width of the ring around a region's core that [`extract_stars`] needs to see.
///
/// The centre of a nucleus lies within a radius of its centroid. Of its pixels, those are taken that better nuclei
/// overlap: their centres are within two radii of its own. Which proposals are nuclei depends on what is within
/// [`reach_px`] of them.
pub fn star_halo_px(settings: &settings::Star, input_mpp: Mpp) -> u32 {
    let radius_px = max_radius_px(settings, input_mpp);
    3 * radius_px + reach_px(radius_px)
}

/// Of so many pixels about one proposes a nucleus, where there is much tissue.
pub const PX_PER_STAR: u32 = 8;

/// Bytes that a thread keeps after extracting from a region of `rect_px` pixels, halo included, without the instances,
/// when one pixel in [`PX_PER_STAR`] proposes a nucleus of 32 rays: 6 bytes a ray and 128 more for each; of masks
/// `factor` times as fine as the maps.
pub fn star_scratch_bytes(rect_px: u64, factor: u32) -> u64 {
    rect_px * u64::from(factor).pow(2) + rect_px / u64::from(PX_PER_STAR) * (6 * 32 + 128)
}

/// A pixel proposes a nucleus when its probability is above this, in fixed point.
pub(super) fn proposes_above(settings: &settings::Star) -> i16 {
    // Integers are above a number when they are above its floor.
    (settings.threshold() * f64::from(Head::NuclearPixel.scale())).floor() as i16
}

fn max_radius_px(settings: &settings::Star, input_mpp: Mpp) -> u32 {
    ((settings.max_radius_um / input_mpp.um_per_px()).ceil() as u32).max(1)
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of one region, kept by the thread.
#[derive(Default)]
struct Scratch {
    stars: Stars,
    suppression: Suppression,
    outline: Outline,
    /// 1 where a pixel was computed and belongs to no nucleus yet.
    free: Vec<u8>,
    runs: Vec<Run>,
    pieces: Vec<u32>,
}

/// Finds the nuclei whose centroid lies in the region's core, sorted by the first pixel.
///
/// Each pixel above the threshold proposes the polygon its distances make; of proposals that overlap too much, the most
/// probable stays. A pixel in several polygons belongs to the most probable; of each nucleus the largest 4-connected
/// piece is kept. With a type head, a nucleus' class is the one with the largest mean probability over its pixels
/// (background left out); without, it is the model's first, and its probability is that of the pixel that proposed
/// it. Empty when the region has no nuclear-pixel or no star-distance plane.
///
/// Polygons are drawn on `masks`, which may be finer than the maps: as the package does, whose labels have the pixels of
/// the image.
pub fn extract_stars(
    region: &Region,
    maps: &TargetGrid,
    masks: &MaskGrid,
    settings: &settings::Star,
    spec: &ModelSpec,
) -> Vec<Instance> {
    let area_um2 = [settings.min_area_um2, settings.max_area_um2];
    let (Some(finisher), Some(distances)) =
        (Finisher::new(region, *masks, spec, area_um2, Vote::Mean), region.plane(Head::StarDistance))
    else {
        return Vec::new();
    };
    let typed = region.plane(Head::TypeProbability).is_some_and(|p| p.channels as usize == spec.classes.len() + 1);
    let radius_px = max_radius_px(settings, maps.input_mpp);
    // Whoever has pixels in common with a nucleus of this region.
    let painted = region.core.inflate(3 * radius_px);
    SCRATCH.with_borrow_mut(|s| {
        s.stars.clear(distances.channels as usize);
        propose(region, maps.size, proposes_above(settings), [finisher.nuclear(), distances], radius_px, &mut s.stars);
        s.free.clear();
        let rect = masks.pixels_of(region.rect);
        for y in rect.y..rect.bottom() {
            let under = masks.under(region, y as u32, rect.x as u32, rect.right() as u32);
            s.free.extend(under.map(|at| region.computed[at]));
        }
        let mut instances = Vec::new();
        let Scratch { stars, suppression, outline, free, runs, pieces } = s;
        suppression.run(stars, settings.nms_overlap as f32, radius_px, |star| {
            if !painted.contains(i64::from(star.x), i64::from(star.y)) {
                return;
            }
            runs.clear();
            paint(stars, star, (rect, masks.factor), outline, free, runs);
            if runs.is_empty() {
                return;
            }
            let kept = keep_largest_piece(runs, pieces);
            if let Some(mut instance) = finisher.finish_instance(&runs[..kept]) {
                if !typed {
                    instance.class_probs = vec![f32::from(star.prob) / Head::NuclearPixel.scale()];
                }
                instances.push(instance);
            }
        });
        instances.sort_unstable_by_key(|i: &Instance| i.runs[0]);
        instances
    })
}

/// Collects what the pixels above the threshold propose.
fn propose(
    region: &Region,
    slide: Size<Target>,
    above: i16,
    [probs, distances]: [&Plane; 2],
    radius_px: u32,
    stars: &mut Stars,
) {
    let rect = region.rect;
    let (w, area) = (rect.w as usize, rect.area() as usize);
    let (right, bottom) = (i64::from(slide.w) - EDGE_PX, i64::from(slide.h) - EDGE_PX);
    let inner = Rect::from_edges(EDGE_PX, EDGE_PX, right, bottom);
    let part = rect.intersect(&inner);
    if let Some(pixels) = &distances.pixels {
        let rays = distances.data.chunks_exact(distances.channels as usize);
        for (&at, rays) in pixels.iter().zip(rays) {
            let (x, y) = (rect.x + i64::from(at) % w as i64, rect.y + i64::from(at) / w as i64);
            if part.contains(x, y) && probs.data[at as usize] > above {
                stars.push((x as i32, y as i32), probs.data[at as usize], radius_px, |k| rays[k]);
            }
        }
        return;
    }
    for y in part.y..part.bottom() {
        let row = (y - rect.y) as usize * w;
        for x in part.x..part.right() {
            let at = row + (x - rect.x) as usize;
            if probs.data[at] > above {
                stars.push((x as i32, y as i32), probs.data[at], radius_px, |k| distances.data[k * area + at]);
            }
        }
    }
}

/// Takes the free pixels of a polygon; `rect` is in pixels of which `factor` are along one of the maps.
fn paint(
    stars: &Stars,
    star: &Star,
    (rect, factor): (Rect<Target>, u32),
    outline: &mut Outline,
    free: &mut [u8],
    runs: &mut Vec<Run>,
) {
    let (left, right, w) = (rect.x, rect.right(), rect.w as usize);
    stars.pixels(star, factor, outline, |y, x0, x1| {
        let (y, x0, x1) = (i64::from(y), i64::from(x0).max(left), i64::from(x1).min(right));
        if y >= rect.y && y < rect.bottom() && x0 < x1 {
            let row = &mut free[(y - rect.y) as usize * w..][..w];
            take_free(row, left as u32, Run { y: y as u32, x0: x0 as u32, x1: x1 as u32 }, |run| runs.push(run));
        }
    });
}

#[cfg(test)]
mod tests;
