//! Shape, colour and outline of instances against scikit-image, and the laws they keep.

use proptest::prelude::*;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::f64::consts::PI;
use wsi_run::{
    geometry::{Rect, Target},
    instances::{Features, RgbWindow, Run, centroid, measure, rings},
    units::Mpp,
};

#[derive(Deserialize)]
struct Shape {
    name: String,
    runs: Vec<u32>,
    values: BTreeMap<String, f64>,
    holes: usize,
    pieces: usize,
    /// Hematoxylin, eosin, red, green, blue.
    mean: [f64; 5],
    std: [f64; 2],
}

impl Shape {
    fn runs(&self) -> Vec<Run> {
        self.runs.chunks(3).map(|r| Run { y: r[0], x0: r[1], x1: r[2] }).collect()
    }
}

fn shapes() -> Vec<Shape> {
    serde_json::from_str(include_str!("../fixtures/instances/shapes.json")).unwrap()
}

/// One µm per pixel: lengths in px and in µm are the same number.
fn px() -> Mpp {
    Mpp::new(1.0).unwrap()
}

/// The colours of `make.py` over `h` × `w` pixels.
fn rgb(h: u32, w: u32) -> Vec<u8> {
    let at = |y: u32, x: u32, c: u32| ((y * 37 + x * 101 + c * 59 + x * y * (c + 3)) % 256) as u8;
    (0..h).flat_map(|y| (0..w).flat_map(move |x| (0..3).map(move |c| at(y, x, c)))).collect()
}

fn size(runs: &[Run]) -> (u32, u32) {
    (runs.last().unwrap().y + 1, runs.iter().map(|r| r.x1).max().unwrap())
}

fn close(found: f64, expected: f64, scale: f64) -> bool {
    (found - expected).abs() <= 1e-6 * expected.abs().max(scale)
}

#[test]
fn shapes_measure_as_in_scikit_image() {
    let shapes = shapes();
    assert!(shapes.len() >= 300, "{} shapes", shapes.len());
    for shape in &shapes {
        let f = measure(&shape.runs(), px(), None);
        let v = |name: &str| shape.values[name];
        let major = v("axis_major_length").max(1.0);
        // scikit-image's eigenvalues carry rounding noise of 1e-15 of the large one; so do the small one's roots.
        for (name, found, expected, scale) in [
            ("area", f.area_um2, v("area"), 0.0),
            ("perimeter", f.perimeter_um, v("perimeter"), 0.0),
            ("axis_major_length", f.axis_major_length_um, v("axis_major_length"), 0.0),
            ("axis_minor_length", f.axis_minor_length_um, v("axis_minor_length"), major),
            ("eccentricity", f.eccentricity, v("eccentricity"), 1.0),
            ("solidity", f.solidity, v("solidity"), 0.0),
            ("area_convex", f.area_um2 / f.solidity, v("area_convex"), 0.0),
            ("extent", f.extent, v("extent"), 0.0),
            ("equivalent_diameter_area", f.equivalent_diameter_um, v("equivalent_diameter_area"), 0.0),
            ("feret_diameter_max", f.feret_diameter_max_um, v("feret_diameter_max"), 0.0),
        ] {
            assert!(close(found, expected, scale), "{}: {name} {found}, scikit-image {expected}", shape.name);
        }
        // Without a longer axis there is no direction; scikit-image returns rounding noise.
        if v("eccentricity") > 1e-6 {
            let turn = (f.orientation - v("orientation")).abs();
            assert!(turn.min((PI - turn).abs()) < 1e-6, "{}: orientation {}", shape.name, f.orientation);
        }
        let p = v("perimeter");
        let circularity = if p == 0.0 { 0.0 } else { 4.0 * PI * v("area") / (p * p) };
        assert!(close(f.circularity, circularity, 0.0), "{}: circularity {}", shape.name, f.circularity);
    }
}

#[test]
fn colours_measure_as_in_numpy() {
    for shape in shapes() {
        let runs = shape.runs();
        let (h, w) = size(&runs);
        let pixels = rgb(h, w);
        let f = measure(&runs, px(), Some(RgbWindow { rgb: &pixels, rect: Rect::new(0, 0, w, h), factor: 1 }));
        let mean = [f.hematoxylin_od_mean, f.eosin_od_mean, f.red_mean, f.green_mean, f.blue_mean];
        for (found, expected) in
            mean.iter().zip(shape.mean).chain([f.hematoxylin_od_std, f.eosin_od_std].iter().zip(shape.std))
        {
            assert!(close(*found, expected, 0.1), "{}: {found}, numpy {expected}", shape.name);
        }
    }
}

#[test]
fn without_pixels_there_is_no_colour() {
    let f = measure(&[Run { y: 3, x0: 2, x1: 9 }], px(), None);
    assert_eq!((f.red_mean, f.hematoxylin_od_mean, f.eosin_od_std), (0.0, 0.0, 0.0));
}

