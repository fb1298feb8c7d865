//! Where the real slides and patches are, for the tests that read them.
#![allow(clippy::print_stdout, reason = "a test that reads nothing says so")]

use std::path::{Path, PathBuf};

/// `path` below `WSI_RUN_TEST_DATA` (relative to the repository; default `../shared/data`), or nothing and a word
/// about it.
pub(crate) fn test_data(path: &str) -> Option<PathBuf> {
    let root = std::env::var("WSI_RUN_TEST_DATA").unwrap_or_else(|_| "../shared/data".to_owned());
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(root).join(path);
    if !found.exists() {
        println!("skipped: no test data");
        return None;
    }
    Some(found)
}
