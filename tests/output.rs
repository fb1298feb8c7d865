//! What is written for a slide: independent of the order of parts, whole or not there, equal to what was given.

use crate::scene::Scene;
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};
use wsi_run::{
    config::settings::OmeZarrVersion,
    geometry::{Size, TargetGrid},
    instances::tile_maps,
    output::{PARTIAL_DIR, ResultKind, SlidePart, SlideRecord, SlideStatus, verify, write_slides_table},
    units::Mpp,
};
use zarrs::{array::Array, filesystem::FilesystemStore};

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn array<T: zarrs::array::ElementOwned>(root: &Path, path: &str) -> (Vec<u64>, Vec<T>) {
    let store = Arc::new(FilesystemStore::new(root).unwrap());
    let array = Array::open(store, path).unwrap();
    let values = array.retrieve_array_subset::<Vec<T>>(&array.subset_all()).unwrap();
    (array.shape().to_vec(), values)
}

#[test]
fn the_bytes_of_nuclei_do_not_depend_on_regions_or_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut reference = None;
    for (n, (side, shuffle)) in [(4096, 0), (512, 7), (300, 3), (768, 99)].into_iter().enumerate() {
        let at = dir.path().join(n.to_string());
        let scene = Scene::new(&at, 5000, 3900, 40);
        let committed = scene.write_nuclei(side, shuffle);
        assert!(committed.instances > 500 && committed.instances == scene.nuclei.len() as u64);
        let files = files(&at);
        let (first_files, first) = reference.get_or_insert_with(|| (files.clone(), committed.clone()));
        assert_eq!(first_files.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
        for (name, bytes) in &files {
            assert!(first_files[name] == *bytes, "side {side}: {name}");
        }
        assert_eq!(*first, committed);
    }
}

#[test]
fn the_bytes_of_classes_do_not_depend_on_regions_or_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut reference = None;
    for (n, (side, shuffle)) in [(4096, 0), (512, 7), (300, 3)].into_iter().enumerate() {
        let at = dir.path().join(n.to_string());
        let mut scene = Scene::new(&at, 5000, 3900, 0);
        scene.settings.ome_zarr.as_mut().unwrap().prob = true;
        let committed = scene.write_semantic(side, shuffle);
        let files = files(&at);
        assert!(files.keys().any(|name| name.contains("prob/0")));
        let (first_files, first) = reference.get_or_insert_with(|| (files.clone(), committed.clone()));
        assert!(*first_files == files, "side {side}");
        assert_eq!(*first, committed);
    }
}

#[test]
fn masks_hold_the_nuclei_and_every_level_holds_every_second_pixel() {
    for version in [OmeZarrVersion::V05, OmeZarrVersion::V04] {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(dir.path(), 5000, 3900, 40);
        scene.settings.ome_zarr.as_mut().unwrap().version = version;
        scene.write_nuclei(1024, 5);
        let root = dir.path().join("masks/scene-1.ome.zarr");
        let (shape, semantic) = array::<u8>(&root, "/labels/semantic/0");
        let (_, instances) = array::<u32>(&root, "/labels/instances/0");
        let size = scene.size();
        assert_eq!(shape, [u64::from(size.h), u64::from(size.w)]);

        let mut expected = scene.map(size.rect(), |x, y| if scene.is_computed(x, y) { 0 } else { 255 });
        let mut px_of = BTreeMap::new();
        for nucleus in &scene.nuclei {
            let first = nucleus.runs[0];
            let id = instances[(first.y * size.w + first.x0) as usize];
            let px: u32 = nucleus.runs.iter().map(|r| r.x1 - r.x0).sum();
            assert!(px_of.insert(id, u64::from(px)).is_none(), "id {id} twice");
            for run in &nucleus.runs {
                for x in run.x0..run.x1 {
                    expected[(run.y * size.w + x) as usize] = nucleus.class;
                    assert_eq!(instances[(run.y * size.w + x) as usize], id);
                }
            }
        }
        assert!(semantic == expected, "{version:?}");
        assert_eq!(px_of.keys().copied().collect::<Vec<_>>(), (1..=scene.nuclei.len() as u32).collect::<Vec<_>>());
        assert_eq!(instances.iter().filter(|&&v| v != 0).count() as u64, px_of.values().sum::<u64>());

        let mut finer = (shape, instances);
        for level in 1..5 {
            let (shape, values) = array::<u32>(&root, &format!("/labels/instances/{level}"));
            assert_eq!(shape, [finer.0[0].div_ceil(2), finer.0[1].div_ceil(2)]);
            for (i, &value) in values.iter().enumerate() {
                let (y, x) = (i as u64 / shape[1], i as u64 % shape[1]);
                assert_eq!(value, finer.1[(2 * y * finer.0[1] + 2 * x) as usize], "level {level} ({x}, {y})");
            }
            finer = (shape, values);
        }
        let (shape, tissue) = array::<u8>(&root, "/labels/tissue/0");
        assert_eq!(shape, [u64::from(scene.tissue.h), u64::from(scene.tissue.w)]);
        assert!(tissue == scene.tissue.bits);
    }
}