#[test]
fn one_pixel_is_defined_throughout() {
    let f = measure(&[Run { y: 9, x0: 4, x1: 5 }], Mpp::new(0.5).unwrap(), None);
    assert_eq!((f.area_um2, f.perimeter_um, f.circularity), (0.25, 0.0, 0.0));
    assert_eq!((f.axis_major_length_um, f.axis_minor_length_um, f.eccentricity), (0.0, 0.0, 0.0));
    assert_eq!((f.solidity, f.extent, f.feret_diameter_max_um), (1.0, 1.0, 0.5));
    assert_eq!(centroid(&[Run { y: 9, x0: 4, x1: 5 }]), (4.5, 9.5));
}

/// Shoelace: positive for exteriors.
fn area(ring: &[[f64; 2]]) -> f64 {
    ring.windows(2).map(|p| p[0][0] * p[1][1] - p[1][0] * p[0][1]).sum::<f64>() / 2.0
}

/// The pixels between the rings, by crossing number.
fn pixels(rings: &[Vec<[f64; 2]>], h: u32, w: u32) -> Vec<bool> {
    let inside = |x: f64, y: f64| {
        let crosses = |p: &[[f64; 2]]| p[0][0] > x && (p[0][1] > y) != (p[1][1] > y);
        rings.iter().flat_map(|r| r.windows(2)).filter(|p| crosses(p)).count() % 2 == 1
    };
    (0..h)
        .flat_map(|y| (0..w).map(move |x| (f64::from(x) + 0.5, f64::from(y) + 0.5)))
        .map(|(x, y)| inside(x, y))
        .collect()
}

/// A closed ring of alternating horizontal and vertical edges that visits no grid point twice.
fn assert_simple(ring: &[[f64; 2]], name: &str) {
    assert_eq!(ring.first(), ring.last(), "{name}: closed");
    assert!(ring.len() >= 5, "{name}: {} points", ring.len());
    let mut seen = HashSet::new();
    let mut was_horizontal = ring[ring.len() - 2][1] == ring[0][1];
    for edge in ring.windows(2) {
        let (dx, dy) = (edge[1][0] - edge[0][0], edge[1][1] - edge[0][1]);
        let horizontal = dy == 0.0;
        assert!((dx == 0.0) != horizontal, "{name}: along the grid");
        assert_ne!(horizontal, was_horizontal, "{name}: no collinear point");
        was_horizontal = horizontal;
        for step in 0..(dx.abs() + dy.abs()) as i64 {
            let point = (
                edge[0][0] as i64 + step * dx.signum() as i64 * i64::from(dx != 0.0),
                edge[0][1] as i64 + step * dy.signum() as i64 * i64::from(dy != 0.0),
            );
            assert!(seen.insert(point), "{name}: visits {point:?} twice");
        }
    }
}

fn assert_outlines(runs: &[Run], exteriors: usize, holes: Option<usize>, name: &str) {
    let rings = rings(runs);
    let (h, w) = size(runs);
    for ring in &rings {
        assert_simple(ring, name);
    }
    let px: u32 = runs.iter().map(|r| r.x1 - r.x0).sum();
    assert_eq!(rings.iter().map(|r| area(r)).sum::<f64>(), f64::from(px), "{name}: area");
    assert!(area(&rings[0]) > 0.0, "{name}: an exterior comes first");
    assert_eq!(rings.iter().filter(|r| area(r) > 0.0).count(), exteriors, "{name}: exteriors");
    if let Some(holes) = holes {
        assert_eq!(rings.len() - exteriors, holes, "{name}: holes");
    }
    let mut mask = vec![false; (h * w) as usize];
    for run in runs {
        mask[(run.y * w + run.x0) as usize..(run.y * w + run.x1) as usize].fill(true);
    }
    assert!(pixels(&rings, h, w) == mask, "{name}: the rings enclose the pixels");
}

#[test]
fn outlines_are_simple_rings_around_exactly_the_pixels() {
    for shape in shapes() {
        let holes = (shape.pieces == 1).then_some(shape.holes);
        assert_outlines(&shape.runs(), shape.pieces, holes, &shape.name);
    }
}

#[test]
fn a_hole_that_touches_the_outside_is_still_a_hole() {
    let runs = [
        Run { y: 0, x0: 1, x1: 3 },
        Run { y: 1, x0: 0, x1: 1 },
        Run { y: 1, x0: 2, x1: 3 },
        Run { y: 2, x0: 0, x1: 3 },
    ];
    assert_eq!(
        rings(&runs),
        [
            vec![[1.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]],
            vec![[1.0, 1.0], [1.0, 2.0], [2.0, 2.0], [2.0, 1.0], [1.0, 1.0]],
        ]
    );
}

#[test]
fn runs_that_touch_in_a_row_are_one() {
    let split = [
        Run { y: 0, x0: 0, x1: 2 },
        Run { y: 0, x0: 2, x1: 5 },
        Run { y: 1, x0: 1, x1: 3 },
        Run { y: 1, x0: 3, x1: 4 },
    ];
    let whole = [Run { y: 0, x0: 0, x1: 5 }, Run { y: 1, x0: 1, x1: 4 }];
    assert_eq!(rings(&split), rings(&whole));
    assert_eq!(measure(&split, px(), None), measure(&whole, px(), None));
}

