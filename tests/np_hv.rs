//! Nuclei from HoVer-Net's maps: those of the original, whole, each once, and independent of how the slide was cut.

use crate::cuts::{self, Random, cuts, grid, mpp, rows, two_types};
use proptest::prelude::*;
use std::{collections::HashMap, io::Read, path::Path};
use wsi_run::{
    config::settings,
    geometry::{Rect, Target},
    instances::{Instance, NP_HV_DEFAULTS, extract_np_hv, np_hv_halo_px},
    model::Head,
    stitch::{Plane, Region},
};

const UNIT: i64 = 16384;

/// Maps of a whole slide, `[h, w]` each.
#[derive(Clone)]
struct Maps {
    w: u32,
    h: u32,
    nuclear: Vec<i16>,
    /// Horizontal, then vertical.
    hv: Vec<i16>,
    /// Background and two types.
    types: Vec<i16>,
}

impl Maps {
    /// Exact maps of a label picture, in integers: the distance from the centre, −1 to 1 on each side of it.
    fn exact(labels: &[u16], w: u32) -> Self {
        let h = labels.len() as u32 / w;
        let mut sums: HashMap<u16, [i64; 3]> = HashMap::new();
        for (i, &label) in labels.iter().enumerate().filter(|(_, l)| **l > 0) {
            let sum = sums.entry(label).or_default();
            sum[0] += 1;
            sum[1] += i as i64 % i64::from(w);
            sum[2] += i as i64 / i64::from(w);
        }
        // n times the distance from the mean.
        let distance = |label: u16, i: usize, c: usize| {
            let at = [i as i64 % i64::from(w), i as i64 / i64::from(w)][c];
            sums[&label][0] * at - sums[&label][c + 1]
        };
        let mut far: HashMap<u16, [[i64; 2]; 2]> = HashMap::new();
        for (i, &label) in labels.iter().enumerate().filter(|(_, l)| **l > 0) {
            let far = far.entry(label).or_insert([[1; 2]; 2]);
            for (c, far) in far.iter_mut().enumerate() {
                let d = distance(label, i, c);
                far[usize::from(d >= 0)] = far[usize::from(d >= 0)].max(d.abs());
            }
        }
        let hv = (0..2 * labels.len()).map(|k| {
            let (c, i) = (k / labels.len(), k % labels.len());
            if labels[i] == 0 {
                return 0;
            }
            let d = distance(labels[i], i, c);
            (d.signum() * (d.abs() * UNIT / far[&labels[i]][c][usize::from(d >= 0)])) as i16
        });
        Self {
            w,
            h,
            nuclear: labels.iter().map(|&l| if l > 0 { UNIT as i16 } else { 0 }).collect(),
            hv: hv.collect(),
            types: vec![0; 3 * labels.len()],
        }
    }

