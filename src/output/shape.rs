//! Shapes on pictures.
//!
//! Owns: [`swatch`], [`fill`]. Must not know: what they stand for.

use super::text::blend;
use crate::pixels::RgbImage;

/// A rounded square of a class's colour.
pub(super) fn swatch(page: &mut RgbImage, (x, y): (f32, f32), side: f32, color: [u8; 3]) {
    let (half, radius) = (side / 2.0, side * 0.25);
    for py in y as i64..=(y + side) as i64 {
        for px in x as i64..=(x + side) as i64 {
            let dx = ((px as f32 + 0.5 - x - half).abs() - half + radius).max(0.0);
            let dy = ((py as f32 + 0.5 - y - half).abs() - half + radius).max(0.0);
            let alpha = (radius + 0.5 - dx.hypot(dy)).clamp(0.0, 1.0);
            blend(page, (px as u32, py as u32), color, alpha);
        }
    }
}

/// A rectangle, its edges at the nearest px.
pub(super) fn fill(page: &mut RgbImage, (x, y): (f32, f32), (w, h): (f32, f32), color: [u8; 3], alpha: f32) {
    let (x0, x1) = (x.round().max(0.0) as u32, (x + w).round().max(0.0) as u32);
    let (y0, y1) = (y.round().max(0.0) as u32, (y + h).round().max(0.0) as u32);
    (y0..y1).for_each(|y| (x0..x1).for_each(|x| blend(page, (x, y), color, alpha)));
}