#[test]
fn nothing_has_no_outline() {
    assert!(rings(&[]).is_empty());
}

fn runs_of(mask: &[bool], w: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    for (y, row) in mask.chunks(w).enumerate() {
        let mut x = 0;
        while x < w {
            let start = x;
            while x < w && row[x] {
                x += 1;
            }
            if x > start {
                runs.push(Run { y: y as u32, x0: start as u32, x1: x as u32 });
            }
            x += 1;
        }
    }
    runs
}

/// Any set of pixels, connected or not, in up to 12 × 80.
fn masks() -> impl Strategy<Value = (Vec<bool>, usize)> {
    (1_usize..80, 1_usize..12, 0.05_f64..0.98).prop_flat_map(|(w, h, share)| {
        (prop::collection::vec(prop::bool::weighted(share), w * h), Just(w))
            .prop_filter("a shape has a pixel", |(mask, _)| mask.contains(&true))
    })
}

fn close_features(a: &Features, b: &Features) -> bool {
    let list = |f: &Features| {
        [
            f.area_um2,
            f.perimeter_um,
            f.axis_major_length_um,
            f.axis_minor_length_um,
            f.eccentricity,
            f.solidity,
            f.extent,
            f.circularity,
            f.equivalent_diameter_um,
            f.feret_diameter_max_um,
        ]
    };
    list(a).iter().zip(list(b)).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1e-3))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn outlines_of_any_pixels_enclose_them((mask, w) in masks()) {
        let runs = runs_of(&mask, w);
        let exteriors = rings(&runs).iter().filter(|r| area(r) > 0.0).count();
        assert_outlines(&runs, exteriors, None, "random pixels");
    }

    #[test]
    fn features_do_not_depend_on_the_place((mask, w) in masks(), dx in 0_u32..200_000, dy in 0_u32..200_000) {
        let runs = runs_of(&mask, w);
        let moved: Vec<Run> = runs.iter().map(|r| Run { y: r.y + dy, x0: r.x0 + dx, x1: r.x1 + dx }).collect();
        let (h, w) = size(&runs);
        let pixels = rgb(h, w);
        let here = RgbWindow { rgb: &pixels, rect: Rect::new(0, 0, w, h), factor: 1 };
        let there = RgbWindow { rgb: &pixels, rect: Rect::<Target>::new(i64::from(dx), i64::from(dy), w, h), factor: 1 };
        prop_assert_eq!(measure(&runs, px(), Some(here)), measure(&moved, px(), Some(there)));
        let (a, b) = (centroid(&runs), centroid(&moved));
        prop_assert!((a.0 + f64::from(dx) - b.0).abs() < 1e-9 && (a.1 + f64::from(dy) - b.1).abs() < 1e-9);
    }

    #[test]
    fn a_quarter_turn_turns_the_orientation_alone((mask, w) in masks()) {
        let h = mask.len() / w;
        let turned: Vec<bool> = (0..w).flat_map(|x| (0..h).rev().map(move |y| (x, y))).map(|(x, y)| mask[y * w + x]).collect();
        let (a, b) = (measure(&runs_of(&mask, w), px(), None), measure(&runs_of(&turned, h), px(), None));
        prop_assert!(close_features(&a, &b), "{a:?}\n{b:?}");
        if a.eccentricity > 1e-6 {
            let turn = (a.orientation - b.orientation).abs();
            prop_assert!((turn - PI / 2.0).abs() < 1e-9, "{} {}", a.orientation, b.orientation);
        }
    }

    #[test]
    fn lengths_scale_with_mpp_and_areas_with_its_square((mask, w) in masks(), um in 0.05_f64..5.0) {
        let runs = runs_of(&mask, w);
        let (a, b) = (measure(&runs, px(), None), measure(&runs, Mpp::new(um).unwrap(), None));
        let scaled = Features {
            area_um2: a.area_um2 * um * um,
            perimeter_um: a.perimeter_um * um,
            axis_major_length_um: a.axis_major_length_um * um,
            axis_minor_length_um: a.axis_minor_length_um * um,
            equivalent_diameter_um: a.equivalent_diameter_um * um,
            feret_diameter_max_um: a.feret_diameter_max_um * um,
            ..a
        };
        prop_assert!(close_features(&b, &scaled), "{b:?}\n{scaled:?}");
        prop_assert_eq!(b.orientation, a.orientation);
    }

    #[test]
    fn shares_lie_between_0_and_1((mask, w) in masks()) {
        let f = measure(&runs_of(&mask, w), px(), None);
        for share in [f.eccentricity, f.solidity, f.extent] {
            prop_assert!((0.0..=1.0).contains(&share), "{f:?}");
        }
        prop_assert!(f.axis_minor_length_um <= f.axis_major_length_um + 1e-9);
        prop_assert!(f.orientation > -PI / 2.0 && f.orientation <= PI / 2.0);
    }
}
