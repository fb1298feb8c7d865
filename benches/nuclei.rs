//! Nuclei per second of the extraction, pixels per second of the embedded models; one core.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wsi_run::{
    config::settings::{StainChannel, StainThreshold},
    geometry::{Rect, Size, TargetGrid},
    instances::{NP_HV_DEFAULTS, WATERSHED_DEFAULTS, extract_np_hv, extract_nuclei},
    model::{ClassInfo, HEMATOXYLIN_DEFAULTS, Head, HematoxylinModel, Model, StainThresholdModel},
    stitch::{Plane, Region},
    units::{Mpp, MppXy},
};

/// A section at 0.5 µm/px, 498 × 498.
fn section() -> (usize, Vec<u8>) {
    let jpeg = include_bytes!("../fixtures/nuclei/os-1-detail_0.5mpp.jpg");
    let image = turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB).expect("the fixture is a JPEG");
    let side = image.width.min(image.height);
    let rows = image.pixels.chunks_exact(image.width * 3).take(side);
    (side, rows.flat_map(|row| &row[..side * 3]).copied().collect())
}

/// The section repeated to `side` × `side`.
fn mosaic(side: usize) -> Vec<u8> {
    let (period, rgb) = section();
    let mut out = Vec::with_capacity(side * side * 3);
    for y in 0..side {
        for x in 0..side {
            out.extend_from_slice(&rgb[((y % period) * period + x % period) * 3..][..3]);
        }
    }
    out
}

fn extraction(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu/extract_nuclei");
    group.sample_size(20);
    let model = HematoxylinModel::new(&HEMATOXYLIN_DEFAULTS, None).expect("the defaults fit");
    let mpp = Mpp::new(0.5).expect("0.5 is positive");
    for side in [512u32, 1024, 2048, 4096] {
        let tile_px = side + 2 * model.spec().margin_px;
        let tile = mosaic(tile_px as usize);
        let map = model.forward(&[&tile], tile_px).expect("the tile fits").remove(0).remove(0);
        let rect = Rect::new(0, 0, side, side);
        let region = Region {
            core: rect,
            rect,
            computed: vec![1; (side * side) as usize],
            planes: vec![Plane { head: Head::NuclearPixel, channels: 1, data: map.data, pixels: None }],
            rgb: Vec::new(),
        };
        let grid = TargetGrid::new(Size::new(side, side), MppXy::square(mpp), mpp);
        let nuclei = extract_nuclei(&region, &grid, &WATERSHED_DEFAULTS, model.spec()).len() as u64;
        group.throughput(Throughput::Elements(nuclei));
        group.bench_function(BenchmarkId::from_parameter(side), |b| {
            b.iter(|| extract_nuclei(black_box(&region), &grid, &WATERSHED_DEFAULTS, model.spec()));
        });
    }
    group.finish();
}

/// Maps of HoVer-Net's shape: an ellipse in each square of 38.8 px, 10,600 on 4000 × 4000, some of them touching.
fn hover_maps(side: u32) -> Vec<Plane> {
    let n = (side * side) as usize;
    let (mut nuclear, mut hv, mut types) = (vec![0i16; n], vec![0i16; 2 * n], vec![0i16; 7 * n]);
    let across = (f64::from(side) / 38.8) as u32;
    let hash = |i: u32, k: u32| f64::from((i * 7 + k).wrapping_mul(2_654_435_769) >> 16) / 65_536.0;
    for i in 0..across * across {
        let (cx, cy) = (f64::from(i % across) * 38.8 + 19.4, f64::from(i / across) * 38.8 + 19.4);
        let (cx, cy) = (cx + 12.0 * hash(i, 0) - 6.0, cy + 12.0 * hash(i, 1) - 6.0);
        let (rx, ry) = (8.0 + 5.0 * hash(i, 2), 8.0 + 5.0 * hash(i, 3));
        for y in (cy - ry) as u32..=((cy + ry) as u32).min(side - 1) {
            for x in (cx - rx) as u32..=((cx + rx) as u32).min(side - 1) {
                let (u, v) = ((f64::from(x) - cx) / rx, (f64::from(y) - cy) / ry);
                let at = (y * side + x) as usize;
                if u * u + v * v <= 1.0 && nuclear[at] == 0 {
                    nuclear[at] = 16_384;
                    (hv[at], hv[n + at]) = ((u * 16_384.0) as i16, (v * 16_384.0) as i16);
                    types[(1 + i as usize % 6) * n + at] = 16_384;
                }
            }
        }
    }
    vec![
        Plane { head: Head::TypeProbability, channels: 7, data: types, pixels: None },
        Plane { head: Head::NuclearPixel, channels: 1, data: nuclear, pixels: None },
        Plane { head: Head::HorizontalVertical, channels: 2, data: hv, pixels: None },
    ]
}

fn np_hv(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu/extract_np_hv");
    group.sample_size(20);
    let mut spec = HematoxylinModel::new(&HEMATOXYLIN_DEFAULTS, None).expect("the defaults fit").spec().clone();
    spec.classes = (0..6).map(|i| ClassInfo { name: format!("type {i}"), color: [0; 3] }).collect();
    let mpp = Mpp::new(0.25).expect("0.25 is positive");
    for side in [512u32, 1024, 2048, 4096] {
        let rect = Rect::new(0, 0, side, side);
        let computed = vec![1; (side * side) as usize];
        let region = Region { core: rect, rect, computed, planes: hover_maps(side), rgb: Vec::new() };
        let grid = TargetGrid::new(Size::new(side, side), MppXy::square(mpp), mpp);
        let nuclei = extract_np_hv(&region, &grid, &NP_HV_DEFAULTS, &spec).len() as u64;
        group.throughput(Throughput::Elements(nuclei));
        group.bench_function(BenchmarkId::from_parameter(side), |b| {
            b.iter(|| extract_np_hv(black_box(&region), &grid, &NP_HV_DEFAULTS, &spec));
        });
    }
    group.finish();
}

fn models(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu/model");
    group.sample_size(20);
    let rule = StainThreshold {
        stain: StainChannel::Hematoxylin,
        threshold_od: 0.2,
        class: "stained".into(),
        color: [0, 0, 255],
    };
    let models: [&dyn Model; 2] = [
        &HematoxylinModel::new(&HEMATOXYLIN_DEFAULTS, None).expect("the defaults fit"),
        &StainThresholdModel::new(&rule, None),
    ];
    for model in models {
        for tile_px in [512u32, 1024] {
            let tile = mosaic(tile_px as usize);
            group.throughput(Throughput::Elements(u64::from(tile_px) * u64::from(tile_px)));
            group.bench_function(BenchmarkId::new(model.spec().name, tile_px), |b| {
                b.iter(|| model.forward(&[black_box(&tile)], tile_px).expect("the tile fits"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, extraction, np_hv, models);
criterion_main!(benches);
