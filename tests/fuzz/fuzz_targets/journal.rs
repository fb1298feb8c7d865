//! Whatever the bytes, a journal gives whole parts or nothing, in memory bounded by its own size.
//!
//! The checksums of the entries are made right, so that what is inside them is what is mutated, too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{fs, path::PathBuf, sync::OnceLock};
use wsi_run::output::{SlidePart, replay_journal};

fn check(path: &PathBuf, bytes: &[u8]) {
    fs::write(path, bytes).expect("the directory of temporary files can be written");
    let replayed = replay_journal(path, "me", &mut |parts| {
        for part in parts {
            let px = part.core().area();
            match part {
                SlidePart::Nuclei { computed, .. } => assert_eq!(computed.len() as u64, px),
                SlidePart::Semantic { classes, .. } => assert_eq!(classes.len() as u64, px),
                SlidePart::Prob { channels, data, .. } => assert_eq!(data.len() as u64, px * u64::from(channels)),
                SlidePart::Tiles { .. } => panic!("no journal holds tiles"),
            }
        }
        Ok(())
    });
    replayed.expect("what is read is no error");
}

fuzz_target!(|bytes: &[u8]| {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let path = FILE.get_or_init(|| std::env::temp_dir().join(format!("wsi-run-fuzz-{}.journal", std::process::id())));
    check(path, bytes);
    let mut framed = b"wsi-run journal 1 me\n".to_vec();
    for entry in bytes.split(|&byte| byte == b'\n') {
        framed.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        framed.extend_from_slice(&crc32(entry).to_le_bytes());
        framed.extend_from_slice(entry);
    }
    check(path, &framed);
});

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