#[test]
fn rows_read_back_have_the_probabilities_of_every_class_whether_they_are_an_output_or_not() {
    for is_output in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::new(dir.path(), 2100, 1300, 0);
        scene.settings.ome_zarr.as_mut().unwrap().prob = is_output;
        let prob_at = |channel: u32, x: u32, y: u32| ((x * 3 + y * 5) * (channel + 1) % 256) as u8;
        let mut writer = scene.writer(ResultKind::Semantic);
        assert!(!writer.has_probs());
        for core in scene.cores(512, 3) {
            // Background comes first.
            let data = (0..4).flat_map(|channel| scene.map(core, |x, y| prob_at(channel, x, y))).collect();
            writer.write(SlidePart::Prob { core, channels: 4, data }).unwrap();
            writer.write(scene.semantic_part(core)).unwrap();
        }
        assert!(writer.has_probs());
        let mut rows = 0;
        writer
            .semantic_rows(&mut |y, _, probs| {
                rows += 1;
                assert_eq!(probs.len(), 3);
                for (row, channel) in probs.iter().zip(1..) {
                    assert!((0..).zip(*row).all(|(x, &p)| p == prob_at(channel, x, y)), "row {y}");
                }
            })
            .unwrap();
        assert_eq!(rows, scene.size().h);
        writer.commit().unwrap();
        let slide = dir.path().join("masks").read_dir().unwrap().next().unwrap().unwrap().path();
        assert_eq!(slide.join("prob").exists(), is_output);
    }
}

#[test]
fn rows_read_back_are_the_classes_written() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path(), 5000, 3900, 0);
    let mut writer = scene.writer(ResultKind::Semantic);
    for core in scene.cores(512, 3) {
        writer.write(scene.semantic_part(core)).unwrap();
    }
    let mut next = 0;
    writer
        .semantic_rows(&mut |y, row, probs| {
            assert!(probs.is_empty(), "none were written");
            assert_eq!(y, next);
            next += 1;
            assert!((0..scene.size().w).zip(row).all(|(x, &c)| c == scene.class_at(x, y)), "row {y}");
        })
        .unwrap();
    assert_eq!(next, scene.size().h);
    let committed = writer.commit().unwrap();
    let count =
        |class| scene.map(scene.size().rect(), |x, y| scene.class_at(x, y)).iter().filter(|&&c| c == class).count();
    assert_eq!(committed.class_area_um2, [1, 2, 3].map(|c| count(c) as f64 * 0.25));
    assert!(committed.class_area_um2[0] > 0.0);
}

#[test]
fn a_dropped_writer_leaves_nothing_and_a_second_run_replaces_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(dir.path(), 3000, 2600, 60);
    let mut writer = scene.writer(ResultKind::Nuclei);
    writer.write(scene.nuclei_part(scene.size().rect())).unwrap();
    drop(writer);
    assert!(files(dir.path()).is_empty());

    let first = scene.write_nuclei(512, 0);
    scene.nuclei.truncate(10);
    scene.settings.geojson = None;
    let second = scene.write_nuclei(512, 0);
    assert_eq!(second.instances, 10);
    assert_eq!(first.artifacts.len(), second.artifacts.len() + 1);
    assert!(!dir.path().join("geojson/scene-1.geojson.gz").exists());
    assert!(!dir.path().join(PARTIAL_DIR).exists());
}

