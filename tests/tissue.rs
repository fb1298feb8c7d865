//! Finding tissue on pictures of real slides (`fixtures/tissue/make.py`), and the laws of masks.

use crate::test_data::test_data;
use proptest::prelude::*;
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use wsi_run::{
    config::settings::{Tissue, TissueChannel, TissueMethod},
    geometry::{Level0, Rect, Size},
    pixels::{RgbImage, stain::reference},
    tissue::{
        ColorKind, FoundTissue, TissueMask, check_color, close, drop_small, fill_geojson, fill_holes, find_tissue,
        open, otsu_level, outlines,
    },
    units::{Mpp, MppXy},
};

const CHANNELS: [TissueChannel; 2] = [TissueChannel::Saturation, TissueChannel::OpticalDensity];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tissue").join(name)
}

fn picture(name: &str) -> RgbImage {
    reference::read(&fixture(&format!("{name}.jpg"))).unwrap()
}

fn settings(method: TissueMethod) -> Tissue {
    Tissue {
        method,
        mpp: Mpp::new(8.0).unwrap(),
        min_area_um2: 20_000.0,
        max_hole_um2: 5_000.0,
        exclude_pen: true,
        exclude_blur: false,
    }
}

fn otsu(channel: TissueChannel) -> Tissue {
    settings(TissueMethod::Otsu { channel })
}

/// `picture` as a slide of 16 level-0 px per px, at `um_per_px` of the picture.
fn find(picture: &RgbImage, um_per_px: f64, settings: &Tissue) -> FoundTissue {
    let mpp = MppXy::square(Mpp::new(um_per_px / 16.0).unwrap());
    find_tissue(picture, Size::new(picture.w * 16, picture.h * 16), mpp, "slide", settings).unwrap()
}

fn share(mask: &TissueMask) -> f64 {
    mask.count() as f64 / mask.bits.len() as f64
}

#[test]
fn otsu_levels_equal_those_of_scikit_image() {
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(fixture("otsu.json")).unwrap()).unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let histogram: Vec<u64> = serde_json::from_value(case["histogram"].clone()).unwrap();
        assert_eq!(otsu_level(&histogram) as u64, case["level"].as_u64().unwrap(), "{histogram:?}");
    }
    assert_eq!((otsu_level(&[]), otsu_level(&[0, 0, 5, 0]), otsu_level(&[0, 0])), (0, 2, 0));
}

#[test]
fn tissue_on_glass_is_found_by_either_channel() {
    // Shares measured by eye on the pictures: a tissue strip; four sections of lymph node.
    for (name, um_per_px, low, high) in [("cmu_1", 8.0, 0.33, 0.39), ("camelyon", 116.0, 0.17, 0.24)] {
        let picture = picture(name);
        for channel in CHANNELS {
            let found = find(&picture, um_per_px, &otsu(channel));
            let share = share(&found.mask);
            assert!((low..high).contains(&share), "{name} {channel:?}: {share}");
            assert!(found.pen_share < 0.01 && found.blur_share < 0.02, "{name}: {found:.200?}");
        }
    }
}

#[test]
fn a_slide_without_tissue_comes_out_empty() {
    for name in ["no-tissue", "no-tissue2", "no-tissue-line", "almost-white-1", "no-tissue-green-pen"] {
        for channel in CHANNELS {
            let found = find(&picture(name), 8.0, &otsu(channel));
            assert_eq!(found.mask.count(), 0, "{name} {channel:?}");
        }
    }
    for value in [0, 128, 255] {
        let grey = RgbImage { w: 64, h: 64, data: vec![value; 64 * 64 * 3] };
        assert_eq!(find(&grey, 8.0, &otsu(TissueChannel::Saturation)).mask.count(), 0, "{value}");
    }
}

#[test]
fn a_crop_inside_tissue_is_all_tissue() {
    for channel in CHANNELS {
        assert_eq!(share(&find(&picture("os_1"), 8.0, &otsu(channel)).mask), 1.0, "{channel:?}");
    }
}

