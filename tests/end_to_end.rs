//! The whole program on synthetic and real slides: what comes out, and that it depends on nothing it should not.

#![expect(clippy::unwrap_used, reason = "a program that cannot be started has failed the test")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs the program in `dir` on a YAML text.
fn wsi_run(dir: &Path, yaml: &str, arguments: &[&str]) -> Output {
    let pipeline = dir.join("pipeline.yaml");
    fs::write(&pipeline, yaml).unwrap();
    Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .current_dir(dir)
        .arg(&pipeline)
        .args(["--no-progress", "-q"])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every file below `dir` with its bytes, by relative path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Masks, tables and pictures; what records times and settings is left out.
fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = files(dir);
    all.retain(|name, _| !matches!(name.as_str(), "run.json" | "slides.parquet"));
    all
}

fn assert_same(name: &str, expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{name}: other files");
    for (file, bytes) in expected {
        assert!(bytes == &found[file], "{name}: {file} differs");
    }
}

const NUCLEI: &str = "\
slides: { synthetic: { count: 1, width_px: 5000, height_px: 3600, mpp: 0.25, seed: 5 } }
model: { hematoxylin: {} }
output: { dir: out, geojson: { origin: full } }
";

const AREAS: &str = "\
slides: { synthetic: { count: 1, width_px: 3000, height_px: 2400, mpp: 0.5, seed: 6 } }
tiling: { input_mpp: 0.5 }
model: { stain_threshold: { stain: hematoxylin, threshold_od: 0.2 } }
output: { dir: out }
";

/// The same nuclei and the same mask bytes, however the slide is cut, batched and spread over threads.
fn does_not_depend_on_cutting(yaml: &str, variants: &[&[&str]]) {
    let home = tempfile::tempdir().unwrap();
    let run = |name: &str, sets: &[&str]| {
        let dir = home.path().join(name);
        fs::create_dir(&dir).unwrap();
        let arguments: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).collect();
        let output = wsi_run(&dir, yaml, &arguments);
        assert!(output.status.success(), "{sets:?}: {}", text(&output.stderr));
        results(&dir.join("out"))
    };
    let reference = run("reference", &["run.threads=1"]);
    assert!(reference.len() >= 4, "{:?}", reference.keys());
    for (i, sets) in variants.iter().enumerate() {
        assert_same(&format!("{sets:?}"), &reference, &run(&format!("v{i}"), sets));
    }
}

#[test]
fn nuclei_do_not_depend_on_tiles_batches_blocks_regions_or_threads() {
    does_not_depend_on_cutting(
        NUCLEI,
        &[
            &["run.threads=4"],
            &["tiling.tile_px=384", "batch.size=5"],
            &["tiling.tile_px=1000", "tiling.stride_px=500", "instances.region_px=512"],
            &["stitch.block_px=512", "instances.region_px=2048", "batch.size=3", "run.threads=3"],
            &["stitch={blend: {window: hann}}", "tiling.tile_px=600", "tiling.stride_px=300"],
            &["pixels.stain={none: {}}", "run.slides_in_flight=1"],
        ],
    );
}

#[test]
fn stain_normalised_nuclei_do_not_depend_on_how_the_slide_is_cut() {
    let yaml = format!("{NUCLEI}pixels: {{ stain: {{ macenko: {{ reference: standard }} }} }}\n");
    does_not_depend_on_cutting(&yaml, &[&["tiling.tile_px=448", "instances.region_px=512", "run.threads=3"]]);
}

#[test]
fn class_masks_do_not_depend_on_tiles_batches_blocks_regions_or_threads() {
    does_not_depend_on_cutting(
        AREAS,
        &[
            &["run.threads=4", "tiling.tile_px=300"],
            &["tiling.tile_px=777", "tiling.stride_px=512", "batch.size=4", "instances.region_px=512"],
            &["stitch={blend: {window: hann}}", "tiling.tile_px=500", "tiling.stride_px=250", "stitch.block_px=1024"],
        ],
    );
}
