//! Any bytes as a TIFF: opening and reading end in pixels or an error, in bounded memory. The seeds are the fixtures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use wsi_run::{
    geometry::Rect,
    slides::{Level, SlideReader, TiffSlide},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(slide) = TiffSlide::from_source(Path::new("fuzz"), Box::new(bytes.to_vec())) else { return };
    let mut rgb = vec![0; 40 * 40 * 3];
    for (i, level) in slide.info().levels.iter().enumerate() {
        let (right, bottom) = (i64::from(level.size.w) - 20, i64::from(level.size.h) - 20);
        for (x, y) in [(-1, -1), (right, bottom)] {
            let _ = slide.read_region(Level(i as u8), Rect::new(x, y, 40, 40), &mut rgb);
        }
    }
});