    /// Blurred by 3 × 3 and with noise, the same as the fixture's `make.py` makes.
    fn noisy(&self) -> Self {
        let n = self.nuclear.len();
        let planes: Vec<&[i16]> = std::iter::once(&self.nuclear[..]).chain(self.hv.chunks_exact(n)).collect();
        let (w, h) = (self.w as i64, self.h as i64);
        let value = |k: usize| {
            let (plane, i) = (planes[k / n], (k % n) as i64);
            let mut sum = 0;
            for (dy, dx) in (-1..2).flat_map(|dy| (-1..2).map(move |dx| (dy, dx))) {
                let (x, y) = (i % w + dx, i / w + dy);
                if (0..w).contains(&x) && (0..h).contains(&y) {
                    sum += i64::from(plane[(y * w + x) as usize]);
                }
            }
            let mut noise = (k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            noise ^= noise >> 29;
            noise = noise.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            sum.div_euclid(9) + (noise >> 40) as i64 % 2001 - 1000
        };
        Self {
            nuclear: (0..n).map(|k| value(k).clamp(0, UNIT) as i16).collect(),
            hv: (n..3 * n).map(|k| value(k) as i16).collect(),
            ..self.clone()
        }
    }

    /// The region of `core`, with the halo a run gives it.
    fn region(&self, core: Rect<Target>, halo_px: u32) -> Region {
        let rect = core.inflate(halo_px).intersect(&Rect::new(0, 0, self.w, self.h));
        let n = (self.w * self.h) as usize;
        let cut = |planes: &[i16]| -> Vec<i16> {
            planes.chunks(n).flat_map(|plane| rows(rect, self.w).flat_map(|row| &plane[row])).copied().collect()
        };
        let plane = |head, channels, data| Plane { head, channels, data, pixels: None };
        Region {
            core,
            rect,
            computed: vec![1; rect.area() as usize],
            planes: vec![
                plane(Head::TypeProbability, 3, cut(&self.types)),
                plane(Head::NuclearPixel, 1, cut(&self.nuclear)),
                plane(Head::HorizontalVertical, 2, cut(&self.hv)),
            ],
            rgb: Vec::new(),
        }
    }
}

/// Extracts every region of a cutting and puts the instances together as one region would give them.
fn extract_cut(maps: &Maps, xs: &[u32], ys: &[u32], settings: &settings::NpHv, um_per_px: f64) -> Vec<Instance> {
    let grid = grid(maps.w, maps.h, um_per_px);
    let halo_px = np_hv_halo_px(settings, grid.input_mpp);
    cuts::extract_cut(xs, ys, |core| extract_np_hv(&maps.region(core, halo_px), &grid, settings, &two_types()))
}

fn extract_whole(maps: &Maps, settings: &settings::NpHv, um_per_px: f64) -> Vec<Instance> {
    extract_cut(maps, &[0, maps.w], &[0, maps.h], settings, um_per_px)
}

// ── the original ──

/// Side of the fixture's pictures.
const SIDE: u32 = 640;

fn fixture(name: &str) -> Vec<u16> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/np_hv/{name}.bin"));
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

/// How many objects of `truth` an instance meets at an IoU above `limit`, and how many there are.
fn met(instances: &[Instance], truth: &[u16], limit: f64) -> (usize, usize) {
    let mut sizes: HashMap<u16, usize> = HashMap::new();
    truth.iter().filter(|l| **l > 0).for_each(|l| *sizes.entry(*l).or_default() += 1);
    let hit = |instance: &&Instance| {
        let pixels = instance.runs.iter().flat_map(|r| (r.x0..r.x1).map(|x| truth[(r.y * SIDE + x) as usize]));
        let (mut area, mut shared) = (0, HashMap::<u16, usize>::new());
        for label in pixels {
            area += 1;
            *shared.entry(label).or_default() += 1;
        }
        let iou = |(label, n): (&u16, &usize)| *n as f64 / (area + sizes[label] - n) as f64;
        shared.iter().filter(|(l, _)| **l > 0).map(iou).fold(0.0, f64::max) > limit
    };
    (instances.iter().filter(hit).count(), sizes.len())
}

#[test]
fn nuclei_are_those_of_the_original_with_each_area_by_itself() {
    let exact = Maps::exact(&fixture("nuclei"), SIDE);
    for (name, maps) in [("exact", exact.clone()), ("noisy", exact.noisy())] {
        let found = extract_whole(&maps, &NP_HV_DEFAULTS, 0.25);
        for (variant, share) in [("areas", 0.99), ("array", 0.9)] {
            let (hits, total) = met(&found, &fixture(&format!("{name}.{variant}")), 0.99);
            println!("{name}.{variant}: {hits} of {total} at IoU > 0.99, {} found", found.len());
            assert!(hits as f64 >= share * total as f64, "{name}.{variant}: {hits} of {total}, {} found", found.len());
        }
    }
}

// ── laws ──

/// Cells of any shape and size, apart, touching in chains or covering everything, and noise on all maps.
fn random_maps(w: u32, h: u32, seed: u64) -> Maps {
    let mut random = Random(seed);
    let step = 5 + random.below(14);
    let (columns, rows) = (u64::from(w) / step + 2, u64::from(h) / step + 2);
    let centres: Vec<(i64, i64, i64)> = (0..columns * rows)
        .map(|i| {
            let at = |k: u64, random: &mut Random| (k * step + random.below(step)) as i64;
            (at(i % columns, &mut random), at(i / columns, &mut random), 1 + random.below(step * step) as i64)
        })
        .collect();
    // Each pixel is its nearest centre's, if that one reaches so far.
    let label = |i: u32| {
        let (x, y) = (i64::from(i % w), i64::from(i / w));
        let near = centres.iter().enumerate().map(|(k, c)| ((x - c.0).pow(2) + (y - c.1).pow(2), k)).min().unwrap();
        if near.0 < centres[near.1].2 { near.1 as u16 + 1 } else { 0 }
    };
    let mut maps = Maps::exact(&(0..w * h).map(label).collect::<Vec<_>>(), w);
    let strength = [1, 2000, 12_000][random.below(3) as usize];
    let noise = 1 + random.below(strength);
    let mut shaken = |v: &i16| (i64::from(*v) + random.below(noise) as i64 - noise as i64 / 2) as i16;
    maps.hv = maps.hv.iter().map(&mut shaken).collect();
    maps.nuclear = maps.nuclear.iter().map(|v| shaken(v).clamp(0, UNIT as i16)).collect();
    maps.types = (0..3 * w * h).map(|_| random.below(16_384) as i16).collect();
    maps
}

/// Nuclei small enough that a picture of a few thousand px holds many halos.
fn small_nuclei(max_area_px: f64, max_hole_px: f64, um_per_px: f64) -> settings::NpHv {
    let um2 = um_per_px * um_per_px;
    settings::NpHv {
        min_area_um2: 4.0 * um2,
        max_area_um2: max_area_px * um2,
        max_hole_um2: max_hole_px * um2,
        min_marker_um2: 4.0 * um2,
        ..NP_HV_DEFAULTS
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn cutting_a_slide_into_regions_of_any_size_gives_the_same_nuclei(
        w in 30u32..300, h in 30u32..240, seed in any::<u64>(), max_area in 16.0f64..120.0,
        max_hole in 0.0f64..32.0, um_per_px in prop::sample::select(vec![0.25, 0.5, 1.0]),
    ) {
        let maps = random_maps(w, h, seed);
        let settings = small_nuclei(max_area, max_hole, um_per_px);
        let whole = extract_whole(&maps, &settings, um_per_px);
        let mut random = Random(seed ^ 1);
        let largest = 30 + random.below(100) as u32;
        let (xs, ys) = (cuts(w, &mut random, largest), cuts(h, &mut random, largest));
        let cut = extract_cut(&maps, &xs, &ys, &settings, um_per_px);
        prop_assert!(cut == whole, "{} nuclei in one piece, {} in {} x {}", whole.len(), cut.len(), xs.len(), ys.len());
    }

    #[test]
    fn nuclei_are_apart_and_within_their_bounds(seed in any::<u64>(), max_area in 16.0f64..240.0) {
        let maps = random_maps(150, 120, seed);
        let settings = small_nuclei(max_area, 16.0, 0.5);
        let mut taken = vec![false; 150 * 120];
        for nucleus in extract_whole(&maps, &settings, 0.5) {
            let mut area = 0;
            prop_assert!(nucleus.runs.is_sorted());
            for at in nucleus.runs.iter().flat_map(|run| (run.x0..run.x1).map(|x| (run.y * 150 + x) as usize)) {
                prop_assert!(!std::mem::replace(&mut taken[at], true), "two nuclei at {at}");
                prop_assert!(maps.nuclear[at] >= 8192);
                area += 1;
            }
            let area_um2 = f64::from(area) * 0.25;
            prop_assert!((settings.min_area_um2..=settings.max_area_um2).contains(&area_um2));
            prop_assert_eq!(nucleus.class_probs.len(), 2);
        }
    }
}

#[test]
fn large_areas_lose_nothing_by_their_limits_of_reach() {
    let maps = Maps::exact(&fixture("nuclei"), SIDE).noisy();
    let whole = extract_whole(&maps, &NP_HV_DEFAULTS, 0.25);
    // A limit just above the largest nucleus: most areas of several nuclei are large then.
    let limited = extract_whole(&maps, &settings::NpHv { max_area_um2: 60.0, ..NP_HV_DEFAULTS }, 0.25);
    let pixels = |found: &[Instance]| -> HashMap<(u32, u32), usize> {
        let of = |(i, n): (usize, &Instance)| {
            n.runs.iter().flat_map(|r| (r.x0..r.x1).map(|x| (x, r.y))).map(move |at| (at, i)).collect::<Vec<_>>()
        };
        found.iter().enumerate().flat_map(of).collect()
    };
    let small: Vec<Instance> = whole.into_iter().filter(|n| n.features.area_um2 <= 60.0).collect();
    let (there, n) = (pixels(&limited), small.len());
    let area = |n: &Instance| n.runs.iter().map(|r| (r.x1 - r.x0) as usize).sum::<usize>();
    let same = small.iter().filter(|nucleus| {
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for at in nucleus.runs.iter().flat_map(|r| (r.x0..r.x1).map(|x| (x, r.y))) {
            there.get(&at).into_iter().for_each(|i| *shared.entry(*i).or_default() += 1);
        }
        shared.iter().any(|(i, k)| *k as f64 > 0.9 * (area(nucleus) + area(&limited[*i]) - k) as f64)
    });
    let same = same.count();
    println!("{same} of {n} the same at IoU > 0.9");
    assert!(same as f64 > 0.97 * n as f64, "{same} of {n}");
}

#[test]
fn types_are_voted_for_pixel_by_pixel_and_the_background_counts_only_alone() {
    let (w, h) = (40u32, 40u32);
    let disc = |i: u32| u16::from((i % w).abs_diff(20).pow(2) + (i / w).abs_diff(20).pow(2) < 140);
    let mut maps = Maps::exact(&(0..w * h).map(disc).collect::<Vec<_>>(), w);
    let n = (w * h) as usize;
    let typed = |maps: &mut Maps, probs: &dyn Fn(usize) -> [i16; 3]| {
        (0..n).for_each(|i| (0..3).for_each(|c| maps.types[c * n + i] = probs(i)[c]));
        let found = extract_whole(maps, &NP_HV_DEFAULTS, 0.25);
        assert_eq!(found.len(), 1);
        (found[0].class, found[0].class_probs.iter().map(|p| (p * 100.0).round() as i32).collect::<Vec<_>>())
    };
    // Two of three columns vote narrowly for type 1, the third strongly for type 2.
    let narrow = |i: usize| if i % 3 < 2 { [0, 8_400, 7_984] } else { [0, 0, 16_384] };
    let (class, probs) = typed(&mut maps, &narrow);
    assert_eq!(class, 1);
    assert!(probs[1] > probs[0], "{probs:?}");
    // Most pixels vote for the background, few for type 2.
    assert_eq!(typed(&mut maps, &|i| if i % 5 > 0 { [9_000, 7_000, 384] } else { [0, 6_000, 10_384] }).0, 2);
    // All do: the more probable type.
    assert_eq!(typed(&mut maps, &|_| [9_000, 7_000, 384]).0, 1);
}

#[test]
fn a_region_without_both_maps_has_no_nuclei() {
    let maps = random_maps(60, 60, 3);
    let grid = grid(60, 60, 0.25);
    let whole = maps.region(Rect::new(0, 0, 60, 60), 0);
    for missing in [1, 2] {
        let mut region = whole.clone();
        region.planes.remove(missing);
        assert!(extract_np_hv(&region, &grid, &NP_HV_DEFAULTS, &two_types()).is_empty());
    }
}

#[test]
fn the_halo_of_the_defaults_is_within_a_region() {
    let halo_px = np_hv_halo_px(&NP_HV_DEFAULTS, mpp(0.25));
    assert!(halo_px <= 256, "{halo_px}");
}
