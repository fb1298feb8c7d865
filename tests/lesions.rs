//! Lesions of streamed class maps against scipy and scikit-image, and the laws they keep.

use proptest::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;
use wsi_run::{
    instances::{Lesion, LesionFinder, Run, centroid, measure, rings},
    units::Mpp,
};

#[derive(Deserialize)]
struct Map {
    name: String,
    width: usize,
    rows: Vec<String>,
    lesions: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    class: u8,
    first: (u32, u32),
    area: u64,
    /// y0, x0, y1, x1.
    bbox: [u32; 4],
    /// y, x at pixel centres.
    centroid: (f64, f64),
    perimeter: f64,
    holes: usize,
    truncated: bool,
    prob: f64,
}

impl Map {
    fn classes(&self) -> Vec<u8> {
        self.rows.iter().flat_map(|r| r.bytes()).map(|b| if b == b'9' { 255 } else { b - b'0' }).collect()
    }
}

fn px() -> Mpp {
    Mpp::new(1.0).unwrap()
}

/// The probabilities of `make.py`.
fn probs(h: usize, w: usize) -> Vec<u8> {
    (0..h).flat_map(|y| (0..w).map(move |x| ((y * 7 + x * 13) % 256) as u8)).collect()
}

fn find(finder: LesionFinder, classes: &[u8], probs: &[&[u8]], w: usize) -> Vec<Lesion> {
    let mut finder = if probs.is_empty() { finder } else { finder.with_probs() };
    let mut lesions = Vec::new();
    for (y, row) in classes.chunks(w).enumerate() {
        let probs: Vec<&[u8]> = probs.iter().map(|p| &p[y * w..(y + 1) * w]).collect();
        finder.push_row(y as u32, row, &probs, &mut |l| lesions.push(l));
    }
    finder.finish(&mut |l| lesions.push(l));
    lesions
}

fn all(classes: &[u8], w: usize) -> Vec<Lesion> {
    find(LesionFinder::new(w as u32, 2, px(), 0.0), classes, &[], w)
}

fn bbox(runs: &[Run]) -> [u32; 4] {
    let x0 = runs.iter().map(|r| r.x0).min().unwrap();
    let x1 = runs.iter().map(|r| r.x1).max().unwrap();
    [runs[0].y, x0, runs[runs.len() - 1].y + 1, x1]
}

