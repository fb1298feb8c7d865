//! Blur, noise, sharpening.
//!
//! Owns: [`blur`], [`noise`], [`sharpen`]. Must not know: what is drawn.

use crate::train::rng::Rng;

/// Gaussian blur, separable, edges repeated.
pub(super) fn blur(rgb: &mut [u8], w: usize, sigma_px: f64) {
    let radius = (3.0 * sigma_px).ceil().clamp(1.0, 32.0) as usize;
    let weights = weights(sigma_px, radius);
    let h = rgb.len() / (3 * w).max(1);
    let mut line = vec![0_u8; (w + 2 * radius) * 3];
    let mut sums = vec![0_u32; w * 3];
    let finish = |sums: &[u32], out: &mut [u8]| {
        out.iter_mut().zip(sums).for_each(|(o, &s)| *o = ((s + (1 << 15)) >> 16) as u8);
    };
    for row in rgb.chunks_exact_mut(w * 3) {
        line[radius * 3..][..w * 3].copy_from_slice(row);
        for i in 0..radius {
            line.copy_within(radius * 3..radius * 3 + 3, i * 3);
            line.copy_within((radius + w - 1) * 3..(radius + w) * 3, (radius + w + i) * 3);
        }
        sums.fill(0);
        for (k, &weight) in weights.iter().enumerate() {
            sums.iter_mut().zip(&line[k * 3..]).for_each(|(s, &v)| *s += weight * u32::from(v));
        }
        finish(&sums, row);
    }
    let source = rgb.to_vec();
    for (y, row) in rgb.chunks_exact_mut(w * 3).enumerate() {
        sums.fill(0);
        for (k, &weight) in weights.iter().enumerate() {
            let from = (y + k).saturating_sub(radius).min(h - 1);
            sums.iter_mut().zip(&source[from * w * 3..][..w * 3]).for_each(|(s, &v)| *s += weight * u32::from(v));
        }
        finish(&sums, row);
    }
}

/// Weights in units of 2⁻¹⁶ that sum to one.
fn weights(sigma: f64, radius: usize) -> Vec<u32> {
    let exact: Vec<f64> =
        (0..=2 * radius).map(|k| (-((k as f64 - radius as f64) / sigma).powi(2) / 2.0).exp()).collect();
    let sum: f64 = exact.iter().sum();
    let mut weights: Vec<u32> = exact.iter().map(|v| (v / sum * 65_536.0).round() as u32).collect();
    let rest = 65_536 - (weights.iter().sum::<u32>() - weights[radius]);
    weights[radius] = rest;
    weights
}

/// Noise of spread `sigma` (share of full brightness), each value by itself: a sum of four even numbers, near enough to
/// normal.
pub(super) fn noise(rgb: &mut [u8], sigma: f64, key: u64) {
    let mut rng = Rng::new(&[key]);
    // Four numbers of 16 bits have the spread 65536·√(4/12).
    let scale = (sigma * 255.0 / (65_536.0 * (4.0_f64 / 12.0).sqrt())) as f32;
    for v in rgb {
        let bits = rng.bits();
        let sum = (0..4).map(|k| (bits >> (16 * k)) & 0xffff).sum::<u64>() as f32 - 131_070.0;
        *v = (f32::from(*v) + sum * scale + 0.5) as u8;
    }
}

/// Each px plus `share` of its difference to its eight neighbours (imgaug's `Sharpen`), edges repeated.
pub(super) fn sharpen(rgb: &mut [u8], w: usize, share: f64) {
    let h = rgb.len() / (3 * w).max(1);
    let source = rgb.to_vec();
    let share = share as f32;
    let row_at = |y: usize| &source[y * w * 3..][..w * 3];
    let mut columns = vec![0_i32; w * 3];
    for (y, row) in rgb.chunks_exact_mut(w * 3).enumerate() {
        let rows = [row_at(y.saturating_sub(1)), row_at(y), row_at((y + 1).min(h - 1))];
        let all = columns.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]);
        all.for_each(|(((sum, &a), &b), &c)| *sum = i32::from(a) + i32::from(b) + i32::from(c));
        for (i, out) in row.iter_mut().enumerate() {
            let left = if i >= 3 { columns[i - 3] } else { columns[i] };
            let right = if i + 3 < w * 3 { columns[i + 3] } else { columns[i] };
            let own = i32::from(rows[1][i]);
            let more = 9 * own - left - columns[i] - right;
            *out = (own as f32 + share * more as f32 + 0.5) as u8;
        }
    }
}
