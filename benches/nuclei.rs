//! Nuclei per second of the extraction, pixels per second of the embedded models; one core.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wsi_run::{
    config::settings::{StainChannel, StainThreshold},
    geometry::{Rect, Size, TargetGrid},
    instances::{WATERSHED_DEFAULTS, extract_nuclei},
    model::{HEMATOXYLIN_DEFAULTS, Head, HematoxylinModel, Model, StainThresholdModel},
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
            planes: vec![Plane { head: Head::NuclearPixel, channels: 1, data: map.data }],
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

criterion_group!(benches, extraction, models);
criterion_main!(benches);
