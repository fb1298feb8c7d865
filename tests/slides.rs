//! Slides: pixels against OpenSlide's, bad input, discovery, resolution, synthetic slides.

use crate::test_data::test_data;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use wsi_run::{
    config::settings::{ReaderChoice, SlideSource, Slides, Synthetic},
    error::SlideError,
    geometry::{InLevel, Rect},
    slides::{
        EntrySource, Level, MppSource, ReadError, SlideEntry, SlideReader, SyntheticSlide, TiffSlide, check_mpp,
        discover, open,
    },
    units::{Mpp, MppXy},
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/slides")
}

fn settings(source: SlideSource) -> Slides {
    Slides { source, exclude: Vec::new(), mpp: None, mpp_csv: None, reader: ReaderChoice::Auto }
}

fn any_source() -> Slides {
    settings(SlideSource::List(Vec::new()))
}

fn open_with(path: &Path, reader: ReaderChoice) -> Result<Arc<dyn SlideReader>, SlideError> {
    let entry = SlideEntry { id: "slide".into(), path: path.into(), source: EntrySource::File };
    open(&entry, &Slides { reader, ..any_source() })
}

fn open_auto(path: &Path) -> Result<Arc<dyn SlideReader>, SlideError> {
    open_with(path, ReaderChoice::Auto)
}

fn try_read(slide: &dyn SlideReader, level: usize, region: Rect<InLevel>) -> Result<Vec<u8>, ReadError> {
    let mut rgb = vec![123; region.area() as usize * 3];
    slide.read_region(Level(level as u8), region, &mut rgb).map(|()| rgb)
}

fn read(slide: &dyn SlideReader, level: usize, region: Rect<InLevel>) -> Vec<u8> {
    try_read(slide, level, region).unwrap()
}

fn whole(slide: &dyn SlideReader, level: usize) -> Vec<u8> {
    read(slide, level, slide.info().levels[level].size.rect())
}

/// `region` cut out of a whole level, white outside: what every reader must give.
fn cut(level: &[u8], w: u32, h: u32, region: Rect<InLevel>) -> Vec<u8> {
    let mut rgb = vec![255; region.area() as usize * 3];
    let inside = region.intersect(&Rect::new(0, 0, w, h));
    for y in inside.y..inside.bottom() {
        for x in inside.x..inside.right() {
            let from = (y as usize * w as usize + x as usize) * 3;
            let to = ((y - region.y) as usize * region.w as usize + (x - region.x) as usize) * 3;
            rgb[to..to + 3].copy_from_slice(&level[from..from + 3]);
        }
    }
    rgb
}

fn has_openslide() -> bool {
    let loaded = openslide_sys::ensure_loaded();
    if loaded.is_err() {
        println!("skipped: no OpenSlide");
    }
    loaded.is_ok()
}

