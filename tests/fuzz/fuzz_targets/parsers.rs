//! Feeds mutated bytes to the parser that `WSI_RUN_PARSER` names, as `tests/fuzz/run.sh` does.

#![no_main]

#[path = "../parsers/mod.rs"]
mod parsers;

use libfuzzer_sys::fuzz_target;
use parsers::Parser;
use std::{fs, path::PathBuf, sync::OnceLock};

fn chosen() -> &'static Parser {
    static CHOSEN: OnceLock<&Parser> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("WSI_RUN_PARSER").unwrap_or_default();
        let known: Vec<&str> = parsers::ALL.iter().map(|parser| parser.name).collect();
        let found = parsers::ALL.iter().find(|parser| parser.name == name);
        found.unwrap_or_else(|| panic!("WSI_RUN_PARSER is `{name}`, expected one of {}", known.join(", ")))
    })
}

/// Writes the seeds where `WSI_RUN_SEEDS` says, before libFuzzer reads its corpus.
fn begin() {
    if let Some(dir) = std::env::var_os("WSI_RUN_SEEDS").map(PathBuf::from) {
        for (i, seed) in (chosen().seeds)().iter().enumerate() {
            fs::write(dir.join(format!("seed-{i:03}")), seed).expect("the corpus can be written");
        }
    }
}

fuzz_target!(init: begin(), |bytes: &[u8]| (chosen().parse)(bytes));
