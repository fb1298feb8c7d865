//! The heart of a convolution: a few pixels by a few vectors of channels, summed in registers.
//!
//! Owns: [`Taps`], [`Finish`], [`Tile`], [`tile`]. Must not know: images, bands, how inputs and weights came to be laid out.
//!
//! Inputs lie in blocks of [`WORDS`] words per pixel, pixels a constant distance apart, so that one pointer and constant
//! displacements reach all pixels of a tile. A sum's order is that of the weights, whatever the tile.

#![expect(clippy::needless_range_loop, reason = "registers by number: such loops unroll, others may not")]

use super::mac::{Mac, V, Word};
use crate::kernels::cpu::simd::Simd;

/// Words of a pixel in a block: a cache line.
pub(super) const WORDS: usize = 16;

/// How a sum walks through its inputs: blocks of channels, rows and columns of the kernel, words in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    /// Blocks of channels, and floats from one to the next.
    pub blocks: (usize, usize),
    /// Rows of the kernel, and floats from one to the next.
    pub rows: (usize, usize),
    /// Columns of the kernel, and floats from one to the next.
    pub cols: (usize, usize),
    /// Words side by side.
    pub run: usize,
    /// The same in the last block.
    pub last_run: usize,
}

/// What becomes of a tile's sums.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// Go on from what is in the output.
    pub resume: bool,
    /// Add the bias.
    pub adds_bias: bool,
    /// Added.
    pub residual: *const f32,
    /// Floats between the residual's pixels.
    pub residual_px: usize,
    /// Added before the clamp.
    pub residual_first: bool,
    /// Least and largest value.
    pub clamp: Option<(f32, f32)>,
}

/// A tile: where its input, weights and output are.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub x: *const f32,
    pub w: *const f32,
    pub bias: *const f32,
    /// What sums of whole numbers are multiplied by: of each pixel, of each channel; of others null.
    pub scales: (*const f32, *const f32),
    pub out: *mut f32,
    /// Floats between the output's pixels.
    pub out_px: usize,
    /// Channels, at most the width of the vectors.
    pub channels: usize,
}

/// Sums `N` pixels by `VN` vectors; the pixels' inputs are `D` floats apart.
///
/// # Safety
/// The input is good for all taps of all pixels, the weights for all taps, the bias for `VN` vectors, the output and the
/// residual for `channels` floats of each pixel; for whole numbers the scales for `N` pixels and `VN` vectors.
#[inline(always)]
pub(super) unsafe fn tile<M: Mac, const N: usize, const VN: usize, const D: usize>(
    t: &Tile,
    taps: &Taps,
    finish: &Finish,
) {
    let lanes = M::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [[M::S::splat(0.0); VN]; N];
        if M::WORD != Word::Integers {
            begin::<M, N, VN>(&mut acc, t, finish);
        }
        let (mut w, mut xb) = (t.w, t.x);
        for block in 0..taps.blocks.0 {
            let run = if block + 1 == taps.blocks.0 { taps.last_run } else { taps.run };
            let mut xr = xb;
            for _ in 0..taps.rows.0 {
                let mut xc = xr;
                for _ in 0..taps.cols.0 {
                    let mut x = xc;
                    for _ in 0..run / 4 {
                        for k in 0..4 {
                            step::<M, N, VN, D>(&mut acc, x.add(k), w.add(k * VN * lanes));
                        }
                        x = x.add(4);
                        w = w.add(4 * VN * lanes);
                    }
                    for _ in 0..run % 4 {
                        step::<M, N, VN, D>(&mut acc, x, w);
                        x = x.add(1);
                        w = w.add(VN * lanes);
                    }
                    xc = xc.add(taps.cols.1);
                }
                xr = xr.add(taps.rows.1);
            }
            xb = xb.add(taps.blocks.1);
        }
        if M::WORD == Word::Integers {
            let whole = acc;
            acc = [[M::S::splat(0.0); VN]; N];
            begin::<M, N, VN>(&mut acc, t, finish);
            for v in 0..VN {
                let of_channel = M::S::load(t.scales.1.add(v * lanes));
                for i in 0..N {
                    let scale = M::S::mul(M::S::splat(*t.scales.0.add(i)), of_channel);
                    acc[i][v] = M::S::fma(M::float(whole[i][v]), scale, acc[i][v]);
                }
            }
        }
        put::<M, N, VN>(acc, t, finish);
    }
}

/// What is there before the sum: the bias, the output.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn begin<M: Mac, const N: usize, const VN: usize>(acc: &mut [[V<M>; VN]; N], t: &Tile, finish: &Finish) {
    let lanes = M::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        if finish.adds_bias {
            for v in 0..VN {
                let b = M::S::load(t.bias.add(v * lanes));
                for a in acc.iter_mut() {
                    a[v] = b;
                }
            }
        }
        if finish.resume {
            for i in 0..N {
                for v in 0..VN {
                    let n = t.channels.saturating_sub(v * lanes).min(lanes);
                    acc[i][v] = M::S::add(acc[i][v], M::S::load_part(t.out.add(i * t.out_px + v * lanes), n));
                }
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn step<M: Mac, const N: usize, const VN: usize, const D: usize>(
    acc: &mut [[V<M>; VN]; N],
    x: *const f32,
    w: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [M::S::splat(0.0); VN];
        for v in 0..VN {
            weights[v] = M::S::load(w.add(v * M::S::LANES));
        }
        for i in 0..N {
            let value = M::S::splat(*x.add(i * D));
            for v in 0..VN {
                acc[i][v] = M::mac(value, weights[v], acc[i][v]);
            }
        }
    }
}

/// A function, not a closure: one that is called twice is not inlined, and loses its instructions.
///
/// # Safety
/// As [`tile`]; there is a residual.
#[inline(always)]
unsafe fn plus_residual<M: Mac, const N: usize, const VN: usize>(acc: &mut [[V<M>; VN]; N], t: &Tile, finish: &Finish) {
    let lanes = M::S::LANES;
    for i in 0..N {
        for v in 0..VN {
            let n = t.channels.saturating_sub(v * lanes).min(lanes);
            // SAFETY: the caller's promise.
            unsafe {
                let r = M::S::load_part(finish.residual.add(i * finish.residual_px + v * lanes), n);
                acc[i][v] = M::S::add(acc[i][v], r);
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn put<M: Mac, const N: usize, const VN: usize>(mut acc: [[V<M>; VN]; N], t: &Tile, finish: &Finish) {
    let lanes = M::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let residual = !finish.residual.is_null();
        if residual && finish.residual_first {
            plus_residual::<M, N, VN>(&mut acc, t, finish);
        }
        if let Some((low, high)) = finish.clamp {
            let (low, high) = (M::S::splat(low), M::S::splat(high));
            for v in acc.as_flattened_mut() {
                *v = M::S::clamp(*v, low, high);
            }
        }
        if residual && !finish.residual_first {
            plus_residual::<M, N, VN>(&mut acc, t, finish);
        }
        for i in 0..N {
            for v in 0..VN {
                let n = t.channels.saturating_sub(v * lanes).min(lanes);
                M::S::store_part(t.out.add(i * t.out_px + v * lanes), acc[i][v], n);
            }
        }
    }
}
