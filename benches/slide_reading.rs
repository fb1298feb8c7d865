//! How fast are pixels read? Our TIFF reader and OpenSlide through ours, on one file, on 1 and 4 threads.
//!
//! `cargo bench --bench slide_reading`; then `benches/peers/slide_reading.py` on the file it names, in the same
//! sitting. `WSI_RUN_BENCH_SLIDE` names another file. Each pass reads every region of the slide once, so that no
//! cache helps; Mpx/s = elements per second / 1e6.

#![expect(clippy::print_stdout, reason = "the file's name is for the peer's script")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use wsi_run::{
    config::settings::{ReaderChoice, SlideSource, Slides, Synthetic},
    geometry::Rect,
    slides::{EntrySource, Level, SlideEntry, SlideReader, SyntheticSlide, open},
    units::Mpp,
};

fn settings(reader: ReaderChoice) -> Slides {
    Slides { source: SlideSource::List(Vec::new()), exclude: Vec::new(), mpp: None, mpp_csv: None, reader }
}

fn slide() -> PathBuf {
    if let Some(path) = std::env::var_os("WSI_RUN_BENCH_SLIDE") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slide_reading.tif");
    if !path.exists() {
        let mpp = Mpp::new(0.25).expect("positive");
        let settings = Synthetic { count: 1, width_px: 20_480, height_px: 15_360, mpp, seed: 1 };
        SyntheticSlide::new(&settings, 0).write_tiff(&path, 80).expect("the bench slide can be written");
    }
    path
}

/// Reads all of level 0 in regions of `side_px`, by `threads` threads; the number of px.
fn read_all(slide: &dyn SlideReader, side_px: u32, threads: usize) -> u64 {
    let size = slide.info().level0();
    let (across, down) = (size.w / side_px, size.h / side_px);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut rgb = vec![0; (side_px * side_px * 3) as usize];
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed) as u32;
                    if i >= across * down {
                        break;
                    }
                    let (x, y) = ((i % across * side_px).into(), (i / across * side_px).into());
                    slide.read_region(Level(0), Rect::new(x, y, side_px, side_px), &mut rgb).expect("readable");
                }
            });
        }
    });
    u64::from(across * side_px) * u64::from(down * side_px)
}

fn slide_reading(c: &mut Criterion) {
    let path = slide();
    println!("slide: {}", path.display());
    let entry = SlideEntry { id: "bench".into(), path, source: EntrySource::File };
    for (name, choice) in [("tiff", ReaderChoice::Tiff), ("openslide", ReaderChoice::Openslide)] {
        let mut group = c.benchmark_group(format!("cpu/slide_reading/{name}"));
        group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
        for threads in [1, 4] {
            for side_px in [256, 1024] {
                let Ok(slide) = open(&entry, &settings(choice)) else { continue };
                let size = slide.info().level0();
                let px = u64::from(size.w / side_px * side_px) * u64::from(size.h / side_px * side_px);
                group.throughput(Throughput::Elements(px));
                group.bench_function(format!("{side_px}px/{threads}t"), |b| {
                    b.iter_with_setup(
                        || open(&entry, &settings(choice)).expect("opens"),
                        |slide| read_all(&*slide, side_px, threads),
                    );
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, slide_reading);
criterion_main!(benches);
