//! The reference picture of a run: a small PNG, TIFF or JPEG.
//!
//! Owns: reading it, [`StainError`]. Must not know: what is fitted on it.

use crate::pixels::RgbImage;
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
        [0x89, b'P', b'N', b'G', ..] => read_png(&bytes),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => read_tiff(&bytes),
        [0xff, 0xd8, ..] => read_jpeg(&bytes),
        _ => Err("not a PNG, TIFF or JPEG".to_owned()),
    };
    picture.map_err(fail)
}

fn check_size(w: u32, h: u32) -> Result<(), String> {
    if u64::from(w) * u64::from(h) > MAX_PX {
        return Err(format!("[{w}, {h}] px, expected at most {MAX_PX} px in all"));
    }
    Ok(())
}

fn read_png(bytes: &[u8]) -> Result<RgbImage, String> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    check_size(reader.info().width, reader.info().height)?;
    let mut data = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let frame = reader.next_frame(&mut data).map_err(|e| e.to_string())?;
    data.truncate(frame.buffer_size());
    rgb_of(frame.width, frame.height, frame.color_type.samples(), &data)
}

fn read_tiff(bytes: &[u8]) -> Result<RgbImage, String> {
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let (w, h) = decoder.dimensions().map_err(|e| e.to_string())?;
    check_size(w, h)?;
    let color = decoder.colortype().map_err(|e| e.to_string())?;
    let samples = match color {
        tiff::ColorType::RGB(8) => 3,
        tiff::ColorType::RGBA(8) => 4,
        other => return Err(format!("{other:?}, expected 8-bit RGB")),
    };
    match decoder.read_image().map_err(|e| e.to_string())? {
        tiff::decoder::DecodingResult::U8(data) => rgb_of(w, h, samples, &data),
        _ => Err("not 8-bit".to_owned()),
    }
}

fn read_jpeg(bytes: &[u8]) -> Result<RgbImage, String> {
    let header = turbojpeg::read_header(bytes).map_err(|e| e.to_string())?;
    check_size(header.width as u32, header.height as u32)?;
    let image = turbojpeg::decompress(bytes, turbojpeg::PixelFormat::RGB).map_err(|e| e.to_string())?;
    let rows = image.pixels.chunks(image.pitch).flat_map(|row| &row[..3 * image.width]);
    Ok(RgbImage { w: image.width as u32, h: image.height as u32, data: rows.copied().collect() })
}

fn rgb_of(w: u32, h: u32, samples: usize, data: &[u8]) -> Result<RgbImage, String> {
    let over_white = |v: u8, alpha: u8| {
        let alpha = u32::from(alpha);
        ((u32::from(v) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let px = data.chunks_exact(samples);
    let data: Vec<u8> = match samples {
        3 => data.to_vec(),
        4 => px.flat_map(|p| [p[0], p[1], p[2]].map(|v| over_white(v, p[3]))).collect(),
        _ => return Err("a grey picture, expected RGB".to_owned()),
    };
    if data.len() != w as usize * h as usize * 3 {
        return Err("fewer px than its header says".to_owned());
    }
    Ok(RgbImage { w, h, data })
}
