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
