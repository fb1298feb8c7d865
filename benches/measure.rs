//! Speed of measuring nuclei and of finding lesions.
//!
//! Reads what `benches/peers/measure.py` wrote, when `WSI_RUN_BENCH_DIR` names its folder: `labels.u32` (width,
//! height, then labels) and `classes.u8` (width, height as u32, then classes). Draws ellipses and stripes otherwise.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::{collections::BTreeMap, hint::black_box, path::PathBuf};
use wsi_run::{
    geometry::Rect,
    instances::{LesionFinder, RgbWindow, Run, measure, rings},
    units::Mpp,
};

fn file(name: &str) -> Option<Vec<u8>> {
    std::env::var_os("WSI_RUN_BENCH_DIR").and_then(|dir| std::fs::read(PathBuf::from(dir).join(name)).ok())
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Width, height, labels of nuclei of about 250 px.
fn labels() -> (u32, u32, Vec<u32>) {
    if let Some(bytes) = file("labels.u32") {
        let all = words(&bytes);
        return (all[0], all[1], all[2..].to_vec());
    }
    let (cell, across) = (28, 32);
    let side = cell * across;
    let label = |x: u32, y: u32| {
        let (i, j) = (x / cell, y / cell);
        let (dx, dy) = (f64::from(x % cell) - 14.0, f64::from(y % cell) - 14.0);
        let (a, turn) = (7.0 + f64::from((i * 7 + j * 5) % 5), f64::from(i * 3 + j));
        let (u, v) = (dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin());
        if (u / a).powi(2) + (v / 8.0).powi(2) < 1.0 { 1 + i + j * across } else { 0 }
    };
    (side, side, (0..side).flat_map(|y| (0..side).map(move |x| label(x, y))).collect())
}

/// Runs of each label.
fn nuclei(w: u32, labels: &[u32]) -> Vec<Vec<Run>> {
    let mut found: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
    for (y, row) in labels.chunks(w as usize).enumerate() {
        let mut x = 0;
        for same in row.chunk_by(|a, b| a == b) {
            let x1 = x + same.len() as u32;
            if same[0] != 0 {
                found.entry(same[0]).or_default().push(Run { y: y as u32, x0: x, x1 });
            }
            x = x1;
        }
    }
    found.into_values().collect()
}

fn nuclei_benches(c: &mut Criterion) {
    let (w, h, labels) = labels();
    let nuclei = nuclei(w, &labels);
    let rgb: Vec<u8> = (0..w as usize * h as usize * 3).map(|i| (i * 37 % 251) as u8).collect();
    let window = RgbWindow { rgb: &rgb, rect: Rect::new(0, 0, w, h), factor: 1 };
    let mpp = Mpp::new(0.5).expect("positive");
    let mut group = c.benchmark_group("cpu/measure");
    group.throughput(Throughput::Elements(nuclei.len() as u64));
    group.bench_function("shape", |b| {
        b.iter(|| nuclei.iter().for_each(|runs| _ = black_box(measure(black_box(runs), mpp, None))));
    });
    group.bench_function("rings", |b| {
        b.iter(|| nuclei.iter().for_each(|runs| drop(black_box(rings(black_box(runs))))));
    });
    group.bench_function("all", |b| {
        b.iter(|| {
            for runs in &nuclei {
                black_box((measure(black_box(runs), mpp, Some(window)), rings(runs)));
            }
        });
    });
    group.finish();
}

/// Width, height, classes.
fn maps() -> Vec<(String, usize, Vec<u8>)> {
    let (w, h) = (16_000, 1_000);
    let long = (0..h).flat_map(|y| (0..w).map(move |x| u8::from((x + y) / 2_000 % 2 == 0))).collect();
    let mut maps = vec![("long".to_owned(), w, long)];
    for name in ["thresholded", "speckled"] {
        if let Some(bytes) = file(&format!("{name}.u8")) {
            maps.push((name.to_owned(), words(&bytes[..8])[0] as usize, bytes[8..].to_vec()));
        }
    }
    maps
}

fn lesion_benches(c: &mut Criterion) {
    let mpp = Mpp::new(0.5).expect("positive");
    let mut group = c.benchmark_group("cpu/lesions");
    group.sample_size(10);
    for (name, w, map) in maps() {
        group.throughput(Throughput::Elements(map.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || LesionFinder::new(w as u32, 3, mpp, 100.0),
                |mut finder| {
                    for (y, row) in map.chunks(w).enumerate() {
                        finder.push_row(y as u32, row, &[], &mut |l| drop(black_box(l)));
                    }
                    finder.finish(&mut |l| drop(black_box(l)));
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, nuclei_benches, lesion_benches);
criterion_main!(benches);
