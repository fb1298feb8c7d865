//! Star-convex nuclei: as the `stardist` package finds them, once each, however the slide was cut.

use super::*;
use crate::{
    model::{ClassInfo, HEMATOXYLIN_DEFAULTS, HematoxylinModel, Model},
    units::MppXy,
};
use flate2::read::GzDecoder;
use proptest::prelude::*;
use std::io::Read;

const RAYS: usize = 32;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) * n) >> 31
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}

/// Maps of a whole slide.
struct Maps {
    w: u32,
    h: u32,
    rays: usize,
    computed: Vec<u8>,
    prob: Vec<i16>,
    distances: Vec<i16>,
    types: Vec<i16>,
}

impl Maps {
    fn empty(w: u32, h: u32, rays: usize) -> Self {
        let n = (w * h) as usize;
        Self { w, h, rays, computed: vec![1; n], prob: vec![0; n], distances: vec![0; rays * n], types: vec![0; 3 * n] }
    }

    fn region(&self, core: Rect<Target>, halo_px: u32) -> Region {
        let rect = core.inflate(halo_px).intersect(&Rect::new(0, 0, self.w, self.h));
        let (w, n) = (self.w as usize, (self.w * self.h) as usize);
        let rows = || {
            (rect.y..rect.bottom())
                .map(move |y| y as usize * w + rect.x as usize..y as usize * w + rect.right() as usize)
        };
        let cut = |data: &[i16]| data.chunks(n).flat_map(|c| rows().flat_map(|row| &c[row])).copied().collect();
        Region {
            core,
            rect,
            computed: rows().flat_map(|row| &self.computed[row]).copied().collect(),
            planes: vec![
                Plane { head: Head::NuclearPixel, channels: 1, data: cut(&self.prob), pixels: None },
                Plane {
                    head: Head::StarDistance,
                    channels: self.rays as u32,
                    data: cut(&self.distances),
                    pixels: None,
                },
                Plane { head: Head::TypeProbability, channels: 3, data: cut(&self.types), pixels: None },
            ],
            rgb: Vec::new(),
        }
    }

    fn set(&mut self, x: u32, y: u32, prob: f64, distance: impl Fn(usize) -> f64) {
        let (at, n) = ((y * self.w + x) as usize, (self.w * self.h) as usize);
        self.prob[at] = (prob * 16384.0) as i16;
        for k in 0..self.rays {
            self.distances[k * n + at] = (distance(k).clamp(0.0, 2000.0) * 16.0).round() as i16;
        }
    }

    /// A disc: probability from 1 at its centre to 0 at its edge, and the true distances.
    fn disc(&mut self, cx: f64, cy: f64, radius: f64, peak: f64) {
        let range = |c: f64, end: u32| ((c - radius).max(0.0) as u32)..((c + radius).ceil().max(0.0) as u32).min(end);
        for y in range(cy, self.h) {
            for x in range(cx, self.w) {
                let (dx, dy) = (f64::from(x) - cx, f64::from(y) - cy);
                let prob = peak * (1.0 - dx.hypot(dy) / radius);
                if prob > f64::from(self.prob[(y * self.w + x) as usize]) / 16384.0 {
                    self.set(x, y, prob, |k| {
                        let angle = std::f64::consts::TAU * k as f64 / RAYS as f64;
                        let along = dx * angle.cos() + dy * angle.sin();
                        (along * along + radius * radius - dx * dx - dy * dy).max(0.0).sqrt() - along
                    });
                }
            }
        }
    }

    /// Ridges, plateaus and ramps on which each proposal overlaps the next from one side to the other; discs; noise.
    fn hostile(w: u32, h: u32, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut maps = Self::empty(w, h, RAYS);
        let (slope, wave) = (random.unit() - 0.5, 1.0 + 40.0 * random.unit());
        let (flat, radius) = (random.below(3), 1.0 + 7.0 * random.unit());
        let rough = [0.0, 0.1, 1.0][random.below(3) as usize];
        for y in 0..h {
            for x in 0..w {
                let ridge = ((f64::from(y) + 5.0 * (f64::from(x) / wave).sin()) / 9.0).sin();
                let prob = match flat {
                    0 => 0.9,
                    1 => 0.5 + 0.2 * ridge + slope * 0.4 * f64::from(x) / f64::from(w),
                    _ => 0.3 + 0.6 * ridge,
                } + 0.05 * rough * random.unit();
                let size = radius * (1.0 + 0.5 * rough * (random.unit() - 0.5));
                let jitter: Vec<f64> = (0..RAYS).map(|_| size * (1.0 + rough * (random.unit() - 0.5))).collect();
                maps.set(x, y, prob.clamp(0.0, 1.0), |k| jitter[k]);
            }
        }
        for _ in 0..random.below(u64::from(w * h) / 400) {
            let (cx, cy) = (f64::from(w) * random.unit(), f64::from(h) * random.unit());
            maps.disc(cx, cy, 3.0 + 9.0 * random.unit(), 0.6 + 0.4 * random.unit());
        }
        maps.types = (0..maps.types.len()).map(|_| random.below(16384) as i16).collect();
        for _ in 0..random.below(3) {
            let (x0, y0) = (random.below(u64::from(w)) as u32, random.below(u64::from(h)) as u32);
            for y in y0..(y0 + 9).min(h) {
                for x in x0..(x0 + 14).min(w) {
                    maps.set(x, y, 0.0, |_| 0.0);
                    maps.computed[(y * w + x) as usize] = 0;
                }
            }
        }
        maps
    }
}

