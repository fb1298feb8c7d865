//! Brightness, contrast, saturation, hue, gamma.
//!
//! Owns: [`jitter`], [`gamma`]. Must not know: stains.
//! Source: torchvision's `ColorJitter` (factors, grey = 0.299 R + 0.587 G + 0.114 B), in this order and without cutting
//! values off between. Differs: hue turns colours around the grey axis in YIQ, so that all four are one matrix;
//! and a factor for each channel follows.

use crate::{config::settings::data::ColorJitter, train::rng::Rng};

const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// Rows of a matrix and what is added.
type Affine = [[f32; 4]; 3];

/// Changes `rgb` (`[n, 3]`).
pub(super) fn jitter(rgb: &mut [u8], settings: &ColorJitter, grey_prob: f64, rng: &mut Rng) {
    let is = rng.chance(settings.prob);
    let brightness = 1.0 + rng.within(settings.brightness);
    let contrast = 1.0 + rng.within(settings.contrast);
    let saturation = 1.0 + rng.within(settings.saturation);
    let hue = rng.within(settings.hue_deg);
    let gains: [f64; 3] = std::array::from_fn(|_| 1.0 + rng.within(settings.channels));
    let grey = rng.chance(grey_prob);
    if !is && !grey {
        return;
    }
    let mut change: Affine = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
    if is {
        let brightness = brightness.max(0.0) as f32;
        change.iter_mut().flatten().for_each(|v| *v *= brightness);
        let contrast = contrast.max(0.0) as f32;
        let mean = mean_grey(rgb) * brightness;
        change.iter_mut().flatten().for_each(|v| *v *= contrast);
        change.iter_mut().for_each(|row| row[3] += (1.0 - contrast) * mean);
        change = after(&saturate(saturation.max(0.0) as f32), &change);
        change = after(&turn_hue(hue), &change);
        change.iter_mut().zip(gains).for_each(|(row, gain)| row.iter_mut().for_each(|v| *v *= gain as f32));
    }
    if grey {
        change = after(&saturate(0.0), &change);
    }
    apply(rgb, &change);
}

fn mean_grey(rgb: &[u8]) -> f32 {
    let mut sums = [0_u64; 3];
    rgb.chunks_exact(3).for_each(|px| (0..3).for_each(|c| sums[c] += u64::from(px[c])));
    let n = (rgb.len() / 3).max(1) as f32;
    (0..3).map(|c| GREY[c] * sums[c] as f32 / n).sum()
}

/// A mixture of the px and its grey.
fn saturate(factor: f32) -> [[f32; 3]; 3] {
    std::array::from_fn(|r| std::array::from_fn(|c| (1.0 - factor) * GREY[c] + if r == c { factor } else { 0.0 }))
}

/// Rotation in the plane of I and Q.
fn turn_hue(degrees: f64) -> [[f32; 3]; 3] {
    const YIQ: [[f64; 3]; 3] =
        [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]];
    const RGB: [[f64; 3]; 3] =
        [[1.0, 0.9562957, 0.6210244], [1.0, -0.2721221, -0.6473806], [1.0, -1.1069890, 1.7046150]];
    let (sin, cos) = degrees.to_radians().sin_cos();
    let turn = [[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]];
    let product = |a: &[[f64; 3]; 3], b: &[[f64; 3]; 3]| -> [[f64; 3]; 3] {
        std::array::from_fn(|r| std::array::from_fn(|c| (0..3).map(|k| a[r][k] * b[k][c]).sum()))
    };
    product(&RGB, &product(&turn, &YIQ)).map(|row| row.map(|v| v as f32))
}

fn after(matrix: &[[f32; 3]; 3], change: &Affine) -> Affine {
    std::array::from_fn(|r| std::array::from_fn(|c| (0..3).map(|k| matrix[r][k] * change[k][c]).sum()))
}

fn apply(rgb: &mut [u8], change: &Affine) {
    for px in rgb.chunks_exact_mut(3) {
        let v = [f32::from(px[0]), f32::from(px[1]), f32::from(px[2])];
        for (out, row) in px.iter_mut().zip(change) {
            // `as` cuts off at 0 and 255.
            *out = (row[0] * v[0] + row[1] * v[1] + row[2] * v[2] + row[3] + 0.5) as u8;
        }
    }
}

/// `255·(v/255)^γ`.
pub(super) fn gamma(rgb: &mut [u8], gamma: f64) {
    let gamma = gamma.max(0.05);
    let table: [u8; 256] = std::array::from_fn(|v| (255.0 * (v as f64 / 255.0).powf(gamma)).round() as u8);
    rgb.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}
