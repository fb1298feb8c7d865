//! Attention inside windows of a map.
//!
//! Owns: [`window_attention`]. Must not know: networks.
//!
//! Source: Liu 2021, "Swin Transformer", §3.2; authors' code `models/swin_transformer.py`.

use candle_core::{Device, Result, Tensor};
use candle_nn::ops;

/// Added to the score of pixels that are no neighbours, as in the authors' code.
const APART: f64 = -100.0;

/// [`Op::WindowAttention`](crate::model::graph::Op::WindowAttention).
///
/// # Shapes
/// - `x`: `[N, 3·C, h, w]`; `bias_table`: `[(2·window_px − 1)², heads]`
/// - returns `[N, C, h, w]`
///
/// # Errors
/// Candle's.
pub(super) fn window_attention(
    x: &Tensor,
    bias_table: &Tensor,
    heads: usize,
    window_px: usize,
    shift_px: usize,
) -> Result<Tensor> {
    let (n, c3, h, w) = x.dims4()?;
    let (c, rows, columns) = (c3 / 3, h / window_px, w / window_px);
    let pixels = window_px * window_px;
    let shift = |side: usize| if side == window_px { 0 } else { shift_px };
    let shifts = [shift(h), shift(w)];
    let x = roll(x, shifts.map(|s| -(s as i64)))?.contiguous()?;
    // `[3, images and windows, heads, pixels, channels of a head]`
    let parts = x
        .reshape(vec![n, 3, heads, c / heads, rows, window_px, columns, window_px])?
        .permute(vec![1, 0, 4, 6, 2, 5, 7, 3])?
        .contiguous()?
        .reshape(vec![3, n * rows * columns, heads, pixels, c / heads])?;
    let part = |i: usize| parts.get(i)?.contiguous();
    let scores = part(0)?.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?;
    let scores = (scores * (c as f64 / heads as f64).powf(-0.5))?;
    let mut scores = scores.broadcast_add(&position_bias(bias_table, window_px)?.unsqueeze(0)?)?;
    if shifts != [0, 0] {
        let apart = apart([h, w], window_px, shifts, x.device())?.to_dtype(x.dtype())?;
        let per_image = scores.reshape((n, rows * columns, heads, pixels, pixels))?;
        scores = per_image.broadcast_add(&apart)?.reshape((n * rows * columns, heads, pixels, pixels))?;
    }
    let seen = ops::softmax(&scores, 3)?.matmul(&part(2)?)?;
    let seen = seen
        .reshape(vec![n, rows, columns, heads, window_px, window_px, c / heads])?
        .permute(vec![0, 3, 6, 1, 4, 2, 5])?
        .contiguous()?
        .reshape((n, c, h, w))?;
    roll(&seen, shifts.map(|s| s as i64))?.contiguous()
}

fn roll(x: &Tensor, shifts: [i64; 2]) -> Result<Tensor> {
    let [down, right] = shifts;
    let x = if down == 0 { x.clone() } else { x.roll(down as i32, 2)? };
    if right == 0 { Ok(x) } else { x.roll(right as i32, 3) }
}

/// Bias of every query of a window for every key, `[heads, pixels, pixels]`.
fn position_bias(table: &Tensor, window_px: usize) -> Result<Tensor> {
    let pixels = window_px * window_px;
    let row = |query: usize, key: usize| {
        let offset = |q: usize, k: usize| q + window_px - 1 - k;
        let down = offset(query / window_px, key / window_px);
        down * (2 * window_px - 1) + offset(query % window_px, key % window_px)
    };
    let index = (0..pixels * pixels).map(|i| row(i / pixels, i % pixels) as u32);
    let bias = table.index_select(&Tensor::from_iter(index, table.device())?, 0)?;
    bias.reshape((pixels, pixels, ()))?.permute((2, 0, 1))?.contiguous()
}

