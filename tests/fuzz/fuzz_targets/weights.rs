//! Whatever the bytes, a file of weights is opened or refused with a message that names it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::OnceLock};
use wsi_run::model::weights::Weights;

fuzz_target!(|bytes: &[u8]| {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let name = || std::env::temp_dir().join(format!("wsi-run-fuzz-{}.safetensors", std::process::id()));
    let path = FILE.get_or_init(name);
    // As it is, and as the header of a file whose length is right.
    let mut framed = (bytes.len() as u64).to_le_bytes().to_vec();
    framed.extend_from_slice(bytes);
    for bytes in [bytes, &framed] {
        fs::write(path, bytes).expect("the directory of temporary files can be written");
        if let Err(error) = Weights::open(path) {
            assert!(error.to_string().contains("safetensors"));
        }
    }
});
