//! The picture of a slide: what was found, where, how much, at which scale.
//!
//! Owns: [`Overview`] and its layout. Must not know: how results were made.
//!
//! Over the thumbnail lies the share of each picture pixel that each class covers: a nucleus larger than a picture
//! pixel is a disc of its class's colour, smaller ones add up to a density. Beside it stands the legend.

use super::{
    OutputError, ResultKind, SlideHeader,
    columns::Row,
    legend::{Legend, scale_bar},
    pyramid::LabelPyramid,
    shape::{fill, swatch},
    text::{Text, blend, grouped, trimmed},
};
use crate::{geometry::Rect, pixels::RgbImage, tissue::TissueMask};
use std::{fs::File, io::BufWriter, path::Path};

const INK: [u8; 3] = [32, 36, 44];
const FAINT: [u8; 3] = [112, 118, 130];
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
        let cover = vec![[0; 4]; picture.w as usize * picture.h as usize];
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

    /// Size of everything that is not the picture, relative to a picture of 1,000 px.
    fn unit(&self) -> f32 {
        (self.picture.w.max(self.picture.h) as f32 / 1000.0).clamp(0.8, 4.0)
    }

    fn page(&self, legend: &Legend) -> RgbImage {
        let u = self.unit();
        let px = |v: f32| (v * u).round() as u32;
        let (margin, head) = (px(24.0), px(84.0));
        // As wide as its lines, and so that the head's line fits above; a name without end is cut.
        let above = self.head_width_px(u) - (self.picture.w + margin) as f32;
        let side = self.legend_width_px(u, legend).max(above).clamp(290.0 * u, 900.0 * u).ceil() as u32;
        let height = self.picture.h.max(px(150.0 + 44.0 * self.header.classes.len() as f32));
        let mut page = RgbImage::white(self.picture.w + side + 3 * margin, height + head + margin);
        let (x0, y0) = (margin, head);
        for y in 0..self.picture.h {
            let from = (y * self.picture.w) as usize * 3;
            let to = ((y + y0) * page.w + x0) as usize * 3;
            let len = self.picture.w as usize * 3;
            page.data[to..to + len].copy_from_slice(&self.picture.data[from..from + len]);
        }
        let frame = Rect::<crate::geometry::Level0>::new(
            i64::from(x0) - 1,
            i64::from(y0) - 1,
            self.picture.w + 2,
            self.picture.h + 2,
        );
        for x in frame.x..frame.right() {
            [frame.y, frame.bottom() - 1].into_iter().for_each(|y| blend(&mut page, (x as u32, y as u32), RULE, 1.0));
        }
        for y in frame.y..frame.bottom() {
            [frame.x, frame.right() - 1].into_iter().for_each(|x| blend(&mut page, (x as u32, y as u32), RULE, 1.0));
        }
        self.draw_head(&mut page, margin as f32, u);
        self.draw_scale_bar(&mut page, (x0 as f32, (y0 + self.picture.h) as f32), u);
        let left = (x0 + self.picture.w + margin) as f32;
        self.draw_legend(&mut page, (left, y0 as f32, side as f32), u, legend);
        page
    }

    fn draw_head(&self, page: &mut RgbImage, margin: f32, u: f32) {
        let room = page.w as f32 - 2.0 * margin;
        let title = Text { size_px: 24.0 * u, color: INK };
        title.draw(page, (margin, 18.0 * u), &title.fit(&self.header.id, room));
        let small = Text { size_px: 14.0 * u, color: FAINT };
        small.draw(page, (margin, 52.0 * u), &small.fit(&self.head_line(), room));
    }

    /// Width of the head's lines in px.
    fn head_width_px(&self, u: f32) -> f32 {
        let width = |size_px: f32, line: &str| Text { size_px, color: INK }.width_px(line);
        width(14.0 * u, &self.head_line()).max(width(24.0 * u, &self.header.id))
    }

    /// What is below the title: size, resolution, model.
    fn head_line(&self) -> String {
        let grid = &self.header.grid;
        let mpp = |m: crate::units::Mpp| trimmed(m.um_per_px(), 4);
        let (mx, my) = (mpp(grid.slide_mpp.x), mpp(grid.slide_mpp.y));
        let resolution = if mx == my { mx } else { format!("{mx} x {my}") };
        format!(
            "{} x {} px at {resolution} µm/px  ·  {} at {} µm/px",
            grouped(grid.level0.w.into()),
            grouped(grid.level0.h.into()),
            self.header.model,
            mpp(grid.input_mpp)
        )
    }

    fn draw_scale_bar(&self, page: &mut RgbImage, (left, bottom): (f32, f32), u: f32) {
        let grid = &self.header.grid;
        let um_per_px = f64::from(grid.level0.w) * grid.slide_mpp.x.um_per_px() / f64::from(self.picture.w.max(1));
        let Some((um, label)) = scale_bar(um_per_px * f64::from(self.picture.w) / 5.0) else { return };
        let length = (um / um_per_px) as f32;
        let text = Text { size_px: 15.0 * u, color: INK };
        let (pad, bar) = (9.0 * u, 5.0 * u);
        let width = length.max(text.width_px(&label));
        let (x, y) = (left + 14.0 * u, bottom - 14.0 * u - 2.0 * pad - bar - 21.0 * u);
        fill(page, (x, y), (width + 2.0 * pad, 2.0 * pad + bar + 21.0 * u), [255, 255, 255], 0.86);
        text.draw(page, (x + pad + (width - text.width_px(&label)) / 2.0, y + pad), &label);
        fill(page, (x + pad + (width - length) / 2.0, y + pad + 21.0 * u), (length, bar), INK, 1.0);
    }

    /// Width in px that the legend's lines need.
    fn legend_width_px(&self, u: f32, legend: &Legend) -> f32 {
        let name = Text { size_px: 16.0 * u, color: INK };
        let small = Text { size_px: 13.0 * u, color: FAINT };
        let rows = self.header.classes.iter().enumerate().map(|(i, class)| {
            let (number, line) = legend.row(i);
            (38.0 * u + name.width_px(&class.name) + name.width_px(&number)).max(28.0 * u + small.width_px(&line))
        });
        // Rounding of the page must not cut a letter.
        rows.fold(small.width_px(&legend.computed()), f32::max) + 2.0
    }

    fn draw_legend(&self, page: &mut RgbImage, (x, y, w): (f32, f32, f32), u: f32, legend: &Legend) {
        let name = Text { size_px: 16.0 * u, color: INK };
        let small = Text { size_px: 13.0 * u, color: FAINT };
        let big = Text { size_px: 26.0 * u, color: INK };
        let total: u64 = legend.class_counts.iter().sum();
        let noun = match (self.kind, total) {
            (ResultKind::Nuclei, 1) => "nucleus",
            (ResultKind::Nuclei, _) => "nuclei",
            (ResultKind::Semantic, 1) => "lesion",
            (ResultKind::Semantic, _) => "lesions",
            (ResultKind::Tiles, 1) => "tile",
            (ResultKind::Tiles, _) => "tiles",
        };
        big.draw(page, (x, y), &grouped(total));
        name.draw(page, (x + big.width_px(&grouped(total)) + 8.0 * u, y + 9.0 * u), noun);
        small.draw(page, (x, y + 38.0 * u), &legend.computed());
        fill(page, (x, y + 62.0 * u), (w, 1.0_f32.max(u)), RULE, 1.0);
        let mut top = y + 78.0 * u;
        for (i, class) in self.header.classes.iter().enumerate() {
            if top + 40.0 * u > page.h as f32 {
                break;
            }
            swatch(page, (x, top), 18.0 * u, class.color);
            let (number, line) = legend.row(i);
            let number_x = x + w - name.width_px(&number);
            let room = number_x - x - 38.0 * u;
            name.draw(page, (x + 28.0 * u, top + 1.0 * u), &name.fit(&class.name, room));
            name.draw(page, (number_x, top + 1.0 * u), &number);
            small.draw(page, (x + 28.0 * u, top + 21.0 * u), &small.fit(&line, w - 28.0 * u));
            top += 46.0 * u;
        }
        if top + 40.0 * u < page.h as f32 {
            fill(page, (x, top), (w, 1.0_f32.max(u)), RULE, 1.0);
            fill(page, (x, top + 24.0 * u), (18.0 * u, 2.0 * u), OUTLINE, 0.9);
            small.draw(page, (x + 28.0 * u, top + 18.0 * u), "edge of the tissue");
        }
    }
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
