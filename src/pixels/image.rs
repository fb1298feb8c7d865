//! A small picture in memory: thumbnails, references, overviews.
//!
//! Owns: [`RgbImage`]. Must not know: slides, files.

use crate::slides::encode_jpeg;

/// 8-bit RGB, rows top to bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Width in px.
    pub w: u32,
    /// Height in px.
    pub h: u32,
    /// `[h, w, 3]`.
    pub data: Vec<u8>,
}

impl RgbImage {
    /// A white picture.
    pub fn white(w: u32, h: u32) -> Self {
        Self { w, h, data: vec![255; w as usize * h as usize * 3] }
    }

    /// The pixel at `(x, y)`.
    pub fn get(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.w as usize + x as usize) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// Its bytes as PNG.
    ///
    /// # Errors
    /// In words, the library's.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let mut bytes = vec![];
        let mut encoder = png::Encoder::new(&mut bytes, self.w, self.h);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
        writer.write_image_data(&self.data).map_err(|e| e.to_string())?;
        writer.finish().map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    /// Its bytes as JPEG.
    ///
    /// # Errors
    /// In words, the library's.
    pub fn jpeg(&self, quality: i32) -> Result<Vec<u8>, String> {
        encode_jpeg(&self.data, (self.w, self.h), quality)
    }
}
