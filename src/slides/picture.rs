//! PNG and JPEG pictures decoded whole or encoded, for slides that are pictures and for pictures that go with slides.
//!
//! Owns: [`Picture`], [`decode_png`], [`decode_jpeg`], [`encode_jpeg`]. Must not know: what a picture is for.

use std::io::{BufRead, Seek};

/// PNG chunks beside the pixels may be as large as this when unpacked.
const MAX_TEXT_BYTES: usize = 64 << 20;
/// Scans of a progressive JPEG; each costs a pass over the whole picture.
const MAX_SCANS: u32 = 500;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in px.
    pub w: u32,
    /// Height in px.
    pub h: u32,
    /// `[h, w, 3]` u8; transparent px are white.
    pub rgb: Vec<u8>,
    /// The file has no colours.
    pub is_grey: bool,
}

/// Decodes a PNG of any depth and kind of colour.
///
/// # Errors
/// In words: not a PNG, damaged, or of more than `max_px` px.
pub fn decode_png(png: impl BufRead + Seek, max_px: u64) -> Result<Picture, String> {
    let mut decoder = png::Decoder::new_with_limits(png, png::Limits { bytes: MAX_TEXT_BYTES });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let (w, h) = (reader.info().width, reader.info().height);
    let samples = reader.output_color_type().0.samples();
    let mut data = vec![0; checked_px(w, h, max_px)? * samples];
    reader.next_frame(&mut data).map_err(|e| e.to_string())?;
    let rgb = match samples {
        3 => data,
        _ => data.chunks_exact(samples).flat_map(over_white).collect(),
    };
    Ok(Picture { w, h, rgb, is_grey: samples < 3 })
}

/// Decodes a JPEG of YCbCr, RGB or grey.
///
/// # Errors
/// In words: not a JPEG, damaged, or of more than `max_px` px.
pub fn decode_jpeg(jpeg: &[u8], max_px: u64) -> Result<Picture, String> {
    let mut decoder = turbojpeg::Decompressor::new().map_err(|e| e.to_string())?;
    decoder.set_scan_limit(MAX_SCANS).map_err(|e| e.to_string())?;
    let header = decoder.read_header(jpeg).map_err(|e| e.to_string())?;
    let (width, height) = (header.width, header.height);
    let mut rgb = vec![0; checked_px(width as u32, height as u32, max_px)? * 3];
    let image = turbojpeg::Image {
        pixels: rgb.as_mut_slice(),
        width,
        pitch: width * 3,
        height,
        format: turbojpeg::PixelFormat::RGB,
    };
    decoder.decompress(jpeg, image).map_err(|e| e.to_string())?;
    let is_grey = header.colorspace == turbojpeg::Colorspace::Gray;
    Ok(Picture { w: width as u32, h: height as u32, rgb, is_grey })
}

/// Number of px; checked before anything of that size is allocated.
fn checked_px(w: u32, h: u32, max_px: u64) -> Result<usize, String> {
    match u64::from(w) * u64::from(h) {
        px if (1..=max_px).contains(&px) => Ok(px as usize),
        _ => Err(format!("a picture of [{w}, {h}] px, expected 1 to {max_px} px in all")),
    }
}

/// Encodes `[h, w, 3]` pixels as JPEG, colours at half the resolution; the same bytes on every machine.
///
/// # Errors
/// In words: `rgb` is not of this size, or the library says no.
pub fn encode_jpeg(rgb: &[u8], (w, h): (u32, u32), quality: i32) -> Result<Vec<u8>, String> {
    let (width, height) = (w as usize, h as usize);
    let format = turbojpeg::PixelFormat::RGB;
    if rgb.len() != width * height * 3 {
        return Err(format!("found `{}` bytes, expected {w} × {h} px", rgb.len()));
    }
    let image = turbojpeg::Image { pixels: rgb, width, pitch: width * 3, height, format };
    let jpeg = turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2).map_err(|e| e.to_string())?;
    Ok(jpeg.to_vec())
}

/// Red, green, blue of a px of 1 (grey), 2 (grey, alpha) or 4 samples (RGBA) on a white ground.
pub fn over_white(px: &[u8]) -> [u8; 3] {
    let on_white = |v: u8, alpha: u8| {
        let alpha = u32::from(alpha);
        ((u32::from(v) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    match *px {
        [grey] => [grey; 3],
        [grey, alpha] => [on_white(grey, alpha); 3],
        [r, g, b, alpha] => [r, g, b].map(|v| on_white(v, alpha)),
        _ => [255; 3],
    }
}