fn grid(w: u32, h: u32) -> TargetGrid {
    let mpp = Mpp::new(0.5).unwrap();
    TargetGrid::new(Size::new(w, h), MppXy::square(mpp), mpp)
}

fn two_types() -> ModelSpec {
    let class = |name: &str| ClassInfo { name: name.into(), color: [0; 3] };
    let mut spec = HematoxylinModel::new(&HEMATOXYLIN_DEFAULTS, None).unwrap().spec().clone();
    spec.classes = vec![class("tumour"), class("lymphocyte")];
    spec
}

fn extract_cut(maps: &Maps, xs: &[u32], ys: &[u32], settings: &settings::Star) -> Vec<Instance> {
    extract_on(maps, xs, ys, settings, &MaskGrid::of_maps(&grid(maps.w, maps.h)))
}

fn extract_on(maps: &Maps, xs: &[u32], ys: &[u32], settings: &settings::Star, masks: &MaskGrid) -> Vec<Instance> {
    let grid = grid(maps.w, maps.h);
    let halo_px = star_halo_px(settings, grid.input_mpp);
    let mut all = Vec::new();
    for y in ys.windows(2) {
        for x in xs.windows(2) {
            let core = Rect::new(i64::from(x[0]), i64::from(y[0]), x[1] - x[0], y[1] - y[0]);
            all.extend(extract_stars(&maps.region(core, halo_px), &grid, masks, settings, &two_types()));
        }
    }
    all.sort_by_key(|i| i.runs[0]);
    all
}

/// Masks with four pixels for each of the maps; the slide ends in the middle of the maps' last.
fn twice_as_fine(w: u32, h: u32) -> MaskGrid {
    let mpp = Mpp::new(0.25).unwrap();
    MaskGrid { grid: TargetGrid::new(Size::new(2 * w - 1, 2 * h - 1), MppXy::square(mpp), mpp), factor: 2 }
}

fn cuts(end: u32, random: &mut Random, largest: u32) -> Vec<u32> {
    let mut at = vec![0];
    while *at.last().unwrap() < end {
        at.push((at.last().unwrap() + 1 + random.below(u64::from(largest)) as u32).min(end));
    }
    at
}

fn small_settings(max_radius_px: u32, nms_overlap: f64) -> settings::Star {
    let max_radius_um = 0.5 * f64::from(max_radius_px);
    settings::Star { prob_threshold: Some(0.4), nms_overlap, min_area_um2: 1.0, max_area_um2: 400.0, max_radius_um }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn cutting_a_slide_into_regions_of_any_size_gives_the_same_nuclei(
        w in 30u32..240, h in 30u32..70, seed in any::<u64>(), max_radius_px in 2u32..6, overlap in 0.05f64..0.8,
    ) {
        let maps = Maps::hostile(w, h, seed);
        let settings = small_settings(max_radius_px, overlap);
        let whole = extract_cut(&maps, &[0, w], &[0, h], &settings);
        let mut random = Random(seed ^ 1);
        let largest = 40 + random.below(100) as u32;
        let (xs, ys) = (cuts(w, &mut random, largest), cuts(h, &mut random, largest));
        let cut = extract_cut(&maps, &xs, &ys, &settings);
        prop_assert_eq!(cut, whole);
        let masks = twice_as_fine(w, h);
        let whole = extract_on(&maps, &[0, w], &[0, h], &settings, &masks);
        prop_assert_eq!(extract_on(&maps, &xs, &ys, &settings, &masks), whole);
    }

    #[test]
    fn nuclei_are_apart_and_within_their_bounds(seed in any::<u64>(), overlap in 0.05f64..0.8) {
        let (maps, settings) = (Maps::hostile(110, 50, seed), small_settings(8, overlap));
        let mut taken = vec![false; 110 * 50];
        for nucleus in extract_cut(&maps, &[0, 110], &[0, 50], &settings) {
            let mut area = 0;
            prop_assert!(nucleus.runs.is_sorted());
            for run in &nucleus.runs {
                for x in run.x0..run.x1 {
                    let at = (run.y * 110 + x) as usize;
                    prop_assert!(maps.computed[at] == 1);
                    prop_assert!(!std::mem::replace(&mut taken[at], true), "two nuclei at {x}, {}", run.y);
                    area += 1;
                }
            }
            prop_assert!((settings.min_area_um2..=settings.max_area_um2).contains(&(f64::from(area) * 0.25)));
            let class = usize::from(nucleus.class) - 1;
            prop_assert!(nucleus.class_probs.iter().all(|p| *p <= nucleus.class_probs[class]));
        }
    }
}