/// `name → expected` of fixtures/slides/expected.json.
fn expected() -> BTreeMap<String, serde_json::Value> {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_layout_gives_the_pixels_and_levels_that_openslide_gives() {
    let expected = expected();
    assert!(expected.len() >= 14);
    for (name, expected) in &expected {
        let slide = open_auto(&fixtures().join(name)).unwrap();
        let levels = expected["levels"].as_array().unwrap();
        assert_eq!(slide.info().levels.len(), levels.len(), "{name}");
        assert_ne!(slide.info().reader, "openslide", "{name}");
        for (i, level) in levels.iter().enumerate() {
            let size = slide.info().levels[i].size;
            assert_eq!(
                (u64::from(size.w), u64::from(size.h)),
                (level["w"].as_u64().unwrap(), level["h"].as_u64().unwrap())
            );
            let digest: String = Sha256::digest(whole(&*slide, i)).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(digest, level["sha256"].as_str().unwrap(), "{name} level {i}");
        }
        if expected["by"] == "openslide" {
            assert_eq!(slide.info().quickhash.as_deref(), expected["quickhash"].as_str(), "{name}");
            assert_eq!(slide.info().vendor, expected["vendor"].as_str().unwrap(), "{name}");
        }
    }
}

#[test]
fn real_slides_have_the_same_pixels_with_either_reader() {
    let Some(data) = test_data("").filter(|_| has_openslide()) else { return };
    for name in ["wsi/CMU-1-Small-Region.svs", "derived/OS-1-detail.generic.tif", "derived/synth_8000x6000.tif"] {
        let path = data.join(name);
        let ours = open_with(&path, ReaderChoice::Tiff).unwrap();
        let theirs = open_with(&path, ReaderChoice::Openslide).unwrap();
        let sizes = |s: &dyn SlideReader| s.info().levels.clone();
        assert_eq!(sizes(&*ours), sizes(&*theirs), "{name}");
        assert_eq!(ours.info().quickhash, theirs.info().quickhash, "{name}");
        for level in 0..ours.info().levels.len() {
            let size = ours.info().levels[level].size;
            let (w, h) = (i64::from(size.w), i64::from(size.h));
            // Where the downsample is not whole, OpenSlide interpolates everywhere but at the origin.
            let level0 = ours.info().level0();
            let exact = level0.w.is_multiple_of(size.w) && level0.h.is_multiple_of(size.h);
            let mut regions = vec![Rect::new(0, 0, 256, 256)];
            if exact {
                regions.extend([
                    Rect::new(0, 0, 700, 500),
                    Rect::new(-50, -60, 200, 300),
                    Rect::new(w - 120, h - 90, 300, 200),
                    Rect::new(w / 2 - 333, h / 3 + 17, 611, 427),
                    Rect::new(w + 5, 3, 40, 50),
                    Rect::new(-500, -500, 20, 20),
                ]);
            }
            for region in regions {
                assert!(
                    read(&*ours, level, region) == read(&*theirs, level, region),
                    "{name} level {level} {region:?}"
                );
            }
        }
    }
}

#[test]
fn a_region_is_the_same_however_the_slide_is_cut() {
    let mut slides: Vec<PathBuf> = expected().into_keys().map(|name| fixtures().join(name)).collect();
    if let Some(data) = test_data("") {
        slides.push(data.join("wsi/OS-1-detail.ome.tif"));
        if has_openslide() && openslide_sys::has_version_4().unwrap() {
            // Its coarser levels have downsamples that are not whole: OpenSlide interpolates there.
            slides.extend(
                walk(&data.join("derived/CMU-1-Small-Region-dicom")).into_iter().filter(|p| p.ends_with("dcm")).take(1),
            );
        }
    }
    for path in slides {
        let slide = open_auto(&path).unwrap();
        for (i, level) in slide.info().levels.iter().enumerate() {
            let all = whole(&*slide, i);
            let (w, h) = (level.size.w, level.size.h);
            let (iw, ih) = (i64::from(w), i64::from(h));
            for region in [
                Rect::new(1, 1, w.div_ceil(2), h.div_ceil(2)),
                Rect::new(31, 32, 34, 3),
                Rect::new(iw - 1, ih - 1, 1, 1),
                Rect::new(-3, ih - 4, w + 9, 20),
                Rect::new(iw / 3, -5, 7, h + 10),
                Rect::new(0, 0, 0, 5),
                Rect::new(iw * 5, 0, 5, 5),
            ] {
                let found = read(&*slide, i, region);
                assert!(found == cut(&all, w, h, region), "{} level {i} {region:?}", path.display());
            }
        }
        let no_level = slide.info().levels.len();
        assert!(matches!(try_read(&*slide, no_level, Rect::new(0, 0, 1, 1)), Err(ReadError::NoLevel { .. })));
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn many_threads_read_the_same_slide_at_once() {
    let slide = open_auto(&fixtures().join("jpeg_rgb_aperio.tif")).unwrap();
    let all = whole(&*slide, 0);
    std::thread::scope(|scope| {
        for t in 0..8i64 {
            let (slide, all) = (&slide, &all);
            scope.spawn(move || {
                for i in 0..40i64 {
                    let region = Rect::new((t * 7 + i * 3) % 90, (t + i * 5) % 60, 40, 33);
                    assert!(read(&**slide, 0, region) == cut(all, 92, 60, region));
                }
            });
        }
    });
}

#[test]
fn resolution_comes_from_the_first_source_that_tells() {
    let mpp_of = |name: &str| open_auto(&fixtures().join(name)).unwrap().info().mpp.map(|(m, s)| (m.x.um_per_px(), s));
    assert_eq!(mpp_of("jpeg_rgb_aperio.tif"), Some((0.252, MppSource::Vendor)));
    assert_eq!(mpp_of("ome_subifd.tif"), Some((0.25, MppSource::Ome)));
    assert_eq!(mpp_of("deflate.tif"), Some((0.25, MppSource::TiffResolution)));
    assert_eq!(mpp_of("untiled.tif"), Some((0.25, MppSource::TiffResolution)));
    assert_eq!(mpp_of("plain.png"), None);

    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("mpp.csv");
    std::fs::write(&csv, "slide,mpp_x,mpp_y\nplain.png,0.5,0.9\n").unwrap();
    let entry = SlideEntry { id: "p".into(), path: fixtures().join("plain.png"), source: EntrySource::File };
    let mut settings = Slides { mpp_csv: Some(csv), ..any_source() };
    let slide = open(&entry, &settings).unwrap();
    assert_eq!(slide.info().mpp.unwrap().1, MppSource::Csv);
    assert_eq!(check_mpp(slide.info()).unwrap().y.um_per_px(), 0.9);
    settings.mpp = Some(MppXy::square(Mpp::new(0.3).unwrap()));
    let slide = open(&entry, &settings).unwrap();
    assert_eq!(slide.info().mpp.unwrap().1, MppSource::User);
    settings = Slides { mpp_csv: Some(dir.path().join("none.csv")), ..any_source() };
    assert!(open(&entry, &settings).err().unwrap().message.contains("mpp CSV"));
}

#[test]
fn slides_that_do_not_open_say_what_was_found_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let aperio = std::fs::read(fixtures().join("jpeg_rgb_aperio.tif")).unwrap();
    let jpeg = std::fs::read(fixtures().join("plain.jpg")).unwrap();
    let png = std::fs::read(fixtures().join("plain.png")).unwrap();
    let cases = [
        (at("zero.svs", b""), "0 bytes"),
        (at("garbage.svs", b"IJrE and nothing that a slide begins with"), "49 4a 72 45"),
        (at("cut.svs", &aperio[..aperio.len() - 700]), "past the end of the file"),
        (at("header.tif", b"II*\0"), "header ends"),
        (at("cut.jpg", &jpeg[..jpeg.len() / 2]), "cannot open slide"),
        (at("cut.png", &png[..png.len() / 2]), "cannot open slide"),
        (dir.path().join("missing.svs"), "No such file"),
        (dir.path().to_owned(), "found a folder"),
    ];
    for (path, words) in cases {
        let error = open_auto(&path).err().unwrap_or_else(|| panic!("{} opens", path.display()));
        // Without the library, what only it might know is not known.
        let known = error.message.contains(words) || error.message.contains("OpenSlide is not installed");
        assert!(known, "{}: {}", path.display(), error.message);
        assert!(error.message.ends_with(&path.display().to_string()), "{}", error.message);
        assert!(error.hint.is_some(), "{}", error.message);
    }
    let fluorescence = open_auto(&fixtures().join("bad_fluorescence.tif")).err().unwrap();
    assert!(fluorescence.message.contains("2 channels"), "{fluorescence}");
    let deep = open_with(&fixtures().join("bad_16bit.tif"), ReaderChoice::Tiff).err().unwrap();
    assert!(deep.message.contains("[16, 16, 16] bits, expected 8"), "{}", deep.message);
    let png = open_with(&fixtures().join("plain.png"), ReaderChoice::Tiff).err().unwrap();
    assert!(png.message.contains("not a TIFF") && png.hint.is_some());
}

#[test]
fn the_bad_slides_of_the_test_data_fail_alone() {
    let Some(data) = test_data("") else { return };
    for path in walk(&data.join("wsi-bad")) {
        let error = open_auto(&path).err().unwrap();
        assert!(error.hint.is_some(), "{}", error.message);
    }
    for path in walk(&data.join("wsi")) {
        match open_auto(&path) {
            Ok(slide) => assert!(!whole(&*slide, slide.info().levels.len() - 1).is_empty()),
            Err(error) => assert!(!has_openslide() || path.ends_with("camelyon_jpeg.dcm"), "{error}"),
        }
    }
}

/// A copy of a slide whose last tiles of level 0 are overwritten.
fn with_broken_tile(dir: &Path) -> PathBuf {
    let mut bytes = std::fs::read(fixtures().join("jpeg_ycbcr_420.tif")).unwrap();
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, w)| w == b"\xff\xd8\xff").map(|(i, _)| i).collect();
    // Tables come later in the file than the tiles of level 0; its first tile begins the first stream.
    let tile = starts[0];
    bytes[tile..tile + 8].fill(0);
    let path = dir.join("broken_tile.tif");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_unreadable_tile_fails_its_regions_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_broken_tile(dir.path());
    let good = open_auto(&fixtures().join("jpeg_ycbcr_420.tif")).unwrap();
    for reader in [ReaderChoice::Tiff, ReaderChoice::Openslide] {
        if reader == ReaderChoice::Openslide && !has_openslide() {
            continue;
        }
        let slide = open_with(&path, reader).unwrap();
        for _ in 0..3 {
            let error = try_read(&*slide, 0, Rect::new(0, 0, 10, 10)).unwrap_err();
            assert!(matches!(error, ReadError::Pixels { level: 0, x: 0, .. }), "{error}");
            let elsewhere = Rect::new(40, 20, 50, 40);
            assert!(read(&*slide, 0, elsewhere) == read(&*good, 0, elsewhere), "{reader:?}");
        }
        // Threads that break the shared handle do not fail each other's regions.
        std::thread::scope(|scope| {
            for t in 0..4 {
                let slide = &slide;
                scope.spawn(move || {
                    for _ in 0..10 {
                        let broken = t % 2 == 0;
                        let region = Rect::new(if broken { 0 } else { 64 }, 0, 20, 20);
                        assert_eq!(try_read(&**slide, 0, region).is_err(), broken);
                    }
                });
            }
        });
    }
}

