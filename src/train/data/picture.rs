//! Pictures of data sets: colours, label numbers, and their sizes without decoding them.
//!
//! Owns: [`read_rgb`], [`read_labels`], [`size_of`]. Must not know: layouts, classes.
//!
//! Files are not trusted: sizes are checked before anything is allocated.

use super::{mat::read_mat, npy};
use crate::pixels::{RgbImage, stain::reference};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// Larger pictures are slides, and are read as such.
const MAX_PX: u64 = 64 << 20;

/// Numbers of `[h, w]` px.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelImage {
    /// Width.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// `[h, w]`.
    pub labels: Vec<u32>,
}

/// Decodes a PNG, JPEG or TIFF.
///
/// # Errors
/// In words.
pub fn read_rgb(path: &Path) -> Result<RgbImage, String> {
    reference::read(path).map_err(|e| e.reason)
}

/// Width and height of a PNG, JPEG or TIFF.
///
/// # Errors
/// In words.
pub fn size_of(path: &Path) -> Result<(u32, u32), String> {
    let mut head = [0; 24];
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let mut read = 0;
    while read < head.len() {
        match file.read(&mut head[read..]).map_err(|e| e.to_string())? {
            0 => break,
            n => read += n,
        }
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let size = match head {
        [0x89, b'P', b'N', b'G', ..] if read == 24 => (word(16), word(20)),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => {
            let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
            let mut decoder = tiff::decoder::Decoder::new(file).map_err(|e| e.to_string())?;
            decoder.dimensions().map_err(|e| e.to_string())?
        }
        [0xff, 0xd8, ..] => jpeg_size(path)?,
        _ => return Err("not a PNG, JPEG or TIFF".to_owned()),
    };
    checked(size)
}

fn checked((w, h): (u32, u32)) -> Result<(u32, u32), String> {
    match u64::from(w) * u64::from(h) {
        1..=MAX_PX => Ok((w, h)),
        _ => Err(format!("a picture of [{w}, {h}] px, expected 1 to {MAX_PX} px in all")),
    }
}

/// From the frame header. Source: ITU T.81, B.2.2.
fn jpeg_size(path: &Path) -> Result<(u32, u32), String> {
    let mut bytes = vec![];
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(4 << 20).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if let Some(&[_, h1, h0, w1, w0]) = bytes.get(at + 4..at + 9).filter(|_| is_frame) {
            return Ok((u32::from(w1) << 8 | u32::from(w0), u32::from(h1) << 8 | u32::from(h0)));
        }
        at += 2 + (usize::from(high) << 8 | usize::from(low));
    }
    Err("a JPEG without a frame header in its first 4 MiB".to_owned())
}

/// What a file of labels may hold beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// A number per px.
    pub image: LabelImage,
    /// Type of nucleus `k` at `k − 1`, where the file tells it.
    pub types: Option<Vec<u32>>,
    /// A type per px, where the file tells it.
    pub type_px: Option<Vec<u32>>,
}

/// Reads numbers of px: grey PNG and TIFF of any depth, palettes by index; NPY, NPZ and MAT of whole numbers.
///
/// MAT: `inst_map`, with `inst_type` (a type per nucleus) or `type_map` (a type per px). NPY and NPZ: `[h, w]`, or
/// `[h, w, 2]` with the type of each px second; NPZ may name the arrays `inst_map` and `type_map`.
///
/// # Errors
/// In words.
pub fn read_labels(path: &Path) -> Result<Labels, String> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let plain = |image: LabelImage| Labels { image, types: None, type_px: None };
    match extension.as_deref() {
        Some("npy") => from_array(&npy::read_npy(path)?),
        Some("npz") => {
            let array = npy::read_npz(path, Some("inst_map")).or_else(|_| npy::read_npz(path, None))?;
            let type_px = npy::read_npz(path, Some("type_map")).ok().map(|a| a.labels()).transpose()?;
            let labels = from_array(&array)?;
            Ok(Labels { type_px: labels.type_px.clone().or(type_px), ..labels })
        }
        Some("mat") => {
            let labels = from_array(&read_mat(path, "inst_map")?)?;
            let types = read_mat(path, "inst_type").ok().map(|a| a.labels()).transpose()?;
            let type_px = read_mat(path, "type_map").ok().map(|a| a.labels()).transpose()?;
            Ok(Labels { types, type_px, ..labels })
        }
        Some("tif" | "tiff") => read_tiff(path).map(plain),
        _ => read_png(path).map(plain),
    }
}

