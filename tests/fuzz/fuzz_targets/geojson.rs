//! Whatever the bytes, outlines of tissue are filled or refused, soon and in bounded memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsi_run::tissue::fill_geojson;

fuzz_target!(|bytes: &[u8]| {
    let (w, h) = (64, 48);
    match fill_geojson(bytes, (w, h), (16.0, 16.0)) {
        Ok((bits, _)) => assert!(bits.len() == (w * h) as usize && bits.iter().all(|&bit| bit < 2)),
        Err(reason) => assert!(reason.len() < 1000),
    }
});