#[test]
fn dicom_opens_with_openslide_4_and_otherwise_says_so() {
    let Some(data) = test_data("") else { return };
    let path = data.join("derived/CMU-1-Small-Region-dicom");
    let slides = Slides { source: SlideSource::Dir(path), ..any_source() };
    let found = discover(&slides, Path::new("/")).unwrap();
    assert_eq!(found.len(), 1, "one series is one slide");
    match open(&found[0], &slides) {
        Ok(slide) => {
            assert_eq!((slide.info().vendor.as_str(), slide.info().levels.len()), ("dicom", 5));
            assert_eq!(check_mpp(slide.info()).unwrap().x.um_per_px(), 0.499);
        }
        Err(error) => {
            assert!(!openslide_sys::has_version_4().unwrap_or(false), "{error}");
            assert!(error.hint.unwrap().contains("OpenSlide 4"));
        }
    }
}

fn tree(dir: &Path, files: &[&str]) {
    for file in files {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
}

fn ids(slides: &Slides, base: &Path) -> Vec<String> {
    discover(slides, base).unwrap().into_iter().map(|e| e.id).collect()
}

#[test]
fn a_directory_gives_its_slides_sorted_without_their_parts() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        "b.SVS",
        "a/x.tif",
        "notes.txt",
        "m.mrxs",
        "m/Data0000.tif",
        "v/s.vms",
        "v/s(0,1).jpg",
        ".git/o.tif",
        "._b.svs",
    ];
    tree(dir.path(), &files);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("b.SVS"), dir.path().join("again.svs")).unwrap();
    }
    let slides = Slides { exclude: vec!["**/y.tif".into()], ..settings(SlideSource::Dir(dir.path().into())) };
    let found = ids(&slides, Path::new("/"));
    #[cfg(unix)]
    assert_eq!(found, ["a__x", "again", "m", "v__s"], "a link and its target are one slide");
    #[cfg(not(unix))]
    assert_eq!(found, ["a__x", "b", "m", "v__s"]);
    let missing = settings(SlideSource::Dir("no/such".into()));
    assert!(discover(&missing, dir.path()).unwrap_err().to_string().contains("cannot list slides"));
}