fn from_array(array: &super::array::Array) -> Result<Labels, String> {
    let (h, w, planes) = match *array.shape.as_slice() {
        [h, w] | [h, w, 1] => (h, w, 1),
        [h, w, 2] => (h, w, 2),
        _ => return Err(format!("an array of shape {:?}, expected [h, w] or [h, w, 2]", array.shape)),
    };
    let size = (u32::try_from(w).unwrap_or(0), u32::try_from(h).unwrap_or(0));
    let (w, h) = checked(size)?;
    let all = array.labels()?;
    if planes == 1 {
        return Ok(Labels { image: LabelImage { w, h, labels: all }, types: None, type_px: None });
    }
    let plane = |k: usize| all.iter().skip(k).step_by(2).copied().collect();
    Ok(Labels { image: LabelImage { w, h, labels: plane(0) }, types: None, type_px: Some(plane(1)) })
}

fn read_png(path: &Path) -> Result<LabelImage, String> {
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let (w, h) = checked((reader.info().width, reader.info().height))?;
    let (color, depth) = reader.output_color_type();
    let bytes = reader.output_buffer_size().ok_or("too many px")?;
    let mut data = vec![0; bytes];
    reader.next_frame(&mut data).map_err(|e| e.to_string())?;
    let (samples, bits) = (color.samples(), depth as usize);
    let row_bytes = (w as usize * samples * bits).div_ceil(8);
    let mut labels = Vec::with_capacity(w as usize * h as usize);
    for row in data.chunks_exact(row_bytes).take(h as usize) {
        let sample = |i: usize| match bits {
            16 => u32::from(u16::from_be_bytes([row[2 * i], row[2 * i + 1]])),
            8 => u32::from(row[i]),
            _ => u32::from(row[i * bits / 8] >> (8 - bits - i * bits % 8)) & ((1 << bits) - 1),
        };
        for x in 0..w as usize {
            let first = sample(x * samples);
            if samples >= 3 && (1..3).any(|c| sample(x * samples + c) != first) {
                return Err("coloured px, expected a number per px (grey or a palette)".to_owned());
            }
            labels.push(first);
        }
    }
    Ok(LabelImage { w, h, labels })
}

fn read_tiff(path: &Path) -> Result<LabelImage, String> {
    use tiff::decoder::DecodingResult as R;
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut decoder = tiff::decoder::Decoder::new(file).map_err(|e| e.to_string())?;
    let (w, h) = checked(decoder.dimensions().map_err(|e| e.to_string())?)?;
    match decoder.colortype().map_err(|e| e.to_string())? {
        tiff::ColorType::Gray(8 | 16 | 32) | tiff::ColorType::Palette(8) => {}
        other => return Err(format!("{other:?}, expected a number per px (grey)")),
    }
    let labels: Vec<u32> = match decoder.read_image().map_err(|e| e.to_string())? {
        R::U8(data) => data.into_iter().map(u32::from).collect(),
        R::U16(data) => data.into_iter().map(u32::from).collect(),
        R::U32(data) => data,
        R::I32(data) => data.into_iter().map(|v| v.max(0) as u32).collect(),
        _ => return Err("px that are no whole numbers".to_owned()),
    };
    if labels.len() != w as usize * h as usize {
        return Err("fewer px than its header says".to_owned());
    }
    Ok(LabelImage { w, h, labels })
}