#[test]
fn felt_pen_of_each_colour_is_told_from_tissue() {
    let cases = [
        ("no-tissue-green-pen", 8.0, 0.95, 1.0),
        ("no-tissue-red-pen", 8.0, 0.7, 1.0),
        ("tcga-green-pen", 8.0, 0.10, 0.30),
        ("tcga-red-pen", 8.0, 0.2, 0.4),
        ("wsi-blue-pen", 120.0, 0.05, 0.2),
        // Red, green and black on one slide.
        ("black-pen", 150.0, 0.3, 0.6),
    ];
    for (name, um_per_px, low, high) in cases {
        let mut options = otsu(TissueChannel::Saturation);
        let excluded = find(&picture(name), um_per_px, &options);
        assert!((low..=high).contains(&excluded.pen_share), "{name}: {}", excluded.pen_share);
        options.exclude_pen = false;
        let kept = find(&picture(name), um_per_px, &options);
        assert!(kept.mask.count() > excluded.mask.count(), "{name}");
        assert!(kept.notes.iter().any(|note| note.contains("`tissue.exclude_pen: true`")), "{name}: {:?}", kept.notes);
    }
    for (name, um_per_px) in [("cmu_1", 8.0), ("camelyon", 116.0), ("os_1", 8.0), ("os_2", 8.0), ("dapi", 32.0)] {
        let found = find(&picture(name), um_per_px, &otsu(TissueChannel::Saturation));
        assert!(found.pen_share < 0.002, "{name} has no pen: {}", found.pen_share);
    }
}

#[test]
fn the_blurred_half_of_a_slide_is_out_of_focus() {
    let sharp = picture("cmu_1");
    let mut half = sharp.clone();
    // Box means of 3×3, three times: σ = 1.4 px, 11 µm here; on the lower half only.
    for _pass in 0..3 {
        let source = half.clone();
        for y in half.h / 2..half.h {
            for x in 0..half.w {
                for c in 0..3 {
                    let near = |v: u32, d: i64, n: u32| (i64::from(v) + d).clamp(0, i64::from(n) - 1) as u32;
                    let sum: u32 = (-1..=1)
                        .flat_map(|dy| (-1..=1).map(move |dx| (dx, dy)))
                        .map(|(dx, dy)| u32::from(source.get(near(x, dx, source.w), near(y, dy, source.h))[c]))
                        .sum();
                    half.data[((y * half.w + x) * 3) as usize + c] = ((sum + 4) / 9) as u8;
                }
            }
        }
    }
    let mut options = otsu(TissueChannel::Saturation);
    options.exclude_blur = true;
    let found = find(&half, 8.0, &options);
    let (upper, lower) = found.mask.bits.split_at(found.mask.bits.len() / 2);
    let of = |bits: &[u8]| bits.iter().map(|&b| u64::from(b)).sum::<u64>();
    let all = find(&sharp, 8.0, &options).mask;
    let (sharp_upper, sharp_lower) = all.bits.split_at(all.bits.len() / 2);
    assert!(of(lower) * 8 < of(sharp_lower), "{} of {} px blurred tissue kept", of(lower), of(sharp_lower));
    assert!(of(upper) * 10 > of(sharp_upper) * 8, "{} of {} px sharp tissue kept", of(upper), of(sharp_upper));
}

#[test]
fn stains_are_told_apart() {
    let cases = [
        ("cmu_1", ColorKind::HAndE),
        ("camelyon", ColorKind::HAndE),
        ("os_1", ColorKind::HAndE),
        ("tcga-red-pen", ColorKind::HAndE),
        ("os_2", ColorKind::Ihc),
        ("dapi", ColorKind::Fluorescence),
        ("no-tissue", ColorKind::Unclear),
    ];
    for (name, kind) in cases {
        for channel in CHANNELS {
            let picture = picture(name);
            let verdict = check_color(&picture, &find(&picture, 8.0, &otsu(channel)).mask);
            assert_eq!(verdict.kind, kind, "{name}: {}", verdict.detail);
            let expected = matches!(kind, ColorKind::Ihc | ColorKind::Fluorescence);
            assert_eq!(verdict.warning.is_some(), expected, "{name}: {:?}", verdict.warning);
        }
    }
}

#[test]
fn ninety_patches_of_h_and_e_are_h_and_e() {
    let Some(dir) = test_data("nuclei/brca_m2c/images") else { return };
    let mut judged = 0;
    for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        let picture = reference::read(&path).unwrap();
        let mut options = otsu(TissueChannel::OpticalDensity);
        options.min_area_um2 = 0.0;
        let verdict = check_color(&picture, &find(&picture, 2.0, &options).mask);
        assert_eq!(verdict.kind, ColorKind::HAndE, "{}: {}", path.display(), verdict.detail);
        judged += 1;
    }
    assert!(judged > 0);
}

