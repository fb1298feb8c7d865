//! Plain pictures as slides of one level: PNG, JPEG, untiled TIFF.
//!
//! Owns: [`ImageSlide`]. Must not know: any other reader but the TIFF room's decoder.
//! The picture is decoded whole when it is opened, so its size is bounded.

use super::{
    picture::{decode_jpeg, decode_png},
    reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader},
    tiff,
};
use crate::{
    geometry::{InLevel, Rect, Size},
    units::MppXy,
};
use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path};

/// Largest picture, 2 GiB of RGB: a slide of that size has a pyramid.
const MAX_PX: u64 = (2 << 30) / 3;

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
        let (vendor, picture) = match format {
            ImageFormat::Png => {
                let file = File::open(path).map_err(|e| e.to_string())?;
                ("png", decode_png(BufReader::new(file), MAX_PX)?)
            }
            ImageFormat::Jpeg => {
                let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
                ("jpeg", decode_jpeg(&bytes, MAX_PX)?)
            }
            ImageFormat::Tiff => {
                let picture = tiff::read_picture(path).map_err(|e| e.to_string())?;
                let mut slide = Self::new(path, "tiff", picture.size, picture.rgb);
                slide.info.mpp = picture.mpp;
                slide.info.properties = picture.properties;
                return Ok(slide);
            }
        };
        Ok(Self::new(path, vendor, Size::new(picture.w, picture.h), picture.rgb))
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
        let (_, inside) = self.info.prepare(level, region, rgb)?;
        let row_bytes = inside.w as usize * 3;
        for y in inside.y..inside.bottom() {
            let from = (y as usize * self.size.w as usize + inside.x as usize) * 3;
            let to = ((y - region.y) as usize * region.w as usize + (inside.x - region.x) as usize) * 3;
            rgb[to..to + row_bytes].copy_from_slice(&self.rgb[from..from + row_bytes]);
        }
        Ok(())
    }
}