/// What is added to the scores of pixels that a roll brought together, `[1, windows, 1, pixels, pixels]`.
fn apart(size: [usize; 2], window_px: usize, shifts: [usize; 2], device: &Device) -> Result<Tensor> {
    let [rows, columns] = size.map(|side| side / window_px);
    let pixels = window_px * window_px;
    // Of a rolled axis, the last `shift` pixels come from its start.
    let is_rolled = |axis: usize, at: usize| at >= size[axis] - shifts[axis];
    let mut values = Vec::with_capacity(rows * columns * pixels * pixels);
    for window in 0..rows * columns {
        let region = |pixel: usize| {
            let y = window / columns * window_px + pixel / window_px;
            let x = window % columns * window_px + pixel % window_px;
            (is_rolled(0, y), is_rolled(1, x))
        };
        for query in 0..pixels {
            values.extend((0..pixels).map(|key| if region(query) == region(key) { 0.0 } else { APART }));
        }
    }
    Tensor::from_vec(values, (1, rows * columns, 1, pixels, pixels), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    const WINDOW_PX: usize = 2;
    const HEADS: usize = 2;

    /// Values as plain numbers, `[n][c][y][x]` in row-major order.
    fn plain(x: &[f64], table: &[f64], [c, h, w]: [usize; 3], shift_px: usize) -> Vec<f64> {
        let shifts = [h, w].map(|side| if side == WINDOW_PX { 0 } else { shift_px });
        let (per_head, mut out) = (c / HEADS, vec![0.0; c * h * w]);
        let at = |part: usize, channel: usize, [y, x_]: [usize; 2]| x[((part * c + channel) * h + y) * w + x_];
        // Window and whether a pixel came from the other edge, per axis; and its place in the window.
        let rolled = |axis: usize, p: usize| (p + [h, w][axis] - shifts[axis]) % [h, w][axis];
        let seat = |axis: usize, p: usize| (rolled(axis, p) / WINDOW_PX, rolled(axis, p) % WINDOW_PX, p < shifts[axis]);
        let pixels: Vec<[usize; 2]> = (0..h * w).map(|i| [i / w, i % w]).collect();
        for head in 0..HEADS {
            let channels = head * per_head..(head + 1) * per_head;
            for &query in &pixels {
                let mut weights = vec![];
                for &key in &pixels {
                    let seats = [0, 1].map(|axis| (seat(axis, query[axis]), seat(axis, key[axis])));
                    if seats.iter().any(|(q, k)| q.0 != k.0) {
                        continue;
                    }
                    let apart = if seats.iter().any(|(q, k)| q.2 != k.2) { APART } else { 0.0 };
                    let [down, right] = seats.map(|(q, k)| q.1 + WINDOW_PX - 1 - k.1);
                    let bias = table[(down * (2 * WINDOW_PX - 1) + right) * HEADS + head];
                    let dot: f64 = channels.clone().map(|i| at(0, i, query) * at(1, i, key)).sum();
                    weights.push((key, (dot / (per_head as f64).sqrt() + bias + apart).exp()));
                }
                let all: f64 = weights.iter().map(|(_, weight)| weight).sum();
                for i in channels.clone() {
                    let seen: f64 = weights.iter().map(|(key, weight)| weight / all * at(2, i, *key)).sum();
                    out[(i * h + query[0]) * w + query[1]] = seen;
                }
            }
        }
        out
    }

    #[test]
    fn windows_agree_with_plain_loops_at_every_shift_and_shape() {
        let values = |count: usize, step: usize| -> Vec<f64> {
            (0..count).map(|i| ((i * step + 5) % 101) as f64 / 33.0 - 1.5).collect()
        };
        let table = values(9 * HEADS, 47);
        for (c, h, w, shift_px) in [(4, 4, 6, 0), (4, 4, 6, 1), (2, 2, 8, 1), (2, 6, 2, 1), (4, 2, 2, 1)] {
            let x = values(3 * c * h * w, 37);
            let tensor = Tensor::from_slice(&x, (1, 3 * c, h, w), &Device::Cpu).unwrap();
            let bias = Tensor::from_slice(&table, (9, HEADS), &Device::Cpu).unwrap();
            let y = window_attention(&tensor, &bias, HEADS, WINDOW_PX, shift_px).unwrap();
            assert_eq!((y.dims(), y.dtype()), (&[1, c, h, w][..], DType::F64));
            let y: Vec<f64> = y.flatten_all().unwrap().to_vec1().unwrap();
            let expected = plain(&x, &table, [c, h, w], shift_px);
            let worst = y.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-12, "{c} × {h} × {w}, shift {shift_px}: {worst}");
        }
    }
}
