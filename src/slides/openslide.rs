//! Slides through OpenSlide: every format we do not read ourselves.
//!
//! Owns: [`OpenSlideSlide`], the conversion of OpenSlide's pixels. Must not know: any other reader.
//! Source: openslide.h of OpenSlide 4.0.1. All functions but close may be called from many threads at once; an error
//! makes a handle unusable for good.

use super::{
    downsample::{downsample_x, downsample_y},
    mpp,
    reader::{Level, LevelInfo, MppSource, ReadError, SlideInfo, SlideReader},
};
use crate::{
    geometry::{InLevel, Level0, Rect, Size},
    units::{Mpp, MppXy},
};
use openslide_rs::{Address, OpenSlide, Region, errors::OpenSlideError};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

/// Most px asked of OpenSlide at once: its buffer has 4 bytes per px.
const MAX_READ_PX: u64 = 4 << 20;
/// Where reads begin on levels whose downsample is not whole.
const LATTICE_PX: i64 = 256;

/// Why OpenSlide did not open a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    /// The library is not there, or cannot be used.
    #[error("{0}")]
    NoLibrary(String),
    /// OpenSlide knows no format that looks like this.
    #[error("OpenSlide {version} does not recognise it")]
    NotRecognised {
        /// The library's version.
        version: String,
    },
    /// The format is known, the file is not in order.
    #[error("OpenSlide {version} cannot open it: {words}")]
    Refused {
        /// The library's version.
        version: String,
        /// Its words.
        words: String,
    },
}

/// A slide read by OpenSlide.
///
/// One handle serves all threads: 41 Mpx/s on one and 160 on four (`benches/slide_reading.rs`, 256-px regions), so a
/// handle per thread would only multiply OpenSlide's tile cache.
pub(super) struct OpenSlideSlide {
    info: SlideInfo,
    /// OpenSlide's own downsample per level, which places what it reads.
    downsamples: Vec<f64>,
    handle: RwLock<Arc<OpenSlide>>,
}

impl OpenSlideSlide {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        openslide_sys::ensure_loaded().map_err(|e| OpenError::NoLibrary(e.to_string()))?;
        let version = || openslide_sys::version().unwrap_or_else(|_| "?".into());
        let slide = OpenSlide::new(path).map_err(|error| match error {
            OpenSlideError::UnsupportedFile(_) | OpenSlideError::MissingFile(_) => {
                OpenError::NotRecognised { version: version() }
            }
            other => OpenError::Refused { version: version(), words: words(&other) },
        })?;
        let refused = |words: String| OpenError::Refused { version: version(), words };
        let names = slide.property_names().map_err(|e| refused(words(&e)))?;
        let properties: BTreeMap<String, String> =
            names.into_iter().filter_map(|name| slide.property_value(&name).ok().map(|value| (name, value))).collect();
        let info = describe(path, &slide, properties).map_err(refused)?;
        let downsamples = slide.all_level_downsamples().to_vec();
        Ok(Self { info, downsamples, handle: RwLock::new(Arc::new(slide)) })
    }

    pub(super) fn with_mpp(mut self, mpp: Option<(MppXy, MppSource)>) -> Self {
        self.info.mpp = mpp.or(self.info.mpp);
        self
    }

    /// Reads `part` of the level, and keeps what falls into the window.
    fn read_inside(&self, level: u8, part: Rect<InLevel>, to: &mut RgbWindow<'_>) -> Result<(), String> {
        let downsample = self.downsamples[usize::from(level)];
        let at = |v: i64| (v as f64 * downsample).round() as u32;
        let region = Region {
            address: Address { x: at(part.x), y: at(part.y) },
            level: level.into(),
            size: openslide_rs::Size { w: part.w, h: part.h },
        };
        let shared = Arc::clone(&self.handle.read().unwrap_or_else(PoisonError::into_inner));
        let argb = match shared.read_region(&region) {
            Ok(argb) => argb,
            Err(_) => self.read_alone(&shared, &region)?,
        };
        to.fill_from_argb(part, &argb);
        Ok(())
    }

    /// Reads with a handle of its own: the shared one may have been broken by another region of another thread.
    fn read_alone(&self, broken: &Arc<OpenSlide>, region: &Region) -> Result<Vec<u8>, String> {
        let open = || OpenSlide::new(&self.info.path).map_err(|e| words(&e));
        {
            let mut shared = self.handle.write().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&shared, broken) {
                *shared = Arc::new(open()?);
            }
        }
        open()?.read_region(region).map_err(|e| words(&e))
    }
}

impl SlideReader for OpenSlideSlide {
    fn info(&self) -> &SlideInfo {
        &self.info
    }

    fn read_region(&self, level: Level, region: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
        let (_, inside) = self.info.prepare(level, region, rgb)?;
        if inside.is_empty() {
            return Ok(());
        }
        let mut window = RgbWindow { rgb, region };
        for part in parts(inside, self.downsamples[usize::from(level.0)]) {
            let result = self.read_inside(level.0, part, &mut window);
            result.map_err(|reason| ReadError::pixels(level, region, reason))?;
        }
        Ok(())
    }
}