#[test]
fn lesions_are_the_components_scipy_labels() {
    let maps: Vec<Map> = serde_json::from_str(include_str!("../fixtures/instances/lesions.json")).unwrap();
    let lesions = || maps.iter().flat_map(|m| &m.lesions);
    assert!(lesions().any(|l| l.holes > 0) && lesions().any(|l| l.truncated) && lesions().any(|l| !l.truncated));
    for map in &maps {
        let prob = probs(map.rows.len(), map.width);
        let other: Vec<u8> = prob.iter().map(|p| 255 - p).collect();
        let finder = LesionFinder::new(map.width as u32, 2, px(), 0.0);
        let found = find(finder, &map.classes(), &[&prob, &other], map.width);
        assert_eq!(found.len(), map.lesions.len(), "{}", map.name);
        let expected: HashMap<_, _> = map.lesions.iter().map(|l| (l.first, l)).collect();
        for lesion in found {
            let i = &lesion.instance;
            let e = expected[&(i.runs[0].y, i.runs[0].x0)];
            let name = format!("{} at {:?}", map.name, e.first);
            assert_eq!((i.class, i.truncated, lesion.cell_px), (e.class, e.truncated, 1), "{name}");
            assert_eq!(i.features.area_um2, e.area as f64, "{name}");
            assert_eq!(bbox(&i.runs), e.bbox, "{name}");
            assert_eq!(i.rings.len() - 1, e.holes, "{name}");
            assert!((i.features.perimeter_um - e.perimeter).abs() < 1e-6 * e.perimeter.max(1.0), "{name}");
            assert!((i.centroid.0 - 0.5 - e.centroid.1).abs() < 1e-6, "{name}");
            assert!((i.centroid.1 - 0.5 - e.centroid.0).abs() < 1e-6, "{name}");
            let probs = [e.prob, 1.0 - e.prob];
            assert!(i.class_probs.iter().zip(probs).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{name}");
        }
    }
}

#[test]
fn smaller_lesions_than_the_minimum_are_dropped() {
    let classes = [1, 1, 0, 1, 0, 0, 0, 0, 2, 2, 0, 2];
    let half = Mpp::new(0.5).unwrap();
    let lesions = find(LesionFinder::new(12, 2, half, 0.5), &classes, &[], 12);
    assert_eq!(lesions.iter().map(|l| l.instance.runs[0].x0).collect::<Vec<_>>(), [0, 8]);
    assert!(lesions.iter().all(|l| l.instance.features.area_um2 == 0.5));
    assert_eq!(lesions[1].instance.class_probs, [0.0, 1.0]);
}

#[test]
fn lesions_come_when_they_end_and_then_by_first_pixel() {
    let rows = [[1, 0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0, 2], [1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0, 0]];
    let lesions = all(&rows.concat(), 7);
    let first: Vec<_> = lesions.iter().map(|l| (l.instance.runs[0].y, l.instance.runs[0].x0)).collect();
    assert_eq!(first, [(0, 2), (0, 4), (1, 6), (0, 0), (3, 3)]);
}

#[test]
fn touching_by_a_corner_is_not_connected() {
    assert_eq!(all(&[1, 0, 0, 1], 2).len(), 2);
}

#[test]
fn rows_left_out_count_as_not_computed() {
    let mut finder = LesionFinder::new(3, 1, px(), 0.0);
    let mut lesions = Vec::new();
    for y in [0, 1, 2, 4, 5, 6] {
        let row = if y % 4 == 0 { [0; 3] } else { [0, 1, 0] };
        finder.push_row(y, &row, &[], &mut |l| lesions.push(l));
        assert_eq!(lesions.len(), usize::from(y > 3), "row {y}");
    }
    finder.push_row(7, &[0; 3], &[], &mut |l| lesions.push(l));
    finder.finish(&mut |_| panic!("nothing is left"));
    assert_eq!(lesions.iter().map(|l| l.instance.truncated).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_lesion_with_too_many_runs_is_simplified_and_its_sums_stay_exact() {
    // A comb: a spine and many teeth, with holes drilled through.
    let (w, h) = (400, 300);
    let classes: Vec<u8> = (0..h)
        .flat_map(|y| (0..w).map(move |x| u8::from(x > 3 && y > 2 && (y % 7 == 3 || (x * 5 + y * 3) % 11 < 7))))
        .collect();
    let prob = probs(h, w);
    let finder = || LesionFinder::new(w as u32, 1, px(), 1000.0);
    let exact = find(finder(), &classes, &[&prob], w);
    let coarse = find(finder().with_max_runs(2000), &classes, &[&prob], w);
    assert_eq!((exact.len(), coarse.len(), exact[0].cell_px), (1, 1, 1));
    let (e, c) = (&exact[0].instance, &coarse[0].instance);
    assert!(coarse[0].cell_px > 1 && e.runs.len() > 10_000 && c.runs.is_empty());
    assert_eq!((e.class, &e.class_probs, e.centroid, e.truncated), (c.class, &c.class_probs, c.centroid, c.truncated));
    assert_eq!(e.features.area_um2, c.features.area_um2);
    assert_eq!(e.features.extent, c.features.extent);
    assert_eq!(e.features.equivalent_diameter_um, c.features.equivalent_diameter_um);
    assert!(
        (e.features.feret_diameter_max_um - c.features.feret_diameter_max_um).abs()
            < 4.0 * f64::from(coarse[0].cell_px)
    );
    let bounds = |rings: &[Vec<[f64; 2]>]| {
        let all = || rings.iter().flatten();
        let fold = |axis: usize| all().fold((f64::MAX, 0_f64), |b, p| (b.0.min(p[axis]), b.1.max(p[axis])));
        (fold(0), fold(1))
    };
    assert_eq!(bounds(&e.rings), bounds(&c.rings));
}

/// Class maps with 0, 1, 2 and 255, from specks to large areas.
fn maps() -> impl Strategy<Value = (Vec<u8>, usize)> {
    (1_usize..90, 1_usize..24, 1_usize..9).prop_flat_map(|(w, h, repeat)| {
        let values = prop::collection::vec(prop::sample::select(vec![0_u8, 0, 0, 1, 1, 1, 1, 2, 2, 255]), w * h);
        // A row repeats the value before it, and the one above, now and then.
        (values, prop::collection::vec(0..repeat, w * h)).prop_map(move |(mut map, keep)| {
            for at in 1..map.len() {
                if keep[at] > 1 {
                    map[at] = if keep[at] % 2 == 0 || at < w { map[at - 1] } else { map[at - w] };
                }
            }
            (map, w)
        })
    })
}

/// Components by flood fill: pixels sorted by row and column, class, truncated.
fn flood(map: &[u8], w: usize) -> Vec<(Vec<usize>, u8, bool)> {
    let h = map.len() / w;
    let mut seen = vec![false; map.len()];
    let mut found = Vec::new();
    for start in 0..map.len() {
        if seen[start] || map[start] == 0 || map[start] == 255 {
            continue;
        }
        let (mut stack, mut pixels, mut truncated) = (vec![start], Vec::new(), false);
        seen[start] = true;
        while let Some(at) = stack.pop() {
            pixels.push(at);
            let (x, y) = (at % w, at / w);
            for (dx, dy) in [(-1_isize, 0_isize), (1, 0), (0, -1), (0, 1)] {
                let (nx, ny) = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
                if nx >= w || ny >= h {
                    truncated = true;
                    continue;
                }
                let next = ny * w + nx;
                truncated |= map[next] == 255;
                if map[next] == map[start] && !seen[next] {
                    seen[next] = true;
                    stack.push(next);
                }
            }
        }
        pixels.sort_unstable();
        found.push((pixels, map[start], truncated));
    }
    found
}

fn pixels(runs: &[Run], w: usize) -> Vec<usize> {
    runs.iter().flat_map(|r| (r.x0..r.x1).map(move |x| r.y as usize * w + x as usize)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_map_gives_the_components_of_a_flood_fill((map, w) in maps()) {
        let lesions = all(&map, w);
        let mut found: Vec<_> =
            lesions.iter().map(|l| (pixels(&l.instance.runs, w), l.instance.class, l.instance.truncated)).collect();
        found.sort();
        let mut expected = flood(&map, w);
        expected.sort();
        prop_assert_eq!(found, expected);
        for lesion in lesions {
            let i = lesion.instance;
            prop_assert!(i.runs.is_sorted());
            prop_assert_eq!(i.centroid, centroid(&i.runs));
            prop_assert_eq!(i.features, measure(&i.runs, px(), None));
            prop_assert_eq!(i.rings, rings(&i.runs));
        }
    }

    #[test]
    fn a_limit_on_runs_changes_no_count_and_no_sum((map, w) in maps(), max_runs in 1_usize..60) {
        let exact = all(&map, w);
        let limited = find(LesionFinder::new(w as u32, 2, px(), 0.0).with_max_runs(max_runs), &map, &[], w);
        prop_assert_eq!(exact.len(), limited.len());
        for (e, l) in exact.iter().zip(&limited) {
            prop_assert_eq!(e.instance.centroid, l.instance.centroid);
            prop_assert_eq!(e.instance.features.area_um2, l.instance.features.area_um2);
            prop_assert_eq!((e.instance.class, e.instance.truncated), (l.instance.class, l.instance.truncated));
            let exteriors = l.instance.rings.iter()
                .filter(|r| r.windows(2).map(|p| p[0][0] * p[1][1] - p[1][0] * p[0][1]).sum::<f64>() > 0.0).count();
            prop_assert_eq!(exteriors, 1);
            if l.cell_px == 1 {
                prop_assert_eq!(e, l);
            }
        }
    }
}
