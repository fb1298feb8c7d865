//! The picture of a slide: what was found, where, how much, at which scale.
//!
//! Owns: [`Overview`]. Must not know: how results were made.
//!
//! Over the thumbnail lies the share of each picture pixel that each class covers: a nucleus larger than a picture
//! pixel is a disc of its class's colour, smaller ones add up to a density. Beside it stands the legend.

mod page;

use super::{OutputError, ResultKind, SlideHeader, columns::Row, legend::Legend, pyramid::LabelPyramid, text::blend};
use crate::{pixels::RgbImage, tissue::TissueMask};
use std::{fs::File, io::BufWriter, path::Path};

/// Lines, and the frame around the slide's picture, by which the report finds it.
pub(super) const RULE: [u8; 3] = [222, 225, 230];
const OUTLINE: [u8; 3] = [24, 60, 110];
/// Units of coverage per covered pixel.
const FULL: f32 = 256.0;

/// `value.round()` of what is not negative; that is a call where the compiler may not assume SSE 4.1.
#[inline]
fn rounded(value: f32) -> u16 {
    let whole = value as u16;
    whole.saturating_add(u16::from(value - f32::from(whole) >= 0.5))
}

/// The picture of a slide, while its results are read.
pub(super) struct Overview {
    header: SlideHeader,
    kind: ResultKind,
    picture: RgbImage,
    tissue: TissueMask,
    /// Per picture pixel: coverage, and coverage × red, green, blue / 256.
    cover: Vec<[u16; 4]>,
    /// Per picture pixel: coverage by label pixels of any class, what shares of a class map are shares of.
    seen: Vec<u16>,
}

impl Overview {
    /// A picture of at most `max_px` on its longest side.
    pub(super) fn new(
        header: &SlideHeader,
        kind: ResultKind,
        thumbnail: &RgbImage,
        tissue: &TissueMask,
        max_px: u32,
    ) -> Self {
        let picture = shrink(thumbnail, max_px.max(1));
        let cover = touched(picture.w as usize * picture.h as usize);
        let seen = match kind {
            ResultKind::Nuclei => Vec::new(),
            ResultKind::Semantic | ResultKind::Tiles => vec![0; cover.len()],
        };
        Self { header: header.clone(), kind, picture, tissue: tissue.clone(), cover, seen }
    }

    /// Picture px per target px, along x and y.
    fn scale(&self) -> (f64, f64) {
        let grid = &self.header.grid;
        let (sx, sy) = grid.level0_px_per_target_px();
        let (w, h) = (f64::from(self.picture.w), f64::from(self.picture.h));
        (sx * w / f64::from(grid.level0.w.max(1)), sy * h / f64::from(grid.level0.h.max(1)))
    }

    fn color(&self, class: u8) -> Option<[u8; 3]> {
        usize::from(class).checked_sub(1).and_then(|i| self.header.classes.get(i)).map(|c| c.color)
    }

    fn splat(&mut self, x: i64, y: i64, color: [u8; 3], share: f32) {
        if x < 0 || y < 0 || x >= i64::from(self.picture.w) || y >= i64::from(self.picture.h) || share <= 0.0 {
            return;
        }
        let cell = &mut self.cover[y as usize * self.picture.w as usize + x as usize];
        let add = |sum: &mut u16, value: f32| *sum = sum.saturating_add(rounded(value));
        add(&mut cell[0], share * FULL);
        for (sum, channel) in cell[1..].iter_mut().zip(color) {
            add(sum, share * f32::from(channel));
        }
    }

    /// Adds nuclei; lesions are drawn from the class mask instead.
    pub(super) fn add(&mut self, rows: &[Row]) {
        if self.kind != ResultKind::Nuclei {
            return;
        }
        let (sx, sy) = self.scale();
        let um_per_px = self.header.grid.input_mpp.um_per_px() / (sx * sy).sqrt();
        for (_, instance) in rows {
            let Some(color) = self.color(instance.class) else { continue };
            let (x, y) = (instance.centroid.0 * sx, instance.centroid.1 * sy);
            let area_px = instance.features.area_um2 / (um_per_px * um_per_px);
            let radius = (area_px / std::f64::consts::PI).sqrt();
            if radius < 1.0 {
                self.splat_point((x - 0.5, y - 0.5), color, area_px as f32);
            } else {
                self.splat_disc((x, y), radius.min(200.0), color);
            }
        }
    }

