//! The page around the picture: head, frame, scale bar, legend.
//!
//! Owns: the layout of an [`Overview`]. Must not know: how the picture was made.

use super::{OUTLINE, Overview, RULE};
use crate::{
    geometry::Rect,
    output::{
        ResultKind,
        legend::{Legend, scale_bar},
        shape::{fill, swatch},
        text::{Text, blend, grouped, trimmed},
    },
    pixels::RgbImage,
};

const INK: [u8; 3] = [32, 36, 44];
const FAINT: [u8; 3] = [112, 118, 130];

impl Overview {
    /// Size of everything that is not the picture, relative to a picture of 1,000 px.
    pub(super) fn unit(&self) -> f32 {
        (self.picture.w.max(self.picture.h) as f32 / 1000.0).clamp(0.8, 4.0)
    }

    pub(super) fn page(&self, legend: &Legend) -> RgbImage {
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