#[test]
fn areas_are_micrometres_of_the_slide() {
    // Two squares of 10 and 20 px at 8 µm/px: 6,400 and 25,600 µm². A hole of 4 px in the larger: 1,024 µm².
    let mut picture = RgbImage::white(64, 48);
    let mut square = |x0: u32, y0: u32, side: u32, rgb: [u8; 3]| {
        for (x, y) in (0..side * side).map(|i| (x0 + i % side, y0 + i / side)) {
            let at = ((y * 64 + x) * 3) as usize;
            picture.data[at..at + 3].copy_from_slice(&rgb);
        }
    };
    square(4, 4, 10, [180, 90, 150]);
    square(30, 10, 20, [180, 90, 150]);
    square(38, 18, 4, [255; 3]);
    let method = TissueMethod::Fixed { channel: TissueChannel::Saturation, threshold: 0.2 };
    for (min_area_um2, max_hole_um2, expected) in [
        (0.0, 0.0, 100 + 400 - 16),
        (6_399.0, 0.0, 100 + 400 - 16),
        (6_401.0, 0.0, 400 - 16),
        (30_000.0, 0.0, 0),
        (0.0, 1_023.0, 100 + 400 - 16),
        (0.0, 1_025.0, 100 + 400),
    ] {
        let options = Tissue { min_area_um2, max_hole_um2, ..settings(method.clone()) };
        assert_eq!(find(&picture, 8.0, &options).mask.count(), expected, "{min_area_um2} {max_hole_um2}");
        // The same slide with unequal mpp: 4 µm/px along x and 16 along y.
        let mpp = MppXy { x: Mpp::new(0.25).unwrap(), y: Mpp::new(1.0).unwrap() };
        let found = find_tissue(&picture, Size::new(64 * 16, 48 * 16), mpp, "slide", &options).unwrap();
        assert_eq!(found.mask.count(), expected);
    }
}

#[test]
fn masks_of_users_are_scaled_to_the_slide() {
    let dir = tempfile::tempdir().unwrap();
    let blank = RgbImage::white(50, 30);
    let options = settings(TissueMethod::MaskDir(dir.path().to_owned()));
    let level0 = Size::new(800, 480);
    let mpp = MppXy::square(Mpp::new(0.5).unwrap());
    let find = |stem: &str| find_tissue(&blank, level0, mpp, stem, &options);
    // The left 40 % at several sizes, depths and formats.
    let png = |name: &str, w: u32, h: u32, color: png::ColorType, depth: png::BitDepth, data: &[u8]| {
        let mut encoder = png::Encoder::new(std::fs::File::create(dir.path().join(name)).unwrap(), w, h);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    };
    let left = |w: u32, h: u32| (0..w * h).map(move |i| (i % w) * 5 < 2 * w);
    let grey: Vec<u8> = left(100, 60).map(u8::from).collect();
    png("fine.png", 100, 60, png::ColorType::Grayscale, png::BitDepth::Eight, &grey);
    let coarse: Vec<u8> = left(10, 6).map(|on| 255 * u8::from(on)).collect();
    png("coarse.png", 10, 6, png::ColorType::Grayscale, png::BitDepth::Eight, &coarse);
    let rgba: Vec<u8> = left(100, 60).flat_map(|on| [7, 0, 0, 255 * u8::from(on)]).collect();
    png("rgba.png", 100, 60, png::ColorType::Rgba, png::BitDepth::Eight, &rgba);
    // 40 of 100 px of each row: 5 of 12.5 bytes.
    let bits: Vec<u8> = (0..60).flat_map(|_| [[255_u8; 5].as_slice(), &[0; 8]].concat()).collect();
    png("bits.png", 100, 60, png::ColorType::Grayscale, png::BitDepth::One, &bits);
    let tiff = |name: &str| std::fs::File::create(dir.path().join(name)).unwrap();
    let deep: Vec<u16> = left(100, 60).map(|on| 256 * u16::from(on)).collect();
    tiff::encoder::TiffEncoder::new(tiff("deep.tif"))
        .unwrap()
        .write_image::<tiff::encoder::colortype::Gray16>(100, 60, &deep)
        .unwrap();
    for stem in ["fine", "coarse", "rgba", "bits", "deep"] {
        let mask = find(stem).unwrap().mask;
        assert_eq!(mask.covers(Rect::new(0, 0, 320, 480)), 1.0, "{stem}");
        assert_eq!(mask.covers(Rect::new(320, 0, 480, 480)), 0.0, "{stem}");
    }

    png("turned.png", 60, 100, png::ColorType::Grayscale, png::BitDepth::Eight, &grey);
    std::fs::write(dir.path().join("text.png"), "no picture").unwrap();
    std::fs::write(dir.path().join("text.tif"), "no picture").unwrap();
    let whole = std::fs::read(dir.path().join("rgba.png")).unwrap();
    std::fs::write(dir.path().join("half.png"), &whole[..whole.len() / 2]).unwrap();
    for (stem, says) in [
        ("turned", "[60, 100] px, expected the shape of the slide, [800, 480]"),
        ("missing", "no tissue mask for slide `missing`"),
        ("text", "cannot use tissue mask"),
        ("half", "cannot use tissue mask"),
    ] {
        let error = find(stem).unwrap_err();
        assert!(error.message.contains(says) && error.hint.is_some(), "{stem}: {error}");
    }
}

