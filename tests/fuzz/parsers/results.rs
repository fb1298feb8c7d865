//! The outputs of runs, as others may have changed them.

use super::scratch;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use wsi_run::{
    config::{environment::Environment, resolve::load_text},
    output::{Results, verify as verify_results},
    pipeline::{CancelToken, Part, Request, RunContext, Silent, execute},
};

const YAML: &str = "\
slides: { synthetic: { count: 1, width_px: 256, height_px: 256, mpp: 0.5, seed: 5 } }
tissue: { everything: {} }
model: { hematoxylin: {} }
output: { ome_zarr: { chunk_px: 256 }, overview: { max_px: 256 } }
run: { threads: 1 }
";

/// Makes a small run in the directory `name`.
pub fn make(name: &str) -> PathBuf {
    let dir = scratch(name).join("out");
    let overrides = vec![format!("output.dir={}", dir.display())];
    let environment = Environment { threads: None, cpus: 1 };
    let loaded = load_text("p.yaml", YAML, &overrides, &environment).expect("the pipeline is right");
    let request = Request {
        config_path: Path::new("p.yaml"),
        config_text: YAML,
        overrides: &overrides,
        settings: &loaded.settings,
        part: Part::Whole,
    };
    let context = RunContext { cancel: CancelToken::default(), progress: Arc::new(Silent) };
    assert_eq!(execute(&request, &context).expect("it runs").1, 0);
    dir
}

fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make("verify-made"))
}

/// Path and bytes of each of its files.
fn files() -> &'static [(PathBuf, Vec<u8>)] {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let (mut open, mut files) = (vec![made().to_owned()], vec![]);
        while let Some(at) = open.pop() {
            for path in fs::read_dir(&at).expect("the results can be read").flatten().map(|entry| entry.path()) {
                let name = path.strip_prefix(made()).expect("it lies below");
                match path.is_dir() {
                    true if name.starts_with(".state") || name.starts_with("logs") => {}
                    true => open.push(path),
                    false => files.push((path.clone(), fs::read(&path).expect("the results can be read"))),
                }
            }
        }
        files.sort();
        files
    })
}

/// Whatever was done to the results of a run, `verify` says what is wrong, and who reads them reads or refuses.
///
/// Input: which file, where (counted from the end), how many bytes are taken out, and the bytes that are put there; a
/// length of 255 cuts the file instead.
pub fn verify(bytes: &[u8]) {
    let [file, a, b, c, len, rest @ ..] = bytes else { return };
    let (path, good) = &files()[usize::from(*file) % files().len()];
    let at = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
    let at = good.len() - at % (good.len() + 1);
    let mut bad = good.clone();
    if *len == 255 {
        bad.truncate(at);
    } else {
        let end = (at + usize::from(*len)).min(good.len());
        bad.splice(at..end, rest.iter().copied());
    }
    fs::write(path, bad).expect("the results can be written");
    let _ = verify_results(made());
    let results = Results::new(made());
    for slide in results.slides().unwrap_or_default() {
        if let Ok(Some(nuclei)) = results.nuclei(&slide) {
            assert!(nuclei.len() < 1 << 20);
        }
        if let Ok(Some(mask)) = results.class_mask(&slide) {
            assert_eq!(mask.classes.len() as u64, u64::from(mask.w) * u64::from(mask.h));
        }
    }
    fs::write(path, good).expect("the results can be written");
}

pub fn verify_seeds() -> Vec<Vec<u8>> {
    // The footer, the middle and the beginning of each file.
    let at = |file: usize| {
        let bytes = files()[file].1.len();
        [9, bytes / 2, bytes].map(|at| vec![file as u8, at as u8, (at >> 8) as u8, (at >> 16) as u8, 1, b'7'])
    };
    (0..files().len()).flat_map(at).collect()
}