    fn splat_point(&mut self, (x, y): (f64, f64), color: [u8; 3], area_px: f32) {
        let (fx, fy) = ((x - x.floor()) as f32, (y - y.floor()) as f32);
        for (dx, wx) in [(0, 1.0 - fx), (1, fx)] {
            for (dy, wy) in [(0, 1.0 - fy), (1, fy)] {
                self.splat(x.floor() as i64 + dx, y.floor() as i64 + dy, color, area_px * wx * wy);
            }
        }
    }

    fn splat_disc(&mut self, (x, y): (f64, f64), radius: f64, color: [u8; 3]) {
        for py in (y - radius - 1.0).floor() as i64..=(y + radius + 1.0).ceil() as i64 {
            for px in (x - radius - 1.0).floor() as i64..=(x + radius + 1.0).ceil() as i64 {
                let (dx, dy) = (px as f64 + 0.5 - x, py as f64 + 0.5 - y);
                // Corners of the square, for sure outside; most of its pixels are.
                if dx * dx + dy * dy > (radius + 0.6) * (radius + 0.6) {
                    continue;
                }
                let distance = dx.hypot(dy);
                self.splat(px, py, color, (radius + 0.5 - distance).clamp(0.0, 1.0) as f32);
            }
        }
    }

    /// Adds the classes of a semantic map, from the coarsest level that is not coarser than the picture.
    pub(super) fn add_classes(&mut self, pyramid: &LabelPyramid<u8>) -> Result<(), OutputError> {
        let (sx, sy) = self.scale();
        let fits = |level: usize| f64::from(1_u32 << level) * sx.max(sy) <= 1.0;
        let level = (0..pyramid.levels.len()).rev().find(|&l| fits(l)).unwrap_or(0);
        let (sx, sy) = (sx * f64::from(1_u32 << level), sy * f64::from(1_u32 << level));
        let colors: Vec<_> = (0..=255).map(|class| self.color(class)).collect();
        // Picture pixels under a label pixel: one, or more when the picture is the finer of the two.
        let under = |at: u32, scale: f64| {
            let first = (f64::from(at) * scale) as u32;
            first..((f64::from(at + 1) * scale).floor() as u32).max(first + 1)
        };
        let (w, h) = (self.picture.w, self.picture.h);
        // Small, so that the label pixels under a picture pixel cannot overflow its sum.
        let share = (sx * sy).min(1.0) as f32;
        pyramid.rows(level, &mut |y, row| {
            for py in under(y, sy).take_while(|&py| py < h) {
                for (x, &class) in (0..).zip(row) {
                    for px in under(x, sx).take_while(|&px| px < w) {
                        let seen = &mut self.seen[(py * w + px) as usize];
                        *seen = seen.saturating_add(rounded(share * FULL));
                        if let Some(color) = colors[usize::from(class)] {
                            self.splat(px.into(), py.into(), color, share);
                        }
                    }
                }
            }
        })
    }

    /// Draws everything and writes the PNG.
    pub(super) fn write(
        mut self,
        path: &Path,
        class_counts: &[u64],
        class_area_um2: &[f64],
        computed_area_um2: f64,
    ) -> Result<(), OutputError> {
        self.draw_cover();
        self.draw_outline();
        let legend = Legend { class_counts, class_area_um2, computed_area_um2 };
        let page = self.page(&legend);
        let file = BufWriter::new(File::create(path).map_err(OutputError::io(path))?);
        let mut encoder = png::Encoder::new(file, page.w, page.h);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // Half a second of a slide's commit otherwise, for a tenth of the bytes.
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().map_err(OutputError::format("PNG", path))?;
        writer.write_image_data(&page.data).map_err(OutputError::format("PNG", path))?;
        writer.finish().map_err(OutputError::format("PNG", path))
    }

    fn draw_cover(&mut self) {
        let (w, h) = (self.picture.w, self.picture.h);
        for y in 0..h {
            for x in 0..w {
                let [cover, r, g, b] = self.cover[(y * w + x) as usize];
                if cover == 0 {
                    continue;
                }
                let mean = |sum: u16| (f32::from(sum) * FULL / f32::from(cover)).min(255.0) as u8;
                let whole = self.seen.get((y * w + x) as usize).map_or(FULL, |&seen| f32::from(seen));
                let share = f32::from(cover) / whole;
                let alpha = match self.kind {
                    ResultKind::Nuclei => 0.85 * (1.0 - (-2.2 * share).exp()),
                    ResultKind::Tiles => 0.5 * share.min(1.0),
                    ResultKind::Semantic => 0.45 * share.min(1.0) + if self.is_class_edge(x, y) { 0.45 } else { 0.0 },
                };
                blend(&mut self.picture, (x, y), [mean(r), mean(g), mean(b)], alpha);
            }
        }
    }

