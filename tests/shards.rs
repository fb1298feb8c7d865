//! Which slides a task runs: by their tissue, the same for every task, whatever is around and whatever was before.

use crate::program::{assert_code, command, files, home, rows, text, wsi_run};
use crate::slides::directory;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Output,
};
use wsi_run::{
    config::settings::Synthetic,
    run::{SlideList, deal},
    slides::{EntrySource, SlideEntry, SyntheticSlide},
    units::Mpp,
};

/// Glass, stored uncompressed: 256-px tiles of a level of `side_px` and one of a quarter, at 0.5 µm/px.
fn blank_slide(path: &Path, side_px: u32) {
    let mut bytes = b"II*\0\0\0\0\0".to_vec();
    let mut link = 4;
    for (i, side) in [side_px, side_px / 4].into_iter().enumerate() {
        let tiles = (side / 256).pow(2);
        let first = bytes.len() as u32;
        bytes.resize(bytes.len() + tiles as usize * 256 * 256 * 3, 244);
        let tables = bytes.len() as u32;
        (0..tiles).for_each(|k| bytes.extend((first + k * 256 * 256 * 3).to_le_bytes()));
        (0..tiles).for_each(|_| bytes.extend((256 * 256 * 3_u32).to_le_bytes()));
        let extra = bytes.len() as u32;
        bytes.extend([8_u16, 8, 8, 0].iter().flat_map(|v| v.to_le_bytes()));
        bytes.extend([20_000_u32 >> (2 * i), 1].iter().flat_map(|v| v.to_le_bytes()));
        let at = bytes.len() as u32;
        bytes[link..link + 4].copy_from_slice(&at.to_le_bytes());
        let of_one = |value: u32, table: u32| if tiles == 1 { value } else { table };
        let entries: [(u16, u16, u32, u32); 15] = [
            (254, 4, 1, i as u32),
            (256, 4, 1, side),
            (257, 4, 1, side),
            (258, 3, 3, extra),
            (259, 3, 1, 1),
            (262, 3, 1, 2),
            (277, 3, 1, 3),
            (282, 5, 1, extra + 8),
            (283, 5, 1, extra + 8),
            (284, 3, 1, 1),
            (296, 3, 1, 3),
            (322, 4, 1, 256),
            (323, 4, 1, 256),
            (324, 4, tiles, of_one(first, tables)),
            (325, 4, tiles, of_one(256 * 256 * 3, tables + 4 * tiles)),
        ];
        bytes.extend(directory(&entries, 0));
        link = bytes.len() - 4;
    }
    fs::write(path, bytes).unwrap();
}

/// Six slides of tissue, small in bytes, and two of glass, large.
fn slides(dir: &Path) -> Vec<PathBuf> {
    fs::create_dir(dir).unwrap();
    let mut paths = vec![];
    for (i, (width_px, height_px)) in
        [(3600, 1600), (3000, 1600), (2600, 1600), (2400, 1600), (2200, 1600), (2000, 1600)].into_iter().enumerate()
    {
        let drawn = Synthetic { count: 1, width_px, height_px, mpp: Mpp::new(0.5).unwrap(), seed: i as u64 };
        paths.push(dir.join(format!("tissue-{i}.tif")));
        SyntheticSlide::new(&drawn, 0).write_tiff(&paths[i], 60).unwrap();
    }
    for side_px in [2048, 3072] {
        paths.push(dir.join(format!("blank-{side_px}.tif")));
        blank_slide(paths.last().unwrap(), side_px);
    }
    paths
}

fn pipeline(paths: &[PathBuf]) -> tempfile::TempDir {
    home(&format!(
        "slides: {{ list: {paths:?} }}\nmodel: hematoxylin\noutput: {{ dir: out }}\nrun: {{ settle_secs: 0 }}\n"
    ))
}

fn run_shard(home: &Path, shard: &str, change: impl FnOnce(&mut std::process::Command)) -> Output {
    let mut command = command(home, &["p.yaml", "-q", "--shard", shard]);
    change(&mut command);
    command.output().unwrap()
}

