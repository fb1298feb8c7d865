//! Other people's readers open what is written, and find in it what was given.
//!
//! Needs a Python with `tests/readers/requirements.txt`: `WSI_RUN_READERS_PYTHON`, or `target/readers-venv`.

mod scene;

use scene::Scene;
use std::{fs, path::PathBuf, process::Command};
use wsi_run::{config::settings::OmeZarrVersion, output::SlidePart};

fn python() -> Option<PathBuf> {
    let given = std::env::var_os("WSI_RUN_READERS_PYTHON").map(PathBuf::from);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/readers-venv/bin/python");
    given.or(built.is_file().then_some(built))
}

#[test]
fn other_peoples_readers_find_what_was_given() {
    let Some(python) = python() else {
        println!("skipped: no readers' Python (set WSI_RUN_READERS_PYTHON)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut expected = serde_json::Map::new();
    for (name, version) in [("nuclei-0.5", OmeZarrVersion::V05), ("nuclei-0.4", OmeZarrVersion::V04)] {
        let mut scene = Scene::new(&dir.path().join(name), 5000, 3900, 30);
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
    let mut scene = Scene::new(&dir.path().join("semantic-0.5"), 5000, 3900, 0);
    scene.settings.ome_zarr.as_mut().unwrap().prob = true;
    scene.write_semantic(1024, 3);
    let size = scene.size();
    let classes = scene.map(size.rect(), |x, y| scene.class_at(x, y));
    let px: Vec<_> = (0..=255_u8).map(|c| classes.iter().filter(|&&v| v == c).count()).collect();
    expected.insert("semantic-0.5".to_owned(), serde_json::json!({"shape": [size.h, size.w], "class_px": px}));
    fs::write(dir.path().join("expected.json"), serde_json::Value::Object(expected).to_string()).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/readers/check.py");
    let output = Command::new(&python).arg(script).arg(dir.path()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
