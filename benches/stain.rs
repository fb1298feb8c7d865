//! Applying a fitted stain transform to 256-px tiles, one core: `cargo bench --bench stain`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::path::Path;
use wsi_run::{
    config::settings::{Stain, StainReference},
    pixels::stain::{Deconvolution, fit, reference},
};

/// A tile of real tissue: the fixture patches, repeated.
fn tile(side: usize) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stain");
    let px: Vec<u8> = ["brca_a0d9", "brca_a06y", "brca_a2fb", "cmu_1"]
        .iter()
        .flat_map(|name| reference::read(&dir.join(format!("{name}.png"))).expect("a fixture").data)
        .collect();
    px.iter().copied().cycle().take(3 * side * side).collect()
}

fn stain(c: &mut Criterion) {
    let tile = tile(256);
    let mut group = c.benchmark_group("cpu/stain");
    group.throughput(Throughput::Elements(256 * 256));
    for method in [Stain::Macenko, Stain::Reinhard, Stain::Vahadane, Stain::Ruifrok] {
        let fitted = fit(&tile, &method(StainReference::Standard)).expect("no reference is read");
        let mut rgb = tile.clone();
        group.bench_function(BenchmarkId::new(format!("apply_{}", fitted.method), 256), |b| {
            b.iter(|| {
                rgb.copy_from_slice(&tile);
                fitted.transform.apply(std::hint::black_box(&mut rgb));
            });
        });
        let settings = method(StainReference::Standard);
        group.bench_function(BenchmarkId::new(format!("fit_{}", fitted.method), 256), |b| {
            b.iter(|| fit(std::hint::black_box(&tile), &settings));
        });
    }
    let he = Deconvolution::h_e();
    let mut out = vec![0.0_f32; 256 * 256];
    group.bench_function(BenchmarkId::new("deconvolve_h", 256), |b| {
        b.iter(|| {
            let px = std::hint::black_box(&tile).chunks_exact(3);
            out.iter_mut().zip(px).for_each(|(o, p)| *o = he.px([p[0], p[1], p[2]])[0]);
        });
    });
    group.finish();
}

criterion_group!(benches, stain);
criterion_main!(benches);