#[test]
fn a_ridge_longer_than_any_halo_is_covered_with_nuclei() {
    for slope in [0.0, 1e-4] {
        let (w, h) = (4000, 21);
        let mut maps = Maps::empty(w, h, RAYS);
        (0..w).for_each(|x| maps.set(x, 10, 0.5 + slope * f64::from(x), |_| 5.0));
        let found = extract_cut(&maps, &[0, w], &[0, h], &small_settings(8, 0.3)).len() as f64;
        // Neighbours on the ridge stay when they are 5.9 px or more apart: at most 680, as few as half.
        assert!((300.0..700.0).contains(&found), "{found} with slope {slope}");
    }
}

#[test]
fn every_disc_of_a_slide_comes_out_once() {
    let (w, h) = (700, 520);
    let mut maps = Maps::empty(w, h, RAYS);
    let mut random = Random(3);
    let mut discs = Vec::new();
    while discs.len() < 900 {
        let radius = 4.0 + 5.0 * random.unit();
        let (x, y) = (12.0 + 676.0 * random.unit(), 12.0 + 496.0 * random.unit());
        if discs.iter().all(|&(u, v, r): &(f64, f64, f64)| (u - x).hypot(v - y) > r + radius - 0.5) {
            maps.disc(x, y, radius, 1.0);
            discs.push((x, y, radius));
        }
    }
    let settings = settings::Star { prob_threshold: Some(0.5), ..STAR_DEFAULTS };
    let found = extract_cut(&maps, &[0, 301, w], &[0, 255, h], &settings);
    assert_eq!(found.len(), discs.len());
    for (x, y, radius) in discs {
        let near = |i: &&Instance| (i.centroid.0 - 0.5 - x).hypot(i.centroid.1 - 0.5 - y) < 1.0;
        let nucleus = found.iter().find(near).expect("each disc has its nucleus");
        let area = std::f64::consts::PI * radius * radius;
        assert!((nucleus.features.area_um2 / 0.25 / area - 1.0).abs() < 0.12, "{nucleus:?} {radius}");
    }
}

#[test]
fn a_nucleus_drawn_on_finer_pixels_lies_where_it_was_found_and_is_rounder() {
    let mut maps = Maps::empty(60, 40, RAYS);
    let (x, y, radius) = (20.3, 19.8, 4.6);
    maps.disc(x, y, radius, 1.0);
    // The right half has another type than the left one.
    let n = 60 * 40;
    (0..n).for_each(|at| maps.types[if at % 60 < 20 { 1 } else { 2 } * n + at] = 16384);
    let settings = settings::Star { prob_threshold: Some(0.5), ..STAR_DEFAULTS };
    let coarse = extract_cut(&maps, &[0, 60], &[0, 40], &settings);
    let fine = extract_on(&maps, &[0, 60], &[0, 40], &settings, &twice_as_fine(60, 40));
    assert_eq!((coarse.len(), fine.len()), (1, 1));
    // Places count pixel edges, the disc's middle counts the maps' pixel centres.
    let off = (fine[0].centroid.0 / 2.0 - 0.5 - x).hypot(fine[0].centroid.1 / 2.0 - 0.5 - y);
    assert!(off < 0.2, "{:?}", fine[0].centroid);
    let misses = |nucleus: &Instance, px: f64| {
        let inside =
            |i: u32, j: u32| ((f64::from(i) + 0.5) * px - 0.5 - x).hypot((f64::from(j) + 0.5) * px - 0.5 - y) <= radius;
        let outside = nucleus.runs.iter().flat_map(|r| (r.x0..r.x1).map(|i| (i, r.y))).filter(|&(i, j)| !inside(i, j));
        outside.count() as f64 * px * px
    };
    assert!(misses(&fine[0], 0.5) <= misses(&coarse[0], 1.0));
    let area = std::f64::consts::PI * radius * radius;
    assert!((fine[0].features.area_um2 / 0.25 / area - 1.0).abs() < 0.03, "{:?}", fine[0].features);
    // The types meet 0.8 px left of the middle: 0.39 of the disc are of the first.
    assert_eq!((fine[0].class, fine[0].class_probs.len()), (2, 2));
    let first = f64::from(fine[0].class_probs[0]);
    assert!((0.35..0.43).contains(&first) && (first + f64::from(fine[0].class_probs[1]) - 1.0).abs() < 1e-6, "{first}");
}

