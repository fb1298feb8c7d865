//! Other people's readers open what is written, and find in it what was given.
//!
//! Needs a Python with `tests/readers/requirements.txt`: `WSI_RUN_READERS_PYTHON`, or `target/readers-venv`; and a Node
//! with the packages of `tests/readers/package.json` in `target/readers-node`. What is not there is skipped.

use crate::scene::Scene;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use wsi_run::{config::settings::OmeZarrVersion, output::SlidePart};

fn python() -> Option<PathBuf> {
    let given = std::env::var_os("WSI_RUN_READERS_PYTHON").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/readers-venv/bin/python");
    given.or(built.is_file().then_some(built))
}

/// A folder of `node_modules` with `tests/readers/package.json`, and the Node to use it with.
fn node() -> Option<PathBuf> {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/readers-node");
    let has_node = || Command::new("node").arg("--version").output().is_ok_and(|o| o.status.success());
    (built.join("node_modules/zarrita").is_dir() && has_node()).then_some(built)
}

/// Runs one of the scripts in `tests/readers` on what was written to `dir`.
fn check(command: &mut Command, dir: &Path) {
    let output = command.arg(dir).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes some scenes below `dir`, and what is in them as `expected.json`.
fn write_scenes(dir: &Path) {
    let mut expected = serde_json::Map::new();
    for (name, version) in [("nuclei-0.5", OmeZarrVersion::V05), ("nuclei-0.4", OmeZarrVersion::V04)] {
        let mut scene = Scene::new(&dir.join(name), 5000, 3900, 30);
        scene.settings.ome_zarr.as_mut().unwrap().version = version;
        let committed = scene.write_nuclei(1024, 3);
        let size = scene.size();
        let SlidePart::Nuclei { computed, .. } = scene.nuclei_part(size.rect()) else { unreachable!() };
        let px: u64 = scene.nuclei.iter().flat_map(|n| &n.runs).map(|r| u64::from(r.x1 - r.x0)).sum();
        let areas: f64 = scene.nuclei.iter().map(|n| n.features.area_um2).sum();
        let value = serde_json::json!({
            "instances": committed.instances,
            "class_counts": committed.class_counts,
            "shape": [size.h, size.w],
            "computed_px": computed.iter().map(|&c| u64::from(c)).sum::<u64>(),
            "nucleus_px": px,
            "area_um2": areas,
            "tissue_px": scene.tissue.count(),
        });
        expected.insert(name.to_owned(), value);
    }
    let mut scene = Scene::new(&dir.join("semantic-0.5"), 5000, 3900, 0);
    scene.settings.ome_zarr.as_mut().unwrap().prob = true;
    scene.write_semantic(1024, 3);
    let size = scene.size();
    let classes = scene.map(size.rect(), |x, y| scene.class_at(x, y));
    let px: Vec<_> = (0..=255_u8).map(|c| classes.iter().filter(|&&v| v == c).count()).collect();
    expected.insert("semantic-0.5".to_owned(), serde_json::json!({"shape": [size.h, size.w], "class_px": px}));
    fs::write(dir.join("expected.json"), serde_json::Value::Object(expected).to_string()).unwrap();
}

#[test]
fn other_peoples_readers_find_what_was_given() {
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/readers");
    let (python, node) = (python(), node());
    let dir = tempfile::tempdir().unwrap();
    if python.is_some() || node.is_some() {
        write_scenes(dir.path());
    }
    match python {
        Some(python) => check(Command::new(python).arg(scripts.join("check.py")), dir.path()),
        None => println!("skipped: no readers' Python (set WSI_RUN_READERS_PYTHON)"),
    }
    match node {
        Some(folder) => {
            // Node looks for packages beside the script, not beside its user.
            let script = folder.join("check.mjs");
            fs::copy(scripts.join("check.mjs"), &script).unwrap();
            check(Command::new("node").arg(script), dir.path());
        }
        None => println!("skipped: no readers' Node packages (see .ci/setup)"),
    }
}
