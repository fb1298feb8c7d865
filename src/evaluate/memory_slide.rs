//! A picture in memory as a slide of one level, so that samples take the very way slides take.
//!
//! Owns: [`MemorySlide`]. Must not know: what is predicted.

use crate::{
    geometry::{InLevel, Rect, Size},
    pixels::RgbImage,
    slides::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader},
    units::{Mpp, MppXy},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// A picture and its resolution.
pub(super) struct MemorySlide {
    info: SlideInfo,
    image: Arc<RgbImage>,
}

impl MemorySlide {
    pub(super) fn new(image: Arc<RgbImage>, mpp: Mpp) -> Self {
        let size = Size::new(image.w, image.h);
        let info = SlideInfo {
            path: PathBuf::new(),
            reader: "memory",
            vendor: "memory".to_owned(),
            levels: vec![LevelInfo { size, downsample_x: 1.0, downsample_y: 1.0, tile_px: None }],
            mpp: Some((MppXy::square(mpp), MppSource::User)),
            objective_power: None,
            bounds: None,
            quickhash: None,
            properties: BTreeMap::new(),
        };
        Self { info, image }
    }
}

impl SlideReader for MemorySlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read_region(&self, level: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
        if level.0 != 0 {
            return Err(ReadError::NoLevel { found: level.0, levels: 1 });
        }
        rgb.fill(255);
        let inside = region.intersect(&self.info.levels[0].size.rect());
        let bytes = inside.w as usize * 3;
        for y in inside.y..inside.bottom() {
            let from = (y as usize * self.image.w as usize + inside.x as usize) * 3;
            let to = ((y - region.y) as usize * region.w as usize + (inside.x - region.x) as usize) * 3;
            rgb[to..to + bytes].copy_from_slice(&self.image.data[from..from + bytes]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_white() {
        let image = RgbImage { w: 2, h: 1, data: vec![1, 2, 3, 4, 5, 6] };
        let slide = MemorySlide::new(Arc::new(image), Mpp::new(0.5).unwrap());
        let mut rgb = [0; 12];
        slide.read_region(Level(0), Rect::new(1, 0, 2, 2), &mut rgb).unwrap();
        assert_eq!(rgb, [4, 5, 6, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert!(slide.read_region(Level(1), Rect::new(0, 0, 1, 1), &mut rgb[..3]).is_err());
    }
}
