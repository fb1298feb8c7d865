//! The reference picture of a run: a small PNG, TIFF or JPEG.
//!
//! Owns: reading it, [`StainError`]. Must not know: what is fitted on it.

use crate::{
    pixels::RgbImage,
    slides::{Picture, decode_jpeg, decode_png, over_white},
};
use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

/// The reference picture cannot be used; every slide needs it, so the run stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stain reference cannot be used: {reason}: {}", path.display())]
pub struct StainError {
    /// The picture.
    pub path: PathBuf,
    /// What was found, what was expected.
    pub reason: String,
}

impl StainError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        "give an 8-bit RGB PNG, TIFF or JPEG of well-stained tissue, for instance 1,000×1,000 px at 0.5 µm/px; or \
         leave `reference` out for the published one"
    }

    pub(super) fn undetermined(path: &Path, why: &str) -> Self {
        Self { path: path.to_owned(), reason: why.replace("tissue sample", "picture") }
    }
}

/// Larger references are refused: a fit needs no more, and a slide given by mistake would fill the memory.
const MAX_PX: u64 = 64 << 20;

/// Reads the picture at `path`; transparent px become white.
///
/// # Errors
/// [`StainError`] when there is no such file, or it is no 8-bit RGB PNG, TIFF or JPEG, or too large.
pub fn read(path: &Path) -> Result<RgbImage, StainError> {
    let fail = |reason: String| StainError { path: path.to_owned(), reason };
    let bytes = fs::metadata(path)
        .and_then(
            |meta| if meta.len() > 4 * MAX_PX { Err(std::io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) },
        )
        .map_err(|e| fail(e.to_string()))?;
    let picture = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => decode_png(Cursor::new(&bytes), MAX_PX).and_then(coloured),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => read_tiff(&bytes),
        [0xff, 0xd8, ..] => decode_jpeg(&bytes, MAX_PX).and_then(coloured),
        _ => Err("not a PNG, TIFF or JPEG".to_owned()),
    };
    picture.map_err(fail)
}

/// A grey picture holds no stain.
fn coloured(picture: Picture) -> Result<RgbImage, String> {
    if picture.is_grey {
        return Err("a grey picture, expected RGB".to_owned());
    }
    Ok(RgbImage { w: picture.w, h: picture.h, data: picture.rgb })
}

fn read_tiff(bytes: &[u8]) -> Result<RgbImage, String> {
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let (w, h) = decoder.dimensions().map_err(|e| e.to_string())?;
    if u64::from(w) * u64::from(h) > MAX_PX {
        return Err(format!("[{w}, {h}] px, expected at most {MAX_PX} px in all"));
    }
    let color = decoder.colortype().map_err(|e| e.to_string())?;
    let samples = match color {
        tiff::ColorType::RGB(8) => 3,
        tiff::ColorType::RGBA(8) => 4,
        other => return Err(format!("{other:?}, expected 8-bit RGB")),
    };
    let data = match decoder.read_image().map_err(|e| e.to_string())? {
        tiff::decoder::DecodingResult::U8(data) if samples == 3 => data,
        tiff::decoder::DecodingResult::U8(data) => data.chunks_exact(samples).flat_map(over_white).collect(),
        _ => return Err("not 8-bit".to_owned()),
    };
    if data.len() != w as usize * h as usize * 3 {
        return Err("fewer px than its header says".to_owned());
    }
    Ok(RgbImage { w, h, data })
}