#[cfg(unix)]
#[test]
fn a_link_to_a_folder_above_gives_no_slide_another_name() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), &["slides/x.svs", "slides/a.svs", "slides/deep/y.svs"]);
    let slides = settings(SlideSource::Dir(dir.path().join("slides")));
    let before = ids(&slides, Path::new("/"));
    std::os::unix::fs::symlink("..", dir.path().join("slides/above")).unwrap();
    assert_eq!(ids(&slides, Path::new("/")), before);
}

#[test]
fn globs_start_at_the_base_and_exclude_by_path_or_name() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), &["s/a.svs", "s/deep/b.svs", "s/deep/label.svs", "s/c.txt", "t/d.svs", "s/deep/e.raw"]);
    let glob = |patterns: &[&str], exclude: &[&str]| {
        let owned = |v: &[&str]| v.iter().map(|&s| s.to_owned()).collect::<Vec<String>>();
        let slides = Slides { exclude: owned(exclude), ..settings(SlideSource::Glob(owned(patterns))) };
        discover(&slides, dir.path()).map(|found| found.into_iter().map(|e| e.id).collect::<Vec<_>>())
    };
    assert_eq!(glob(&["s/**/*.svs"], &[]).unwrap(), ["a", "deep__b", "deep__label"]);
    assert_eq!(glob(&["s/*.svs", "./t/*", "s/a.svs"], &[]).unwrap(), ["a", "d"]);
    assert_eq!(glob(&["s/**/*"], &["label.svs"]).unwrap(), ["a", "deep__b"]);
    assert_eq!(glob(&["**/*.svs"], &["s/**"]).unwrap(), ["t__d"]);
    assert_eq!(glob(&["s/**/*.raw"], &[]).unwrap(), ["deep__e"], "a named extension is taken");
    let absolute = format!("{}/t/*.svs", dir.path().display());
    assert_eq!(glob(&[&absolute], &[]).unwrap(), ["d"]);
    assert!(glob(&["nothing/*.svs"], &[]).unwrap().is_empty());
    assert!(glob(&["s/[.svs"], &[]).unwrap_err().to_string().contains("invalid glob"));
}

