//! Nuclei per second of the extraction, pixels per second of the embedded models; one core.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, io::Read};
use wsi_run::{
    config::settings::{self, StainChannel, StainThreshold},
    geometry::{Rect, Size, TargetGrid},
    instances::{STAR_DEFAULTS, WATERSHED_DEFAULTS, extract_nuclei, extract_stars},
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

/// Star-convex predictions of crowded nuclei, repeated to `side` × `side`: `fixtures/star`, laid out as its `make.py` says.
fn crowded(side: usize) -> Region {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("../fixtures/star/crowded.bin.gz")[..])
        .read_to_end(&mut bytes)
        .expect("the fixture is gzipped");
    let values: Vec<i16> = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let [w, h, rays, candidates] = std::array::from_fn(|i| values[i] as usize);
    let prob = &values[5..5 + w * h];
    let mut distances = vec![0; rays * w * h];
    let mut value = 0i16;
    for (k, differences) in values[5 + w * h..].chunks_exact(candidates).take(rays).enumerate() {
        for (at, difference) in (0..w * h).filter(|&i| prob[i] > 8192).zip(differences) {
            value = value.wrapping_add(*difference);
            distances[k * w * h + at] = value;
        }
    }
    let repeat =
        |tile: &[i16]| -> Vec<i16> { (0..side * side).map(|i| tile[i / side % h * w + i % side % w]).collect() };
    let rect = Rect::new(0, 0, side as u32, side as u32);
    Region {
        core: rect,
        rect,
        computed: vec![1; side * side],
        planes: vec![
            Plane { head: Head::NuclearPixel, channels: 1, data: repeat(prob) },
            Plane {
                head: Head::StarDistance,
                channels: rays as u32,
                data: distances.chunks_exact(w * h).flat_map(repeat).collect(),
            },
        ],
        rgb: Vec::new(),
    }
}

fn stars(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu/extract_stars");
    group.sample_size(20);
    let model = HematoxylinModel::new(&HEMATOXYLIN_DEFAULTS, None).expect("the defaults fit");
    let mpp = Mpp::new(0.5).expect("0.5 is positive");
    let region = crowded(1024);
    let grid = TargetGrid::new(Size::new(1024, 1024), MppXy::square(mpp), mpp);
    for prob_threshold in [0.5, 0.69] {
        let settings = settings::Star { prob_threshold, ..STAR_DEFAULTS };
        let nuclei = extract_stars(&region, &grid, &settings, model.spec()).len() as u64;
        group.throughput(Throughput::Elements(nuclei));
        group.bench_function(BenchmarkId::from_parameter(format!("above_{prob_threshold}")), |b| {
            b.iter(|| extract_stars(black_box(&region), &grid, &settings, model.spec()));
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

criterion_group!(benches, extraction, stars, models);
criterion_main!(benches);