/// The slides of a task, and what it says that the whole batch was.
fn dealt(home: &Path, shard: &str) -> (BTreeSet<String>, String) {
    let name = format!("out/run-{}.json", shard.replace('/', "-of-"));
    let run: Value = serde_json::from_slice(&fs::read(home.join(name)).unwrap()).unwrap();
    let ids = run["slides"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
    (ids, run["list_digest"].as_str().unwrap().to_owned())
}

/// µm² of tissue that were found in each slide.
fn tissue_um2(out: &Path) -> BTreeMap<String, f64> {
    let of = |row: Vec<String>| {
        let after = |name: &str| row.iter().find_map(|c| c.strip_prefix(name)).unwrap().trim_matches('"').to_owned();
        (after("id "), after("tissue_area_um2 ").parse().unwrap())
    };
    rows(out).into_values().map(of).collect()
}

/// The largest share of all tissue that one of the shards has, over an equal share.
fn imbalance(tissue: &BTreeMap<String, f64>, shards: &[BTreeSet<String>]) -> f64 {
    let load = |shard: &BTreeSet<String>| -> f64 { shard.iter().map(|id| tissue[id]).sum() };
    let most = shards.iter().map(load).fold(0.0, f64::max);
    most * shards.len() as f64 / tissue.values().sum::<f64>()
}

#[test]
fn shards_share_out_tissue_where_bytes_mislead_and_are_the_same_whatever_was_before() {
    let data = tempfile::tempdir().unwrap();
    let mut paths = slides(&data.path().join("slides"));
    let all: BTreeSet<String> = paths.iter().map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();

    let first = pipeline(&paths);
    let shards = ["1/3", "2/3", "3/3"];
    for shard in shards {
        assert_code(&run_shard(first.path(), shard, |_| {}), 0);
    }
    let of: Vec<_> = shards.iter().map(|shard| dealt(first.path(), shard)).collect();
    let ids: Vec<BTreeSet<String>> = of.iter().map(|(ids, _)| ids.clone()).collect();
    assert_eq!(ids.iter().map(BTreeSet::len).sum::<usize>(), all.len(), "disjoint");
    assert_eq!(ids.iter().flatten().cloned().collect::<BTreeSet<_>>(), all, "whole");
    assert!(of.iter().all(|(_, digest)| *digest == of[0].1));
    assert_code(&wsi_run(first.path(), &["merge", "out"]), 0);

    let tissue = tissue_um2(&first.path().join("out"));
    let is_told_apart = |(id, um2): (&String, &f64)| (*um2 == 0.0) == id.starts_with("blank");
    assert!(tissue.iter().all(is_told_apart), "{tissue:?}");
    // A small look tells nearly what the run finds.
    for estimate in files(&first.path().join("out/.state/work")) {
        let told: Value = serde_json::from_slice(&estimate.1).unwrap();
        let (found, told) = (tissue[estimate.0.split('.').next().unwrap()], told["work_um2"].as_f64().unwrap());
        assert!((told - 50_000.0 - found).abs() <= 0.2 * found, "{}: {told}, found {found} µm²", estimate.0);
    }
    let entry = |path: &PathBuf| SlideEntry {
        id: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        path: path.clone(),
        source: EntrySource::File,
    };
    let by_bytes = SlideList::by_bytes(&paths.iter().map(entry).collect::<Vec<_>>());
    let deals = deal(&by_bytes.slides, 3);
    let ids_by_bytes: Vec<BTreeSet<String>> = (1..=3)
        .map(|shard| by_bytes.slides.iter().zip(&deals).filter(move |(_, of)| **of == shard).map(|(s, _)| s.id.clone()))
        .map(Iterator::collect)
        .collect();
    let (by_tissue, by_bytes) = (imbalance(&tissue, &ids), imbalance(&tissue, &ids_by_bytes));
    println!("largest task over an equal share: {by_tissue:.2} by tissue, {by_bytes:.2} by bytes");
    assert!(by_tissue < 1.15 && by_bytes > by_tissue + 0.3, "{by_tissue} by tissue, {by_bytes} by bytes");

    // All is done, and the first task runs again.
    assert_code(&run_shard(first.path(), "1/3", |_| {}), 0);
    assert_eq!(dealt(first.path(), "1/3"), of[0]);
    // Nothing is known of the work any more.
    fs::remove_dir_all(first.path().join("out/.state/work")).unwrap();
    assert_code(&run_shard(first.path(), "3/3", |_| {}), 0);
    assert_eq!(dealt(first.path(), "3/3"), of[2]);
    // Another directory, slides named in another order, one task alone, an environment that tells of other tasks.
    paths.reverse();
    let second = pipeline(&paths);
    let output = run_shard(second.path(), "2/3", |command| {
        command.args(["--threads", "1"]).env("SLURM_ARRAY_TASK_COUNT", "7").env("SLURM_ARRAY_TASK_ID", "5");
    });
    assert_code(&output, 0);
    assert_eq!(dealt(second.path(), "2/3"), of[1]);
}

#[test]
fn a_task_that_cannot_look_at_a_slide_deals_as_the_others_do() {
    if openslide_sys::ensure_loaded().is_err() {
        println!("skipped: no OpenSlide");
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vendors");
    let names = ["mirax.mrxs", "leica.scn", "ventana.bif", "hamamatsu.vms", "philips.tiff", "trestle.tif"];
    let paths: Vec<PathBuf> = names.iter().map(|name| fixtures.join(name)).collect();
    // It sees every slide, and none.
    for blind in ["1/2", "2/2"] {
        let home = pipeline(&paths);
        for shard in ["1/2", "2/2"] {
            let output = run_shard(home.path(), shard, |command| {
                if shard == blind {
                    command.env("OPENSLIDE_LIB", "/no/such/library");
                }
            });
            assert_code(&output, if shard == blind { 3 } else { 0 });
        }
        let (one, two) = (dealt(home.path(), "1/2"), dealt(home.path(), "2/2"));
        assert_eq!(one.1, two.1, "{blind} is blind: the list is the same");
        assert_eq!(one.0.len() + two.0.len(), 6);
        let merged = wsi_run(home.path(), &["merge", "out"]);
        assert!(!text(&merged.stdout).contains("slide list"), "{}", text(&merged.stdout));
    }
}
