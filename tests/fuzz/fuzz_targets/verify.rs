//! Whatever was done to the results of a run, `verify` says what is wrong, soon and without a panic.
//!
//! Input: which file, where, and the bytes that are put there; a length of 255 cuts the file instead.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::OnceLock};
use wsi_run::output::verify;

struct Results {
    dir: PathBuf,
    /// Path and bytes as written.
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn results() -> &'static Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| {
        // `WSI_RUN_FUZZ_RESULTS` is a small output directory; a copy of it is mutated.
        let from = PathBuf::from(std::env::var_os("WSI_RUN_FUZZ_RESULTS").expect("WSI_RUN_FUZZ_RESULTS is set"));
        let dir = std::env::temp_dir().join(format!("wsi-run-fuzz-{}.results", std::process::id()));
        let (mut open, mut files) = (vec![from.clone()], vec![]);
        while let Some(at) = open.pop() {
            for entry in fs::read_dir(&at).expect("the results can be read").flatten() {
                let path = entry.path();
                let name = path.strip_prefix(&from).expect("it lies below").to_owned();
                if name.starts_with(".state") || name.starts_with("logs") {
                    continue;
                }
                if path.is_dir() {
                    fs::create_dir_all(dir.join(&name)).expect("a copy can be made");
                    open.push(path);
                } else {
                    let bytes = fs::read(&path).expect("the results can be read");
                    fs::create_dir_all(dir.join(&name).parent().expect("it has one")).expect("a copy can be made");
                    fs::write(dir.join(&name), &bytes).expect("a copy can be made");
                    files.push((dir.join(&name), bytes));
                }
            }
        }
        files.sort();
        Results { dir, files }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let results = results();
    let [file, a, b, c, len, rest @ ..] = bytes else { return };
    let (path, good) = &results.files[usize::from(*file) % results.files.len()];
    // Counted from the end, where the footers are.
    let at = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
    let at = good.len() - at % (good.len() + 1);
    let mut bad = good.clone();
    if *len == 255 {
        bad.truncate(at);
    } else {
        let end = (at + usize::from(*len)).min(good.len());
        bad.splice(at..end, rest.iter().copied());
    }
    fs::write(path, bad).expect("the copy can be written");
    let _ = verify(&results.dir);
    fs::write(path, good).expect("the copy can be written");
});
