//! Star-convex nuclei per second; one core.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, io::Read};
use wsi_run::{
    config::settings,
    geometry::{Rect, Size, TargetGrid},
    instances::{MaskGrid, STAR_DEFAULTS, extract_stars},
    model::{HEMATOXYLIN_DEFAULTS, Head, HematoxylinModel, Model},
    stitch::{Plane, Region},
    units::{Mpp, MppXy},
};

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
            Plane { head: Head::NuclearPixel, channels: 1, data: repeat(prob), pixels: None },
            Plane {
                head: Head::StarDistance,
                channels: rays as u32,
                data: distances.chunks_exact(w * h).flat_map(repeat).collect(),
                pixels: None,
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
    let masks = MaskGrid::of_maps(&grid);
    for prob_threshold in [0.5, 0.69] {
        let settings = settings::Star { prob_threshold: Some(prob_threshold), ..STAR_DEFAULTS };
        let nuclei = extract_stars(&region, &grid, &masks, &settings, model.spec()).len() as u64;
        group.throughput(Throughput::Elements(nuclei));
        group.bench_function(BenchmarkId::from_parameter(format!("above_{prob_threshold}")), |b| {
            b.iter(|| extract_stars(black_box(&region), &grid, &masks, &settings, model.spec()));
        });
    }
    group.finish();
}

criterion_group!(benches, stars);
criterion_main!(benches);