/// The reads that fill `inside`; a read may begin before it.
///
/// OpenSlide places a read by its corner in whole level-0 px. On a level whose downsample is not whole it then
/// interpolates between px, by an amount that depends on the corner: reads begin on a fixed lattice there, so that
/// a px does not depend on how its region was cut.
fn parts(inside: Rect<InLevel>, downsample: f64) -> Vec<Rect<InLevel>> {
    let mut parts = Vec::new();
    if downsample.fract() == 0.0 {
        let rows = (MAX_READ_PX / u64::from(inside.w)).max(1) as usize;
        for y in (inside.y..inside.bottom()).step_by(rows) {
            parts.push(Rect::from_edges(inside.x, y, inside.right(), inside.bottom().min(y + rows as i64)));
        }
        return parts;
    }
    let first = |v: i64| v - v.rem_euclid(LATTICE_PX);
    for y in (first(inside.y)..inside.bottom()).step_by(LATTICE_PX as usize) {
        for x in (first(inside.x)..inside.right()).step_by(LATTICE_PX as usize) {
            let (right, bottom) = (inside.right().min(x + LATTICE_PX), inside.bottom().min(y + LATTICE_PX));
            parts.push(Rect::from_edges(x, y, right, bottom));
        }
    }
    parts
}

/// `[region.h, region.w, 3]` u8.
struct RgbWindow<'a> {
    rgb: &'a mut [u8],
    region: Rect<InLevel>,
}

impl RgbWindow<'_> {
    /// Composes OpenSlide's pixels over white: the one place that knows they are native-endian ARGB, the colours
    /// already multiplied by alpha.
    ///
    /// # Shapes
    /// - `argb`: `[part.h, part.w, 4]` u8
    fn fill_from_argb(&mut self, part: Rect<InLevel>, argb: &[u8]) {
        let kept = part.intersect(&self.region);
        let rows = argb.chunks_exact(part.w as usize * 4).skip((kept.y - part.y) as usize);
        for (y, row) in (kept.y..kept.bottom()).zip(rows) {
            let start = (y - self.region.y) as usize * self.region.w as usize + (kept.x - self.region.x) as usize;
            let out = &mut self.rgb[start * 3..(start + kept.w as usize) * 3];
            let row = &row[(kept.x - part.x) as usize * 4..];
            for (rgb, argb) in out.chunks_exact_mut(3).zip(row.chunks_exact(4)) {
                let px = u32::from_ne_bytes([argb[0], argb[1], argb[2], argb[3]]);
                let white = 255 - (px >> 24) as u8;
                // Wrapping never happens in valid premultiplied pixels, where colour ≤ alpha.
                rgb[0] = ((px >> 16) as u8).saturating_add(white);
                rgb[1] = ((px >> 8) as u8).saturating_add(white);
                rgb[2] = (px as u8).saturating_add(white);
            }
        }
    }
}

fn words(error: &OpenSlideError) -> String {
    match error {
        OpenSlideError::LibraryError(words) => words.clone(),
        other => other.to_string(),
    }
}

fn describe(path: &Path, slide: &OpenSlide, properties: BTreeMap<String, String>) -> Result<SlideInfo, String> {
    let sizes: Vec<Size<InLevel>> = slide.all_level_dimensions().iter().map(|s| Size::new(s.w, s.h)).collect();
    let Some(&level0) = sizes.first().filter(|s| s.w > 0 && s.h > 0) else {
        return Err("it has no level".into());
    };
    let number = |name: &str| properties.get(name).and_then(|v| v.trim().parse::<f64>().ok());
    let tile = |i: usize, side: &str| Some(number(&format!("openslide.level[{i}].tile-{side}"))? as u32);
    let tile_px = |i: usize| Some((tile(i, "width")?, tile(i, "height")?));
    let level = |(i, &size): (usize, &Size<InLevel>)| LevelInfo {
        size,
        downsample_x: downsample_x(level0, size),
        downsample_y: downsample_y(level0, size),
        tile_px: tile_px(i),
    };
    let bound = |side: &str| number(&format!("openslide.bounds-{side}"));
    let bounds = (|| {
        let (w, h) = (bound("width")? as u32, bound("height")? as u32);
        Some(Rect::<Level0>::new(bound("x")? as i64, bound("y")? as i64, w, h))
    })();
    let vendor = properties.get("openslide.vendor").cloned().unwrap_or_default();
    let mpp = if vendor == "generic-tiff" {
        // OpenSlide computes it from the TIFF's resolution, printers' values included.
        let unit = match properties.get("tiff.ResolutionUnit").map(String::as_str) {
            Some("inch") => 2,
            Some("centimeter") => 3,
            _ => 1,
        };
        mpp::from_resolution(number("tiff.XResolution"), number("tiff.YResolution"), unit)
            .map(|mpp| (mpp, MppSource::TiffResolution))
    } else {
        let axis = |axis: &str| number(&format!("openslide.mpp-{axis}")).and_then(Mpp::new);
        axis("x").zip(axis("y")).map(|(x, y)| (MppXy { x, y }, MppSource::Vendor))
    };
    Ok(SlideInfo {
        path: path.to_owned(),
        reader: "openslide",
        vendor,
        levels: sizes.iter().enumerate().map(level).collect(),
        mpp,
        objective_power: number("openslide.objective-power"),
        bounds: bounds.filter(|b| *b != Rect::new(0, 0, level0.w, level0.h)),
        quickhash: properties.get("openslide.quickhash-1").cloned(),
        properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn premultiplied_pixels_are_composed_over_white_where_they_belong() {
        let mut rgb = [7u8; 4 * 2 * 3];
        let region = Rect::new(10, 20, 4, 2);
        let argb: Vec<u8> = [0xff01_0203u32, 0x0000_0000, 0x8040_2000].iter().flat_map(|p| p.to_ne_bytes()).collect();
        RgbWindow { rgb: &mut rgb, region }.fill_from_argb(Rect::new(11, 21, 3, 1), &argb);
        assert_eq!(&rgb[15..], &[1, 2, 3, 255, 255, 255, 0x40 + 127, 0x20 + 127, 127]);
        assert_eq!(&rgb[..15], &[7; 15]);
    }
}