#[test]
fn a_slide_without_tissue_gives_empty_valid_outputs() {
    for kind in [ResultKind::Nuclei, ResultKind::Semantic] {
        let dir = tempfile::tempdir().unwrap();
        let scene = Scene::new(dir.path(), 700, 600, 0);
        let committed = scene.writer(kind).commit().unwrap();
        assert_eq!((committed.instances, committed.computed_area_um2), (0, 0.0));
        assert_eq!(committed.artifacts.len(), 4);
        let (_, semantic) = array::<u8>(&dir.path().join("masks/scene-1.ome.zarr"), "/labels/semantic/0");
        assert!(semantic.iter().all(|&c| c == 255));
    }
}

#[test]
fn each_output_can_be_left_out_and_changes_no_other() {
    for kind in [ResultKind::Nuclei, ResultKind::Semantic] {
        let dir = tempfile::tempdir().unwrap();
        let written = |name: &str, leave_out: &dyn Fn(&mut wsi_run::config::settings::Output)| {
            let at = dir.path().join(name);
            let mut scene = Scene::new(&at, 3000, 2600, 60);
            leave_out(&mut scene.settings);
            let committed = match kind {
                ResultKind::Nuclei => scene.write_nuclei(512, 0),
                _ => scene.write_semantic(512, 0),
            };
            let names: Vec<_> = committed.artifacts.iter().map(|a| a.path.display().to_string()).collect();
            (files(&at), names, committed.class_area_um2)
        };
        let (all, names, areas) = written("all", &|_| {});
        assert_eq!(names.len(), 4, "{names:?}");
        for (left_out, folder) in [
            ("ome_zarr", "masks/"),
            ("parquet", if kind == ResultKind::Nuclei { "nuclei/" } else { "lesions/" }),
            ("geojson", "geojson/"),
            ("overview", "overviews/"),
        ] {
            let (some, some_names, some_areas) = written(left_out, &|settings| match left_out {
                "ome_zarr" => settings.ome_zarr = None,
                "parquet" => settings.parquet = None,
                "geojson" => settings.geojson = None,
                _ => settings.overview = None,
            });
            let kept: Vec<_> = names.iter().filter(|name| !name.starts_with(folder)).cloned().collect();
            assert_eq!(some_names, kept, "{left_out}");
            assert!(all.keys().any(|name| name.starts_with(folder)), "{left_out}");
            let expected = all.iter().filter(|(name, _)| !name.starts_with(folder));
            assert!(some.iter().eq(expected), "{left_out} {kind:?}");
            assert_eq!(some_areas, areas);
        }
    }
}

#[test]
fn a_part_that_does_not_fit_its_core_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path(), 700, 600, 0);
    let core = scene.size().rect();
    let mut writer = scene.writer(ResultKind::Semantic);
    assert!(writer.write(SlidePart::Semantic { core, classes: vec![0; 3] }).is_err());
    assert!(writer.write(SlidePart::Prob { core, channels: 2, data: vec![0; 3] }).is_err());
    assert!(writer.write(SlidePart::Nuclei { core, computed: vec![], instances: vec![] }).is_err());
}

#[test]
fn verify_finds_nothing_in_good_outputs_and_says_what_is_wrong_in_bad_ones() {
    for version in [OmeZarrVersion::V05, OmeZarrVersion::V04] {
        let dir = tempfile::tempdir().unwrap();
        let said = verify(dir.path()).unwrap_err().to_string();
        assert!(said.starts_with("cannot read: "), "{said}");
        let mut scene = Scene::new(dir.path(), 3000, 2600, 60);
        scene.settings.ome_zarr.as_mut().unwrap().version = version;
        let committed = scene.write_nuclei(512, 0);
        let id = "scene-1".to_owned();
        let status = Some(SlideStatus::Complete);
        let mut record = SlideRecord { id, status, instances: committed.instances, ..SlideRecord::default() };
        write_slides_table(dir.path(), std::slice::from_ref(&record)).unwrap();
        let manifest = serde_json::json!({"slides": [{"id": "scene-1", "artifacts": committed.artifacts}]});
        fs::write(dir.path().join("run.json"), manifest.to_string()).unwrap();
        let report = verify(dir.path()).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.artifacts_checked, report.rows_checked), (4, committed.instances));

        // One nucleus more in the table of slides, and one class fewer in the mask.
        record.instances += 1;
        write_slides_table(dir.path(), &[record]).unwrap();
        let semantic = dir.path().join("masks/scene-1.ome.zarr/labels/semantic/0");
        let victim =
            files(&semantic).into_keys().find(|name| !name.ends_with(".json") && !name.starts_with('.')).unwrap();
        fs::remove_file(semantic.join(victim)).unwrap();
        let report = verify(dir.path()).unwrap();
        let said = report.slides[0].findings.join("\n");
        assert!(said.contains("the manifest says"), "{said}");
        assert!(said.contains("slides.parquet says"), "{said}");
        assert!(said.contains("in the class mask"), "{said}");

        // Garbage where a table was.
        fs::write(dir.path().join("nuclei/scene-1.parquet"), b"PAR1 nothing PAR1").unwrap();
        let report = verify(dir.path()).unwrap();
        let said = report.slides[0].findings.join("\n");
        assert!(said.contains("cannot read Parquet") && !said.contains("cannot write"), "{said}");

        // No table, and no mask, where the manifest lists them.
        fs::remove_file(dir.path().join("nuclei/scene-1.parquet")).unwrap();
        fs::remove_dir_all(dir.path().join("masks/scene-1.ome.zarr/labels")).unwrap();
        let report = verify(dir.path()).unwrap();
        let said = report.slides[0].findings.join("\n");
        assert!(said.contains("cannot read") && !said.contains("cannot write"), "{said}");
    }
}