#[test]
fn a_list_keeps_what_is_missing_so_that_it_fails_as_a_slide() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), &["1/a.svs", "2/a.svs"]);
    let paths = ["1/a.svs", "2/a.svs", "gone.svs", "1/a.svs"].map(PathBuf::from).to_vec();
    let slides = settings(SlideSource::List(paths));
    let found = discover(&slides, dir.path()).unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.iter().any(|e| e.id == "gone"));
    assert!(found.iter().filter(|e| e.id.starts_with("a-")).count() == 2, "{found:?}");
}

fn synthetic(width_px: u32, height_px: u32, seed: u64) -> SyntheticSlide {
    let settings = Synthetic { count: 1, width_px, height_px, mpp: Mpp::new(0.25).unwrap(), seed };
    SyntheticSlide::new(&settings, 0)
}

#[test]
fn synthetic_nuclei_are_where_they_are_said_to_be() {
    let slide = synthetic(3000, 2000, 3);
    let all = slide.nuclei_in(Rect::new(0, 0, 3000, 2000));
    assert!(all.len() > 100, "{}", all.len());
    let rgb = whole(&slide, 0);
    let dark = all.iter().filter(|n| {
        let at = (n.y as usize * 3000 + n.x as usize) * 3;
        rgb[at] < 150
    });
    assert_eq!(dark.count(), all.len());
    // Each nucleus belongs to one part of any cut.
    let parts = [Rect::new(-9, -9, 1509, 800), Rect::new(1500, -9, 9000, 800), Rect::new(0, 791, 3000, 2000)];
    let counted: usize = parts.iter().map(|&p| slide.nuclei_in(p).len()).sum();
    assert_eq!(counted, all.len());
    let kinds: std::collections::BTreeSet<u8> = all.iter().map(|n| n.kind).collect();
    assert_eq!(kinds.len(), 3);
}

#[test]
fn a_written_synthetic_slide_is_the_slide_that_was_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.tif");
    let drawn = synthetic(1500, 700, 5);
    drawn.write_tiff(&path, 95).unwrap();
    let file = open_with(&path, ReaderChoice::Tiff).unwrap();
    assert_eq!(file.info().levels.len(), drawn.info().levels.len());
    assert_eq!(check_mpp(file.info()).unwrap().x.um_per_px(), 0.25);
    for level in 0..2 {
        let (a, b) = (whole(&drawn, level), whole(&*file, level));
        let error: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
        assert!(error < 3.0, "level {level}: mean difference {error}");
    }
    if has_openslide() {
        let theirs = open_with(&path, ReaderChoice::Openslide).unwrap();
        assert!(whole(&*theirs, 0) == whole(&*file, 0));
    }
}

/// A directory of a classic TIFF, entries of `(tag, type, count, value)`, and where the next one lies.
pub fn directory(entries: &[(u16, u16, u32, u32)], next: u32) -> Vec<u8> {
    let mut bytes = (entries.len() as u16).to_le_bytes().to_vec();
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(next.to_le_bytes());
    bytes
}