    /// Whether a covered pixel has one beside it that is not.
    fn is_class_edge(&self, x: u32, y: u32) -> bool {
        let covered = |x: u32, y: u32| {
            let at = (y * self.picture.w + x) as usize;
            2 * u32::from(self.cover[at][0]) > u32::from(self.seen[at])
        };
        let (right, below) = ((x + 1).min(self.picture.w - 1), (y + 1).min(self.picture.h - 1));
        let beside = [(x.saturating_sub(1), y), (right, y), (x, y.saturating_sub(1)), (x, below)];
        covered(x, y) && beside.iter().any(|&(x, y)| !covered(x, y))
    }

    fn draw_outline(&mut self) {
        let (w, h) = (self.picture.w, self.picture.h);
        let tissue = &self.tissue;
        let under = |n: u32, of: u32| -> Vec<usize> {
            (0..u64::from(n)).map(|at| (at * u64::from(of) / u64::from(n)) as usize).collect()
        };
        let (columns, rows) = (under(w, tissue.w), under(h, tissue.h));
        let is_tissue = |x: u32, y: u32| {
            let at = rows[y as usize] * tissue.w as usize + columns[x as usize];
            tissue.bits.get(at).is_some_and(|&bit| bit != 0)
        };
        let reach = (self.unit() * 1.0).round().max(1.0) as u32;
        for y in 0..h {
            for x in 0..w {
                let here = is_tissue(x, y);
                let beside = [(x + reach, y), (x, y + reach)];
                if beside.iter().any(|&(x, y)| x < w && y < h && is_tissue(x, y) != here) {
                    blend(&mut self.picture, (x, y), OUTLINE, 0.8);
                }
            }
        }
    }
}

/// Zeros in memory that is there: what nuclei here and there are added to would otherwise be read before it is written,
/// page by page, and every page that takes the place of the system's zeros stops all threads for a moment.
fn touched(len: usize) -> Vec<[u16; 4]> {
    let mut zeros = Vec::with_capacity(len);
    zeros.resize(len, [0; 4]);
    zeros
}

/// Area-averages a picture down so that its longest side is at most `max_px`.
fn shrink(image: &RgbImage, max_px: u32) -> RgbImage {
    if image.w == 0 || image.h == 0 {
        return RgbImage::white(1, 1);
    }
    let longest = image.w.max(image.h);
    if longest <= max_px {
        return image.clone();
    }
    let side = |n: u32| ((u64::from(n) * u64::from(max_px)).div_ceil(u64::from(longest)) as u32).max(1);
    let (w, h) = (side(image.w), side(image.h));
    let mut small = RgbImage::white(w, h);
    for y in 0..h {
        let (y0, y1) = (y * image.h / h, ((y + 1) * image.h / h).max(y * image.h / h + 1));
        for x in 0..w {
            let (x0, x1) = (x * image.w / w, ((x + 1) * image.w / w).max(x * image.w / w + 1));
            let mut sum = [0_u32; 3];
            for v in y0..y1 {
                for u in x0..x1 {
                    image.get(u, v).iter().zip(&mut sum).for_each(|(&c, sum)| *sum += u32::from(c));
                }
            }
            let n = (y1 - y0) * (x1 - x0);
            let at = (y * w + x) as usize * 3;
            for (out, sum) in small.data[at..at + 3].iter_mut().zip(sum) {
                *out = ((sum + n / 2) / n) as u8;
            }
        }
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_keeps_the_mean() {
        let mut image = RgbImage::white(100, 60);
        for (i, v) in image.data.iter_mut().enumerate() {
            *v = (i / 3 % 100) as u8;
        }
        let small = shrink(&image, 50);
        assert_eq!((small.w, small.h), (50, 30));
        assert_eq!(small.get(0, 0)[0], 1);
        assert_eq!(shrink(&image, 500), image);
    }
}
