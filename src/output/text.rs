//! Letters on pictures: an 8 × 8 bitmap font, set proportionally and drawn with smooth edges.
//!
//! Owns: [`Text`], the drawing of glyphs, how numbers are written. Must not know: what is written.
//!
//! The bitmap is read as a height field: between the centres of its dots it is interpolated and cut at half height,
//! which rounds corners and straightens diagonals at any size. Characters the font lacks become a box.

use crate::pixels::RgbImage;
use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};

/// A size and a colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    /// Height of the line in px; capitals are 7/8 of it.
    pub size_px: f32,
    /// Colour.
    pub color: [u8; 3],
}

const BOX: [u8; 8] = [0x7f, 0x41, 0x41, 0x41, 0x41, 0x41, 0x7f, 0x00];
/// The font's own is too small to read.
const SQUARED: [u8; 8] = [0x06, 0x09, 0x04, 0x02, 0x0f, 0x00, 0x00, 0x00];
/// Width of a space, in dots.
const SPACE: u32 = 4;

struct Glyph {
    rows: [u8; 8],
    left: u32,
    width: u32,
}

fn glyph(c: char) -> Glyph {
    let squared = (c == '²').then_some(SQUARED);
    let rows = squared
        .or_else(|| BASIC_FONTS.get(c))
        .or_else(|| LATIN_FONTS.get(c))
        .or_else(|| GREEK_FONTS.get(c))
        .unwrap_or(BOX);
    let used = rows.iter().fold(0, |all, row| all | row);
    if used == 0 {
        return Glyph { rows: [0; 8], left: 0, width: SPACE };
    }
    Glyph { rows, left: used.trailing_zeros(), width: 8 - used.leading_zeros() - used.trailing_zeros() }
}

impl Text {
    /// Width of `line` in px.
    pub(super) fn width_px(&self, line: &str) -> f32 {
        let dots: u32 = line.chars().map(|c| glyph(c).width + 1).sum();
        dots as f32 * self.size_px / 8.0
    }

    /// `line`, cut in its middle to fit `max_px`.
    pub(super) fn fit(&self, line: &str, max_px: f32) -> String {
        let chars: Vec<char> = line.chars().collect();
        for kept in (0..=chars.len()).rev() {
            let cut: String = if kept == chars.len() {
                line.to_owned()
            } else {
                let (head, tail) = (kept.div_ceil(2), kept / 2);
                chars[..head].iter().chain(&['.', '.', '.']).chain(&chars[chars.len() - tail..]).collect()
            };
            if self.width_px(&cut) <= max_px {
                return cut;
            }
        }
        String::new()
    }

    /// Draws `line` with its top left corner at `(x, y)`; what lies outside the picture is cut off.
    pub(super) fn draw(&self, image: &mut RgbImage, (x, y): (f32, f32), line: &str) {
        let dot_px = self.size_px / 8.0;
        let mut pen = x;
        for c in line.chars() {
            let glyph = glyph(c);
            self.draw_glyph(image, (pen, y), dot_px, &glyph);
            pen += (glyph.width + 1) as f32 * dot_px;
        }
    }

    fn draw_glyph(&self, image: &mut RgbImage, (x, y): (f32, f32), dot_px: f32, glyph: &Glyph) {
        let (x0, x1) = ((x - dot_px).floor() as i64, (x + (glyph.width + 1) as f32 * dot_px).ceil() as i64);
        let (y0, y1) = ((y - dot_px).floor() as i64, (y + 9.0 * dot_px).ceil() as i64);
        for py in y0.max(0)..y1.min(image.h.into()) {
            for px in x0.max(0)..x1.min(image.w.into()) {
                // Position in dots, counted at their centres.
                let u = (px as f32 + 0.5 - x) / dot_px - 0.5 + glyph.left as f32;
                let v = (py as f32 + 0.5 - y) / dot_px - 0.5;
                let height = glyph.height_at(u, v);
                let ink = ((height - 0.5) * dot_px * 1.4 + 0.5).clamp(0.0, 1.0);
                if ink > 0.0 {
                    blend(image, (px as u32, py as u32), self.color, ink);
                }
            }
        }
    }
}

impl Glyph {
    fn dot(&self, col: i32, row: i32) -> f32 {
        let inside = (0..8).contains(&col) && (0..8).contains(&row);
        if inside && self.rows[row as usize] >> col & 1 == 1 { 1.0 } else { 0.0 }
    }

    fn height_at(&self, u: f32, v: f32) -> f32 {
        let (col, row) = (u.floor(), v.floor());
        let (fx, fy) = (u - col, v - row);
        let (col, row) = (col as i32, row as i32);
        let line = |row| self.dot(col, row) * (1.0 - fx) + self.dot(col + 1, row) * fx;
        line(row) * (1.0 - fy) + line(row + 1) * fy
    }
}

/// Mixes `color` into a pixel: `alpha` 1 replaces it.
pub(super) fn blend(image: &mut RgbImage, (x, y): (u32, u32), color: [u8; 3], alpha: f32) {
    if x >= image.w || y >= image.h {
        return;
    }
    let at = (y as usize * image.w as usize + x as usize) * 3;
    for (below, above) in image.data[at..at + 3].iter_mut().zip(color) {
        *below = (f32::from(*below) + (f32::from(above) - f32::from(*below)) * alpha).round() as u8;
    }
}

/// A number with at most `digits` decimals and no zeros at its end.
pub(super) fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// 1234567 → `1,234,567`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Text = Text { size_px: 16.0, color: [0, 0, 0] };

    #[test]
    fn a_long_line_keeps_its_ends() {
        let cut = TEXT.fit("TCGA-AA-0001-slide-with-a-long-name.svs", 150.0);
        assert!(TEXT.width_px(&cut) <= 150.0);
        assert!(cut.starts_with("TCGA") && cut.ends_with("svs") && cut.contains("..."), "{cut}");
        assert_eq!(TEXT.fit("short", 150.0), "short");
        assert_eq!(TEXT.fit("anything", 1.0), "");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn any_utf8_can_be_drawn_anywhere() {
        let mut image = RgbImage::white(40, 20);
        for at in [(-30.0, -5.0), (0.0, 0.0), (39.0, 19.0), (500.0, 500.0)] {
            TEXT.draw(&mut image, at, "µm² é 日本 \u{1F52C}\n");
        }
        assert!(image.data.iter().any(|&v| v < 50));
    }
}
