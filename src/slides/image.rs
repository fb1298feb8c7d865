//! Plain pictures as slides of one level: PNG, JPEG, untiled TIFF.
//!
//! Owns: [`ImageSlide`]. Must not know: any other reader but the TIFF room's decoder.
//! The picture is decoded whole when it is opened, so its size is bounded.

use super::{
    reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader},
    tiff,
};
use crate::{
    geometry::{InLevel, Rect, Size},
    units::MppXy,
};
use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path};

/// Largest picture, decoded: a slide of that size has a pyramid.
const MAX_BYTES: u64 = 2 << 30;

/// The formats, told by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// TIFF without tiles.
    Tiff,
}

/// A picture in memory.
pub(super) struct ImageSlide {
    info: SlideInfo,
    size: Size<InLevel>,
    rgb: Vec<u8>,
}

impl ImageSlide {
    /// Decodes the whole picture.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn open(path: &Path, format: ImageFormat) -> Result<Self, String> {
        let (vendor, (size, rgb)) = match format {
            ImageFormat::Png => ("png", read_png(path)?),
            ImageFormat::Jpeg => ("jpeg", read_jpeg(path)?),
            ImageFormat::Tiff => {
                let picture = tiff::read_picture(path).map_err(|e| e.to_string())?;
                let mut slide = Self::new(path, "tiff", picture.size, picture.rgb);
                slide.info.mpp = picture.mpp;
                slide.info.properties = picture.properties;
                return Ok(slide);
            }
        };
        Ok(Self::new(path, vendor, size, rgb))
    }

    fn new(path: &Path, vendor: &str, size: Size<InLevel>, rgb: Vec<u8>) -> Self {
        let info = SlideInfo {
            path: path.to_owned(),
            reader: "image",
            vendor: vendor.into(),
            levels: vec![LevelInfo { size, downsample_x: 1.0, downsample_y: 1.0, tile_px: None }],
            mpp: None,
            objective_power: None,
            bounds: None,
            quickhash: None,
            properties: BTreeMap::new(),
        };
        Self { info, size, rgb }
    }

    pub(super) fn with_mpp(mut self, mpp: Option<(MppXy, MppSource)>) -> Self {
        self.info.mpp = mpp.or(self.info.mpp);
        self
    }
}

impl SlideReader for ImageSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read_region(&self, level: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
        if level.0 != 0 {
            return Err(ReadError::NoLevel { found: level.0, levels: 1 });
        }
        let expected = region.area() as usize * 3;
        if rgb.len() != expected {
            let reason = format!("the buffer has {} bytes, expected {expected}", rgb.len());
            return Err(ReadError::pixels(level, region, reason));
        }
        let inside = region.intersect(&self.size.rect());
        if inside != region {
            rgb.fill(255);
        }
        let row_bytes = inside.w as usize * 3;
        for y in inside.y..inside.bottom() {
            let from = (y as usize * self.size.w as usize + inside.x as usize) * 3;
            let to = ((y - region.y) as usize * region.w as usize + (inside.x - region.x) as usize) * 3;
            rgb[to..to + row_bytes].copy_from_slice(&self.rgb[from..from + row_bytes]);
        }
        Ok(())
    }
}

fn checked_bytes(w: u64, h: u64, samples: u64) -> Result<usize, String> {
    let bytes = w.checked_mul(h).and_then(|px| px.checked_mul(samples));
    match bytes {
        Some(bytes @ 1..=MAX_BYTES) => Ok(bytes as usize),
        _ => Err(format!("a picture of [{w}, {h}] px, expected at most {} MiB of pixels", MAX_BYTES >> 20)),
    }
}

fn read_png(path: &Path) -> Result<(Size<InLevel>, Vec<u8>), String> {
    let file = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut decoder = png::Decoder::new_with_limits(file, png::Limits { bytes: 64 << 20 });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let (w, h) = (reader.info().width, reader.info().height);
    let samples = reader.output_color_type().0.samples();
    let mut data = vec![0; checked_bytes(w.into(), h.into(), samples as u64)?];
    reader.next_frame(&mut data).map_err(|e| e.to_string())?;
    let rgb = match samples {
        3 => data,
        _ => {
            let over_white = |v: u8, alpha: u8| {
                let alpha = u32::from(alpha);
                ((u32::from(v) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
            };
            let px = data.chunks_exact(samples);
            px.flat_map(|px| match *px {
                [grey] => [grey; 3],
                [grey, alpha] => [over_white(grey, alpha); 3],
                [r, g, b, alpha] => [over_white(r, alpha), over_white(g, alpha), over_white(b, alpha)],
                _ => [255; 3],
            })
            .collect()
        }
    };
    Ok((Size::new(w, h), rgb))
}

fn read_jpeg(path: &Path) -> Result<(Size<InLevel>, Vec<u8>), String> {
    let data = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut decoder = turbojpeg::Decompressor::new().map_err(|e| e.to_string())?;
    decoder.set_scan_limit(500).map_err(|e| e.to_string())?;
    let header = decoder.read_header(&data).map_err(|e| e.to_string())?;
    let (width, height) = (header.width, header.height);
    let mut rgb = vec![0; checked_bytes(width as u64, height as u64, 3)?];
    let image = turbojpeg::Image {
        pixels: rgb.as_mut_slice(),
        width,
        pitch: width * 3,
        height,
        format: turbojpeg::PixelFormat::RGB,
    };
    decoder.decompress(&data, image).map_err(|e| e.to_string())?;
    Ok((Size::new(width as u32, height as u32), rgb))
}
