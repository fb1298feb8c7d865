//! What is fed to each parser of ours, and what must hold whatever the bytes.
//!
//! Run by libFuzzer (`tests/fuzz/run.sh`) and, over the seeds and some mutations of them, by the ordinary tests.

mod annotations;
mod archives;
mod batch;
mod corrections;
mod results;
mod settings;
mod slides;
mod weights;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A parser and what it is fed.
pub struct Parser {
    /// Its name.
    pub name: &'static str,
    /// Parses; panics when what must hold does not.
    pub parse: fn(&[u8]),
    /// Sound inputs, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every parser of ours that reads what others wrote.
#[rustfmt::skip]
pub const ALL: &[Parser] = &[
    Parser { name: "config", parse: settings::config, seeds: settings::config_seeds },
    Parser { name: "training", parse: settings::training, seeds: settings::training_seeds },
    Parser { name: "mpp_csv", parse: settings::mpp_csv, seeds: settings::mpp_csv_seeds },
    Parser { name: "classes", parse: settings::classes, seeds: settings::classes_seeds },
    Parser { name: "tiff", parse: slides::tiff, seeds: slides::tiff_seeds },
    Parser { name: "description", parse: slides::description, seeds: slides::description_seeds },
    Parser { name: "picture", parse: slides::picture, seeds: slides::picture_seeds },
    Parser { name: "series", parse: slides::series, seeds: slides::series_seeds },
    Parser { name: "mask", parse: annotations::mask, seeds: annotations::mask_seeds },
    Parser { name: "geojson", parse: annotations::geojson, seeds: annotations::geojson_seeds },
    Parser { name: "outlines", parse: annotations::outlines, seeds: annotations::outlines_seeds },
    Parser { name: "dots", parse: annotations::dots, seeds: annotations::dots_seeds },
    Parser { name: "labels", parse: archives::labels, seeds: archives::labels_seeds },
    Parser { name: "zarr", parse: archives::zarr, seeds: archives::zarr_seeds },
    Parser { name: "weights", parse: weights::safetensors, seeds: weights::safetensors_seeds },
    Parser { name: "pickle", parse: weights::pickle, seeds: weights::pickle_seeds },
    Parser { name: "checkpoint", parse: weights::checkpoint, seeds: weights::checkpoint_seeds },
    Parser { name: "journal", parse: batch::journal, seeds: batch::journal_seeds },
    Parser { name: "state", parse: batch::state, seeds: batch::state_seeds },
    Parser { name: "verify", parse: results::verify, seeds: results::verify_seeds },
    Parser { name: "refine", parse: corrections::refine, seeds: corrections::refine_seeds },
    Parser { name: "evaluation", parse: corrections::evaluation, seeds: corrections::evaluation_seeds },
];

/// A directory of this process and of `parser` alone, in memory where the system has that.
fn scratch(parser: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = base.join(format!("wsi-run-parsers-{}-{parser}", std::process::id()));
    fs::create_dir_all(&dir).expect("the directory of temporary files can be written");
    dir
}

/// Removes what a parser was fed from.
#[allow(dead_code, reason = "under libFuzzer `run.sh` does it")]
pub fn clean(parser: &str) {
    for name in [parser.to_owned(), format!("{parser}-made")] {
        let _ = fs::remove_dir_all(scratch(&name));
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("the directory of temporary files can be written");
}

/// The parts of `bytes` between zeros.
fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|&byte| byte == 0).collect()
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&0)
}

/// The project's directory.
fn project() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|dir| dir.join("fixtures").is_dir()).expect("the fixtures are there").to_owned()
}

/// The files of a directory of the project that have one of the `endings`, at most `max_bytes` each.
fn files(dir: &str, endings: &[&str], max_bytes: u64) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(project().join(dir))
        .expect("the fixtures are there")
        .flatten()
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= max_bytes))
        .map(|entry| entry.path())
        .filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no file in {dir}");
    paths.iter().map(|path| fs::read(path).expect("a fixture can be read")).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