/// A small classic TIFF of one directory.
fn raw_tiff(entries: &[(u16, u16, u32, u32)], next: u32) -> Vec<u8> {
    [&b"II*\0\x08\0\0\0"[..], &directory(entries, next)].concat()
}

#[test]
fn absurd_structures_are_errors_and_cost_no_memory() {
    let tiled = |w: u32, h: u32, tile: u32, count: u32, at: u32| {
        vec![
            (256, 4, 1, w),
            (257, 4, 1, h),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (277, 3, 1, 1),
            (322, 4, 1, tile),
            (323, 4, 1, tile),
            (324, 4, count, at),
            (325, 4, count, at),
        ]
    };
    let cases = [
        ("200 GB in 1 KB", raw_tiff(&tiled(450_000, 450_000, 256, 1, 8), 0), "lists 1 offsets"),
        ("a table longer than the file", raw_tiff(&tiled(450_000, 450_000, 256, 3_100_000, 8), 0), "past the end"),
        ("a directory that follows itself", raw_tiff(&tiled(10, 10, 16, 1, 8), 8), "follows itself"),
        ("no size", raw_tiff(&tiled(0, 10, 16, 1, 8), 0), "expected a size in px"),
        ("tiles of no size", raw_tiff(&tiled(10, 10, 0, 1, 8), 0), "expected a size in px"),
        ("a huge tile", raw_tiff(&tiled(10, 10, 1 << 20, 1, 8), 0), "tiles of"),
        ("no entries", b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec(), "0 entries"),
        ("a directory past the end", b"II*\0\xff\xff\xff\x7f".to_vec(), "past the end"),
        ("no directory", b"II*\0\0\0\0\0".to_vec(), "no directory"),
    ];
    for (what, bytes, words) in cases {
        let error =
            TiffSlide::from_source(Path::new("x"), Box::new(bytes)).err().unwrap_or_else(|| panic!("{what} opens"));
        assert!(error.to_string().contains(words), "{what}: {error}");
    }
    let past = raw_tiff(&tiled(10, 10, 16, 1, 0x7fff_0000), 0);
    let slide = TiffSlide::from_source(Path::new("x"), Box::new(past)).unwrap();
    let error = try_read(&slide, 0, Rect::new(0, 0, 4, 4)).unwrap_err();
    assert!(error.to_string().contains("the file is truncated") || error.to_string().contains("too many"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_bytes_make_the_tiff_reader_panic(
        file in 0usize..12,
        flips in prop::collection::vec((0u8..3, any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        truncate in prop::bool::weighted(0.2),
    ) {
        let names: Vec<_> = expected().into_keys().filter(|n| n.ends_with(".tif")).collect();
        let mut bytes = std::fs::read(fixtures().join(&names[file % names.len()])).unwrap();
        for (part, at, value) in flips {
            // Directories lie at either end of these files; the middle is pixels.
            let near = bytes.len().min(800);
            let at = match part {
                0 => at.index(near),
                1 => bytes.len() - 1 - at.index(near),
                _ => at.index(bytes.len()),
            };
            bytes[at] = value;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()).max(1));
        }
        if let Ok(slide) = TiffSlide::from_source(Path::new("mutated"), Box::new(bytes)) {
            for level in 0..slide.info().levels.len() {
                let size = slide.info().levels[level].size;
                for region in [Rect::new(0, 0, 64, 64), Rect::new(i64::from(size.w) - 20, i64::from(size.h) - 20, 40, 40)] {
                    let _ = try_read(&slide, level, region);
                }
            }
        }
    }

    #[test]
    fn synthetic_regions_are_the_same_however_they_are_cut(
        x in -40i64..900, y in -40i64..700, w in 1u32..300, h in 1u32..200, level in 0usize..2, split in 0.0f64..1.0,
    ) {
        let slide = synthetic(2000, 1400, 11);
        let whole = read(&slide, level, Rect::new(x, y, w, h));
        let at = (f64::from(w) * split) as u32;
        let left = read(&slide, level, Rect::new(x, y, at, h));
        let right = read(&slide, level, Rect::new(x + i64::from(at), y, w - at, h));
        for row in 0..h as usize {
            let (w, at) = (w as usize * 3, at as usize * 3);
            prop_assert_eq!(&whole[row * w..row * w + at], &left[row * at..(row + 1) * at]);
            prop_assert_eq!(&whole[row * w + at..(row + 1) * w], &right[row * (w - at)..(row + 1) * (w - at)]);
        }
    }
}
