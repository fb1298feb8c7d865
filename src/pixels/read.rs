//! Reading a rectangle of the target grid: level choice, scale, white outside.
//!
//! Owns: [`TargetReader`], [`thumbnail`]. Must not know: stain, models.

use crate::{
    config::settings::Resample,
    geometry::{InLevel, Rect, Target, TargetGrid},
    pixels::{
        RgbImage,
        levels::{Choice, choose},
        resample::{Axis, resample},
    },
    slides::{Level, ReadError, SlideReader},
    units::{Mpp, MppXy},
};
use rayon::prelude::*;
use std::sync::Arc;

/// A scale this near to a whole number, in px over the whole slide, is that number.
const SNAP_PX: f64 = 0.05;

/// Reads target rectangles of one slide; cheap to clone, callable from many threads.
#[derive(Clone)]
pub struct TargetReader {
    reader: Arc<dyn SlideReader>,
    grid: TargetGrid,
    level: Level,
    /// Level px per target px.
    factor: (f64, f64),
    filter: Resample,
    /// Levels passed over because they do not show what level 0 shows.
    distrusted: Arc<[Level]>,
}

/// Buffers a thread keeps between reads.
#[derive(Default)]
pub struct ReadScratch {
    source: Vec<u8>,
    middle: Vec<i16>,
}

impl TargetReader {
    /// Chooses the coarsest level that is not coarser than the grid and shows what level 0 shows; of a slide coarser
    /// than the grid, level 0.
    pub fn new(reader: Arc<dyn SlideReader>, grid: TargetGrid, filter: Resample) -> Self {
        Self::at_step(reader, grid, grid.level0_px_per_target_px(), filter)
    }

    /// Reads squares of `step` level-0 px.
    fn at_step(reader: Arc<dyn SlideReader>, grid: TargetGrid, (sx, sy): (f64, f64), filter: Resample) -> Self {
        let Choice { level, downsample, distrusted } = choose(&*reader, (sx, sy));
        let size = reader.info().levels[usize::from(level.0)].size;
        let factor = (snap(sx / downsample.0, size.w), snap(sy / downsample.1, size.h));
        Self { reader, grid, level, factor, filter, distrusted: distrusted.into() }
    }

    /// The slide it reads.
    pub fn slide(&self) -> &Arc<dyn SlideReader> {
        &self.reader
    }

    /// The grid it reads.
    pub fn grid(&self) -> &TargetGrid {
        &self.grid
    }

    /// The level it reads from.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Coarser levels that do not show what level 0 shows, and so are not read.
    pub fn distrusted_levels(&self) -> &[Level] {
        &self.distrusted
    }

    /// Level px per target px along x and y.
    pub fn factor(&self) -> (f64, f64) {
        self.factor
    }

    /// Fills `rgb` with `rect`.
    ///
    /// # Shapes
    /// - `rgb`: `[rect.h, rect.w, 3]` u8; white outside the slide.
    ///
    /// # Errors
    /// [`ReadError`] of the slide's reader.
    pub fn read(&self, rect: Rect<Target>, rgb: &mut [u8], scratch: &mut ReadScratch) -> Result<(), ReadError> {
        let x = Axis::new(rect.x, rect.w, self.factor.0, self.filter);
        let y = Axis::new(rect.y, rect.h, self.factor.1, self.filter);
        let region = Rect::<InLevel>::new(x.first, y.first, x.len as u32, y.len as u32);
        if x.is_identity() && y.is_identity() {
            return self.reader.read_region(self.level, region, rgb);
        }
        scratch.source.resize(x.len * y.len * 3, 0);
        self.reader.read_region(self.level, region, &mut scratch.source)?;
        resample(&scratch.source, &x, &y, rgb, &mut scratch.middle);
        Ok(())
    }
}

/// `factor`, or the whole number it cannot be told from over `px` pixels.
fn snap(factor: f64, px: u32) -> f64 {
    let whole = factor.round();
    if whole >= 1.0 && ((factor - whole) / whole).abs() * f64::from(px) < SNAP_PX { whole } else { factor }
}

/// The whole slide, small.
pub struct Thumbnail {
    /// The picture, corner on corner with level 0.
    pub image: RgbImage,
    /// Levels that were not read because they do not show what level 0 shows.
    pub distrusted: Arc<[Level]>,
}

/// The whole slide, corner on corner, at about `mpp` (coarser when `max_px` would be passed); bands are read in
/// parallel.
///
/// # Errors
/// [`ReadError`] of the slide's reader.
pub fn thumbnail(
    reader: &Arc<dyn SlideReader>,
    slide_mpp: MppXy,
    mpp: Mpp,
    max_px: u32,
) -> Result<Thumbnail, ReadError> {
    let level0 = reader.info().level0();
    let um = (f64::from(level0.w) * slide_mpp.x.um_per_px(), f64::from(level0.h) * slide_mpp.y.um_per_px());
    let step_um = mpp.um_per_px().max(um.0.max(um.1) / f64::from(max_px.max(1)));
    let px = |um: f64| (um / step_um).round().max(1.0) as u32;
    let mut image = RgbImage::white(px(um.0), px(um.1));
    let (w, h) = (image.w, image.h);
    let step = (f64::from(level0.w) / f64::from(w), f64::from(level0.h) / f64::from(h));
    let grid = TargetGrid::new(level0, slide_mpp, mpp);
    let target = TargetReader::at_step(reader.clone(), grid, step, Resample::Area);
    let (fx, fy) = target.factor;
    // A band reads at most about 4 Mpx of the level: small enough for memory, large enough to decode few tiles twice;
    // and there is one for each thread.
    let of_thread = (h as usize).div_ceil(rayon::current_num_threads());
    let band = ((4e6 / (f64::from(w) * fx * fy)) as usize).min(of_thread).clamp(1, 256);
    image.data.par_chunks_mut(w as usize * 3 * band).enumerate().try_for_each_init(
        ReadScratch::default,
        |scratch, (i, rows)| {
            let n = rows.len() / (w as usize * 3);
            target.read(Rect::new(0, (i * band) as i64, w, n as u32), rows, scratch)
        },
    )?;
    Ok(Thumbnail { image, distrusted: target.distrusted })
}