// ── against the `stardist` package ──

struct Expected {
    maps: Maps,
    /// Centres kept, best first.
    kept: Vec<(i32, i32)>,
    labels: Vec<i16>,
}

fn read_expected(gz: &[u8]) -> Expected {
    let mut bytes = Vec::new();
    GzDecoder::new(gz).read_to_end(&mut bytes).unwrap();
    let mut values = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
    let mut take = |n: usize| values.by_ref().take(n).collect::<Vec<_>>();
    let head = take(5);
    let [w, h, rays, candidates, kept] = std::array::from_fn(|i| usize::from(head[i] as u16));
    let mut maps = Maps::empty(w as u32, h as u32, rays);
    maps.prob = take(w * h);
    let mut value = 0i16;
    let places: Vec<usize> = (0..w * h).filter(|&i| maps.prob[i] > 8192).collect();
    assert_eq!(places.len(), candidates);
    for k in 0..rays {
        for (difference, at) in take(candidates).into_iter().zip(&places) {
            value = value.wrapping_add(difference);
            maps.distances[k * w * h + at] = value;
        }
    }
    let kept = take(2 * kept).chunks(2).map(|p| (i32::from(p[0]), i32::from(p[1]))).collect();
    Expected { maps, kept, labels: take(w * h) }
}

/// Everything that is kept, whatever its size.
fn as_stardist() -> settings::Star {
    settings::Star {
        prob_threshold: Some(0.5),
        nms_overlap: 0.3,
        min_area_um2: 0.0,
        max_area_um2: 1e9,
        max_radius_um: 20.0,
    }
}

#[test]
fn the_polygons_that_stay_are_those_of_stardist() {
    let Expected { maps, kept, .. } = read_expected(include_bytes!("../../../fixtures/star/crowded.bin.gz"));
    let region = maps.region(Rect::new(0, 0, maps.w, maps.h), 0);
    let mut stars = Stars::default();
    stars.clear(maps.rays);
    let planes = [&region.planes[0], &region.planes[1]];
    propose(&region, Size::new(maps.w, maps.h), 8192, planes, 40, &mut stars);
    let mut ours = Vec::new();
    Suppression::default().run(&stars, 0.3, 40, |star| ours.push((star.x, star.y)));
    assert_eq!(ours, kept);
}

#[test]
fn the_pixels_of_nuclei_are_those_of_stardist() {
    let Expected { maps, kept, labels } = read_expected(include_bytes!("../../../fixtures/star/crowded.bin.gz"));
    let found = extract_cut(&maps, &[0, maps.w], &[0, maps.h], &as_stardist());
    assert_eq!(found.len(), kept.len());
    let mut areas = vec![0u32; kept.len() + 1];
    labels.iter().for_each(|&l| areas[l as usize] += 1);
    let (mut shared_all, mut united_all) = (0, 0);
    for nucleus in &found {
        let mut counts = vec![0u32; areas.len()];
        let mut area = 0;
        for run in &nucleus.runs {
            area += run.x1 - run.x0;
            (run.x0..run.x1).for_each(|x| counts[labels[(run.y * maps.w + x) as usize] as usize] += 1);
        }
        let label = (1..areas.len()).max_by_key(|&l| counts[l]).unwrap();
        let (shared, united) = (counts[label], area + areas[label] - counts[label]);
        assert!(f64::from(shared) >= 0.95 * f64::from(united), "{shared} of {united} px, label {label}");
        (shared_all, united_all) = (shared_all + shared, united_all + united);
    }
    let iou = f64::from(shared_all) / f64::from(united_all);
    assert!(iou > 0.995, "{iou}");
}
