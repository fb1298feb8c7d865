//! Whatever the bytes, the loader answers with settings or with at least one diagnostic, soon and without a panic.
//!
//! The bytes up to the first zero are the file, the rest are overrides separated by zeros.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsi_run::config::{self, environment::Environment, resolve::load_text};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let overrides: Vec<String> = parts.map(str::to_owned).collect();
    let environment = Environment { threads: None, cpus: 4 };
    match load_text("fuzz.yaml", file, &overrides, &environment) {
        Ok(loaded) => {
            let again = load_text("resolved.yaml", &loaded.resolved_yaml, &[], &environment);
            let again = again.unwrap_or_else(|found| panic!("{}\n{}", loaded.resolved_yaml, config::render(&found)));
            assert_eq!(again.settings, loaded.settings);
        }
        Err(found) => {
            assert!(!found.is_empty());
            config::render(&found);
        }
    }
});