#[test]
fn outlines_of_users_are_filled_with_their_holes() {
    let dir = tempfile::tempdir().unwrap();
    let blank = RgbImage::white(80, 60);
    let options = settings(TissueMethod::GeojsonDir(dir.path().to_owned()));
    let mpp = MppXy::square(Mpp::new(0.5).unwrap());
    let find = |text: &str| {
        std::fs::write(dir.path().join("s.geojson"), text).unwrap();
        find_tissue(&blank, Size::new(800, 600), mpp, "s", &options)
    };
    let ring =
        |x0: u32, y0: u32, x1: u32, y1: u32| format!("[[{x0},{y0}],[{x1},{y0}],[{x1},{y1}],[{x0},{y1}],[{x0},{y0}]]");
    let with_hole = format!("[{},{}]", ring(100, 100, 500, 400), ring(200, 200, 300, 300));
    let polygon = format!(r#"{{"type":"Polygon","coordinates":{with_hole}}}"#);
    let feature = format!(r#"{{"type":"Feature","id":"x","geometry":{polygon},"properties":{{"a":[1,{{}}]}}}}"#);
    let multi = format!(r#"{{"type":"MultiPolygon","coordinates":[{with_hole},[{}]]}}"#, ring(600, 0, 610, 10));
    let point = r#"{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":null}"#;
    for (text, px) in [
        (polygon.clone(), 1100),
        (feature.clone(), 1100),
        (multi, 1101),
        (format!(r#"{{"type":"FeatureCollection","features":[{feature},{feature}]}}"#), 1100),
        (format!("\u{feff}[{feature},{point}]"), 1100),
        (format!(r#"{{"type":"GeometryCollection","geometries":[{polygon}]}}"#), 1100),
        (r#"{"type":"Feature","geometry":null}"#.to_owned(), 0),
        (r#"{"type":"FeatureCollection","features":[]}"#.to_owned(), 0),
        // Far outside, crossing itself, without area, without corners.
        (r#"{"type":"Polygon","coordinates":[[[-9e7,-9e7],[9e7,-9e7],[9e7,9e7],[-9e7,9e7]]]}"#.to_owned(), 4800),
        (r#"{"type":"Polygon","coordinates":[[[0,0],[100,100],[100,0],[0,100]]]}"#.to_owned(), 50),
        (r#"{"type":"Polygon","coordinates":[[[5,5],[50,5]],[]]}"#.to_owned(), 0),
        (r#"{"type":"Polygon","coordinates":[]}"#.to_owned(), 0),
    ] {
        let count = find(&text).unwrap().mask.count();
        assert!(count.abs_diff(px) <= px / 500 + if px == 50 { 10 } else { 0 }, "{count} px of {text}");
    }
    assert!(find(&format!("[{point}]")).unwrap().notes[0].contains("1 points or lines"));

    let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    for text in [
        "",
        "{",
        "3",
        "null",
        r#"{"type":"Polygon"}"#,
        r#"{"type":"Polygon","coordinates":3}"#,
        r#"{"type":"Polygon","coordinates":[[["a",1]]]}"#,
        r#"{"type":"Polygon","coordinates":[[[NaN,1]]]}"#,
        r#"{"type":"Polygon","coordinates":[[[1e999,1]]]}"#,
        r#"{"type":"Polygon","coordinates":[[[1e300,1]]]}"#,
        r#"{"type":"Sphere"}"#,
        &deep(50),
        &deep(100_000),
    ] {
        let error = find(text).unwrap_err();
        assert!(error.message.starts_with("cannot use tissue outline: "), "{text:.60}: {error}");
    }
    let gz = std::fs::File::create(dir.path().join("g.geojson.gz")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(gz, flate2::Compression::fast());
    gz.write_all(feature.as_bytes()).unwrap();
    gz.finish().unwrap();
    let found = find_tissue(&blank, Size::new(800, 600), mpp, "g", &options).unwrap();
    assert_eq!(found.mask.count(), 1100);
    let error = find_tissue(&blank, Size::new(800, 600), mpp, "missing", &options).unwrap_err();
    assert!(error.message.contains("no tissue outline for slide `missing`"), "{error}");
}

#[test]
fn outlines_as_other_programs_write_them_are_read() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tissue/outlines");
    let expected = [
        ("collection", 1952, true),
        ("list_of_features", 9, false),
        ("open_and_crossing", 800, false),
        ("qupath", 1054, false),
    ];
    for (name, cells, has_note) in expected {
        let text = std::fs::read(dir.join(format!("{name}.geojson"))).unwrap();
        let (found, note) = fill_geojson(&text, (64, 64), (16.0, 16.0)).unwrap();
        let count: usize = found.iter().map(|&c| usize::from(c)).sum();
        assert_eq!((count, note.is_some()), (cells, has_note), "{name}");
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), expected.len());
}

#[test]
fn everything_is_one_px_and_an_empty_picture_is_an_error() {
    let white = RgbImage::white(40, 30);
    let found = find(&white, 8.0, &settings(TissueMethod::Everything));
    assert_eq!(found.mask, TissueMask::everything(Size::new(640, 480)));
    let mpp = MppXy::square(Mpp::new(0.5).unwrap());
    let empty = RgbImage::white(0, 0);
    let options = otsu(TissueChannel::Saturation);
    assert!(find_tissue(&empty, Size::new(10, 10), mpp, "s", &options).is_err());
    // One px, and one row, are slides.
    for (w, h) in [(1, 1), (40, 1), (1, 40)] {
        assert_eq!(find(&RgbImage::white(w, h), 8.0, &options).mask.count(), 0);
    }
}

fn bitmap() -> impl Strategy<Value = (Vec<u8>, usize)> {
    (1_usize..14, 1_usize..14).prop_flat_map(|(w, h)| (prop::collection::vec(0_u8..2, w * h), Just(w)))
}

/// Twice the area inside `outline`, by the shoelace formula.
fn doubled_area(outline: &[[f64; 2]]) -> f64 {
    outline.iter().zip(outline.iter().cycle().skip(1)).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum()
}

/// Whether a ray from `(x, y)` to the left meets the ring an odd number of times.
fn is_inside(ring: &[(i32, i32)], x: f64, y: f64) -> bool {
    let edges = ring.iter().zip(ring.iter().cycle().skip(1));
    let met = edges.filter(|(a, b)| {
        let ((ax, ay), (bx, by)) = ((f64::from(a.0), f64::from(a.1)), (f64::from(b.0), f64::from(b.1)));
        (ay <= y) != (by <= y) && ax + (y - ay) / (by - ay) * (bx - ax) <= x
    });
    met.count() % 2 == 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_cell_is_tissue_where_its_centre_is_inside(
        rings in prop::collection::vec(prop::collection::vec((-30..90_i32, -30..90_i32), 0..9), 0..4),
        step in prop::sample::select(vec![(4.0, 4.0), (7.3, 3.1)]),
    ) {
        let list: Vec<Vec<[i32; 2]>> = rings.iter().map(|r| r.iter().map(|p| [p.0, p.1]).collect()).collect();
        let text = format!(r#"{{"type":"Polygon","coordinates":{list:?}}}"#);
        let (cells, _) = fill_geojson(text.as_bytes(), (16, 14), step).unwrap();
        for (i, &cell) in cells.iter().enumerate() {
            let (x, y) = (((i % 16) as f64 + 0.5) * step.0, ((i / 16) as f64 + 0.5) * step.1);
            // On an edge both are right, as rounding has it.
            let around = [-1e-6, 1e-6].map(|d| rings.iter().filter(|r| is_inside(r, x + d, y)).count() % 2 == 1);
            prop_assert!(around.contains(&(cell == 1)), "cell {} of {}", i, text);
        }
    }

    #[test]
    fn tidying_twice_is_tidying_once((bits, w) in bitmap(), area_px in 0.0..9.0_f64) {
        prop_assert_eq!(open(&open(&bits, w), w), open(&bits, w));
        prop_assert_eq!(close(&close(&bits, w), w), close(&bits, w));
        let both = |bits: &[u8]| open(&close(bits, w), w);
        prop_assert_eq!(both(&both(&bits)), both(&bits));
        for tidy in [drop_small, fill_holes] {
            let mut once = bits.clone();
            tidy(&mut once, w, area_px);
            let mut twice = once.clone();
            tidy(&mut twice, w, area_px);
            prop_assert_eq!(twice, once);
        }
    }

    #[test]
    fn opening_and_dropping_take_away_and_closing_and_filling_add((bits, w) in bitmap(), area_px in 0.0..9.0_f64) {
        let within = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a <= b);
        prop_assert!(within(&open(&bits, w), &bits) && within(&bits, &close(&bits, w)));
        let (mut dropped, mut filled) = (bits.clone(), bits.clone());
        drop_small(&mut dropped, w, area_px);
        fill_holes(&mut filled, w, area_px);
        prop_assert!(within(&dropped, &bits) && within(&bits, &filled));
    }

    #[test]
    fn outlines_enclose_exactly_the_tissue((bits, w) in bitmap()) {
        let h = (bits.len() / w) as u32;
        let mask = TissueMask { bits, w: w as u32, h, step_x: 3.0, step_y: 5.0 };
        let all = outlines(&mask);
        let area: f64 = all.iter().map(|o| doubled_area(o)).sum::<f64>() / 2.0;
        prop_assert_eq!(area, mask.count() as f64 * 15.0);
        prop_assert!(all.iter().all(|o| o.len() >= 4));
    }

    #[test]
    fn coverage_of_a_rectangle_is_that_of_its_parts(
        (bits, w) in bitmap(),
        (x, y) in (-50_i64..150, -50_i64..150),
        (rw, rh) in (2_u32..120, 1_u32..120),
        cut in 0.0..1.0_f64,
    ) {
        let h = (bits.len() / w) as u32;
        let mask = TissueMask { bits, w: w as u32, h, step_x: 7.3, step_y: 9.1 };
        let left = ((f64::from(rw) * cut) as u32).clamp(1, rw - 1);
        let covered = |rect: Rect<Level0>| mask.covers(rect) * rect.area() as f64;
        let whole = covered(Rect::new(x, y, rw, rh));
        let parts = covered(Rect::new(x, y, left, rh)) + covered(Rect::new(x + i64::from(left), y, rw - left, rh));
        prop_assert!((whole - parts).abs() < 1e-6, "{} {}", whole, parts);
        prop_assert!((0.0..=1.0).contains(&mask.covers(Rect::new(x, y, rw, rh))));
    }

    #[test]
    fn any_picture_has_a_mask_of_its_size_and_the_same_one_twice(
        (w, h) in (1_u32..24, 1_u32..24),
        seed in any::<u32>(),
        spread in 1_u32..256,
        um_per_px in 0.5..200.0_f64,
    ) {
        let noise = |i: u32| (seed.wrapping_add(i).wrapping_mul(2_654_435_761) >> 24) % spread;
        let picture = RgbImage { w, h, data: (0..w * h * 3).map(|i| (255 - noise(i)) as u8).collect() };
        for channel in CHANNELS {
            let mut options = otsu(channel);
            options.exclude_blur = true;
            let found = find(&picture, um_per_px, &options);
            prop_assert_eq!((found.mask.w, found.mask.h), (w, h));
            prop_assert!((0.0..=1.0).contains(&found.pen_share) && (0.0..=1.0).contains(&found.blur_share));
            prop_assert_eq!(&find(&picture, um_per_px, &options), &found);
            check_color(&picture, &found.mask);
        }
    }
}