/// A slide whose tiles get the classes that `class` says (255: no answer), with the table of slides.
fn write_tiles(dir: &Path, class: impl Fn(u32, u32) -> u8) {
    let mut scene = Scene::new(dir, 3000, 2000, 0);
    let grid = TargetGrid::new(Size::new(3000, 2000), scene.header.grid.slide_mpp, Mpp::new(64.0).unwrap());
    scene.header.grid = grid;
    let size = scene.size();
    let answers: Vec<((u32, u32), Vec<i16>)> = (0..size.h)
        .flat_map(|y| (0..size.w).map(move |x| (x, y)))
        .filter(|&(x, y)| class(x, y) != 255)
        .map(|(x, y)| ((x, y), (1..=3).map(|c| if c == class(x, y) { 12_000 } else { 2_000 }).collect()))
        .collect();
    let maps = tile_maps(&grid, 3, answers.iter().map(|(at, probs)| (*at, &probs[..])));
    let (core, mut writer) = (size.rect(), scene.writer(ResultKind::Tiles));
    writer.write(SlidePart::Prob { core, channels: 3, data: maps.prob }).unwrap();
    writer.write(SlidePart::Tiles { core, tiles: maps.tiles }).unwrap();
    writer.write(SlidePart::Semantic { core, classes: maps.classes }).unwrap();
    let committed = writer.commit().unwrap();
    let status = Some(SlideStatus::Complete);
    let record =
        SlideRecord { id: "scene-1".to_owned(), status, instances: committed.instances, ..SlideRecord::default() };
    write_slides_table(dir, &[record]).unwrap();
}

#[test]
fn verify_compares_tables_of_tiles_with_their_masks() {
    let class = |x: u32, y: u32| if (x + y).is_multiple_of(5) { 255 } else { 1 + (x * y % 3) as u8 };
    let good = tempfile::tempdir().unwrap();
    write_tiles(good.path(), class);
    let findings = |dir: &Path| {
        let report = verify(dir).unwrap();
        (report.rows_checked, report.slides[0].findings.join("\n"))
    };
    let (rows, said) = findings(good.path());
    assert!(rows > 50 && said.is_empty(), "{rows} rows: {said}");
    // The table of other answers to the same tiles, of answers to fewer, and of answers to others.
    type Class<'a> = &'a dyn Fn(u32, u32) -> u8;
    let others: [(Class<'_>, &str); 3] = [
        (&|x, y| if class(x, y) == 255 { 255 } else { 1 + class(x, y) % 3 }, "in the class mask"),
        (&|x, y| if x == 3 { 255 } else { class(x, y) }, "the table `"),
        (&|x, y| class(x + 1, y), "in the class mask"),
    ];
    for (other, expected) in others {
        let bad = tempfile::tempdir().unwrap();
        write_tiles(bad.path(), other);
        assert_eq!(findings(bad.path()).1, "");
        let table = "tiles/scene-1.parquet";
        fs::copy(good.path().join(table), bad.path().join(table)).unwrap();
        let said = findings(bad.path()).1;
        assert!(said.contains(expected), "{said}");
    }
}
