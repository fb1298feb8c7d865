//! Nuclei of a region: from its maps to instances.
//!
//! Owns: [`extract_nuclei`], [`halo_px`], [`scratch_bytes`]. Must not know: networks, files, other regions.
//!
//! What is found does not depend on how the slide was cut into regions, as long as each has [`halo_px`] around its
//! core (or ends at the slide's edge).

use super::{
    contour::rings,
    foreground::Foreground,
    instance::{Instance, Run},
    measure::{RgbWindow, measure},
    own::{Sums, touches_unknown},
    semantic::fixed_threshold,
    watershed::{Reach, Watershed},
};
use crate::{
    config::settings,
    geometry::TargetGrid,
    model::{Head, ModelSpec},
    stitch::{Plane, Region},
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
    /// Runs in raster order, each with the number of its nucleus.
    found: Vec<(u32, Run)>,
    /// End of each nucleus' runs in `sorted`.
    ends: Vec<u32>,
    sorted: Vec<Run>,
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
    let Some(plane) = region.plane(Head::NuclearPixel) else { return Vec::new() };
    let reach = Reach::new(settings, grid.input_mpp);
    let context = Context {
        region,
        grid,
        area_px: [settings.min_area_um2, settings.max_area_um2].map(|um2| um2 / grid.px_area_um2()),
        all_computed: !region.computed.contains(&0),
        nuclear: plane,
        types: region.plane(Head::TypeProbability).filter(|p| p.channels as usize == spec.classes.len() + 1),
    };
    let w = region.rect.w as usize;
    let at_least = fixed_threshold(Head::NuclearPixel, settings.threshold);
    SCRATCH.with_borrow_mut(|s| {
        s.foreground.make(&plane.data, &region.computed, w, at_least, &reach);
        s.found.clear();
        let (left, top) = (region.rect.x as u32, region.rect.y as u32);
        let numbers = s.watershed.run(&s.foreground.mask, w, &reach, |nucleus, y, x0, x1| {
            s.found.push((nucleus, Run { y: top + y, x0: left + x0, x1: left + x1 }));
        });
        s.gather(numbers);
        let mut instances = Vec::new();
        let mut start = 0;
        for &end in &s.ends {
            let runs = &mut s.sorted[start..end as usize];
            start = end as usize;
            if !runs.is_empty() {
                let kept = keep_largest_piece(runs, &mut s.pieces);
                instances.extend(context.finish_instance(&runs[..kept]));
            }
        }
        instances.sort_unstable_by_key(|i: &Instance| i.runs[0]);
        instances
    })
}

impl Scratch {
    /// Sorts the runs found by nucleus, raster order kept.
    fn gather(&mut self, numbers: usize) {
        self.ends.clear();
        self.ends.resize(numbers, 0);
        for (nucleus, _) in &self.found {
            self.ends[*nucleus as usize] += 1;
        }
        let mut total = 0;
        for end in &mut self.ends {
            total += std::mem::replace(end, total);
        }
        self.sorted.clear();
        self.sorted.resize(self.found.len(), Run { y: 0, x0: 0, x1: 0 });
        for &(nucleus, run) in &self.found {
            let at = &mut self.ends[nucleus as usize];
            self.sorted[*at as usize] = run;
            *at += 1;
        }
    }
}

/// Moves the runs of the largest 4-connected piece (of equals the first) to the front; returns how many.
fn keep_largest_piece(runs: &mut [Run], pieces: &mut Vec<u32>) -> usize {
    let is_column = |pair: &[Run]| pair[1].y == pair[0].y + 1 && pair[0].x0 < pair[1].x1 && pair[1].x0 < pair[0].x1;
    if runs.windows(2).all(is_column) {
        return runs.len();
    }
    // Union by the first run: `pieces[i]` is the first run of run i's piece, or leads to it.
    pieces.clear();
    pieces.extend(0..runs.len() as u32);
    fn root(pieces: &[u32], mut i: u32) -> u32 {
        while pieces[i as usize] != i {
            i = pieces[i as usize];
        }
        i
    }
    let mut above = 0;
    for i in 0..runs.len() {
        while runs[above].y + 1 < runs[i].y {
            above += 1;
        }
        for j in (above..i).take_while(|&j| runs[j].y < runs[i].y) {
            if runs[j].x0 < runs[i].x1 && runs[i].x0 < runs[j].x1 {
                let (a, b) = (root(pieces, i as u32), root(pieces, j as u32));
                pieces[a.max(b) as usize] = a.min(b);
            }
        }
    }
    let mut areas = vec![0u64; runs.len()];
    for (i, run) in runs.iter().enumerate() {
        areas[root(pieces, i as u32) as usize] += u64::from(run.x1 - run.x0);
    }
    let largest = (0..areas.len()).max_by_key(|&i| (areas[i], std::cmp::Reverse(i))).unwrap_or(0) as u32;
    let mut kept = 0;
    for i in 0..runs.len() {
        if root(pieces, i as u32) == largest {
            runs[kept] = runs[i];
            kept += 1;
        }
    }
    kept
}

/// What finishing an instance needs to see.
struct Context<'a> {
    region: &'a Region,
    grid: &'a TargetGrid,
    /// Smallest and largest area.
    area_px: [f64; 2],
    all_computed: bool,
    nuclear: &'a Plane,
    types: Option<&'a Plane>,
}

impl Context<'_> {
    /// The instance of `runs`; `None` when it is too small or large, or another region's.
    fn finish_instance(&self, runs: &[Run]) -> Option<Instance> {
        let mut sums = Sums::default();
        runs.iter().for_each(|&run| sums.add(run));
        let area_px = sums.area_px as f64;
        if !sums.centroid_is_in(self.region.core) || area_px < self.area_px[0] || area_px > self.area_px[1] {
            return None;
        }
        let class_probs: Vec<f32> = match self.types {
            Some(plane) => (1..plane.channels).map(|c| self.mean(plane, c, runs, sums.area_px)).collect(),
            None => vec![self.mean(self.nuclear, 0, runs, sums.area_px)],
        };
        let mut best = 0;
        for (i, p) in class_probs.iter().enumerate() {
            if *p > class_probs[best] {
                best = i;
            }
        }
        Some(Instance {
            class: best as u8 + 1,
            class_probs,
            runs: runs.to_vec(),
            centroid: sums.centroid(),
            rings: rings(runs),
            truncated: touches_unknown(runs, self.region, self.grid.size, self.all_computed),
            features: measure(runs, self.grid.input_mpp, self.rgb()),
        })
    }

    /// The pixels to measure colours on, if the region has them.
    fn rgb(&self) -> Option<RgbWindow<'_>> {
        (!self.region.rgb.is_empty()).then_some(RgbWindow { rgb: &self.region.rgb, rect: self.region.rect })
    }

    /// Mean of a channel over the pixels of `runs`; the sum is of integers, so the order does not matter.
    fn mean(&self, plane: &Plane, channel: u32, runs: &[Run], area_px: u64) -> f32 {
        let rect = &self.region.rect;
        let w = rect.w as usize;
        let first = channel as usize * w * rect.h as usize;
        let sum: i64 = runs
            .iter()
            .map(|run| {
                let row = first + (i64::from(run.y) - rect.y) as usize * w;
                let x = |x: u32| (i64::from(x) - rect.x) as usize;
                plane.data[row + x(run.x0)..row + x(run.x1)].iter().map(|&v| i64::from(v)).sum::<i64>()
            })
            .sum();
        (sum as f64 / area_px as f64 / f64::from(plane.head.scale())) as f32
    }
}
