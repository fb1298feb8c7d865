//! The input of a dense convolution, copied into the strip.
//!
//! Owns: padding, the prologue, rounding, the strip's three orders. Must not know: weights, sums.

use super::{
    ConvSpec,
    band::Band,
    blocked::Blocked,
    mac::{Mac, V, Word, whole},
};
use crate::kernels::cpu::{
    elementwise::{load, store},
    math::relu,
    simd::Simd,
    view::View,
};
use std::ops::Range;

pub(super) use super::tile::WORDS;

/// Pixels whose scales are computed side by side.
const TOGETHER: usize = 8;

/// The padded input of some output rows: `[block, row, column, 16]`, every tap a pixel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip {
    stride: usize,
    pad: (usize, usize),
    rows: usize,
    cols: usize,
    /// Floats from a block to the next.
    pub block: usize,
    /// Floats from a row to the next.
    pub row: usize,
    /// Floats of all blocks.
    pub floats: usize,
}

impl Strip {
    pub(super) fn new(spec: &ConvSpec, out_rows: usize, out_w: usize, blocks: usize) -> Self {
        let rows = (out_rows - 1) * spec.stride + (spec.kernel.0 - 1) * spec.dilation + 1;
        let cols = (out_w - 1) * spec.stride + (spec.kernel.1 - 1) * spec.dilation + 1;
        // An odd number of cache lines from block to block: no two fall on one place of the cache.
        let block = ((rows * cols) | 1) * WORDS;
        Self { stride: spec.stride, pad: spec.pad, rows, cols, block, row: cols * WORDS, floats: blocks * block }
    }

    /// Packs the input of the output rows from `out_y` on.
    ///
    /// # Safety
    /// `to` is good for the blocks of the input's channels, the prologue's factors for its channels.
    #[inline(always)]
    pub(super) unsafe fn pack<M: Mac>(&self, x: View<'_>, prologue: Option<Factors>, out_y: usize, to: *mut f32) {
        for r in 0..self.rows {
            // SAFETY: the caller's promise.
            unsafe { self.pack_row::<M>(x, prologue, out_y * self.stride + r, to.wrapping_add(r * self.row)) }
        }
    }

    /// Packs row `row` of the padded input.
    ///
    /// # Safety
    /// As `pack`, for one row.
    #[inline(always)]
    pub(super) unsafe fn pack_row<M: Mac>(&self, x: View<'_>, prologue: Option<Factors>, row: usize, to: *mut f32) {
        let (h, w, c) = x.size();
        let blocks = c.div_ceil(M::WORD.numbers() * WORDS);
        let inside = self.pad.1.min(self.cols)..(self.pad.1 + w).min(self.cols).max(self.pad.1.min(self.cols));
        {
            let y = row.checked_sub(self.pad.0).filter(|&y| y < h);
            // SAFETY: rows and columns are those of the strip and, inside, of the input.
            unsafe {
                for b in 0..blocks {
                    let to = to.add(b * self.block);
                    let before = if y.is_some() { 0..inside.start } else { 0..self.cols };
                    let behind = if y.is_some() { inside.end..self.cols } else { 0..0 };
                    before.chain(behind).for_each(|x| zero::<M::S>(to.add(x * WORDS)));
                }
                let Some(y) = y else { return };
                for col in inside.clone() {
                    put_pixel::<M>(x.pixel(y, col - self.pad.1), c, prologue, 1.0, to.add(col * WORDS), self.block);
                }
            }
        }
    }
}

/// A prologue as pointers: factors, addends, whether ReLU follows.
pub(super) type Factors = (*const f32, *const f32, bool);

impl Band<'_, '_, Blocked> {
    /// Padded input rows as they are.
    #[inline(always)]
    pub(super) unsafe fn pack_rows<M: Mac>(&mut self, rows: Range<usize>) {
        let ConvSpec { stride, kernel, .. } = self.op.spec;
        let pad = self.input.pad;
        let (h, w, c) = self.input.x.size();
        let row = self.op.strip(rows.len(), self.out.size().1).1;
        let cols = row / c;
        for r in 0..(rows.len() - 1) * stride + kernel.0 {
            let to = &mut self.scratch[r * row..][..row];
            let y = (rows.start * stride + r).checked_sub(pad.0).filter(|&y| y < h);
            let inside = if y.is_some() { pad.1.min(cols)..(pad.1 + w).min(cols).max(pad.1.min(cols)) } else { 0..0 };
            to[..inside.start * c].fill(0.0);
            to[inside.end * c..].fill(0.0);
            if self.input.prologue.is_none() && self.input.x.layout().pixel_stride == c && !inside.is_empty() {
                let from = self.input.x.pixel(y.unwrap_or(0), inside.start - pad.1);
                // SAFETY: the pixels are inside the input and without gaps.
                let from = unsafe { std::slice::from_raw_parts(from, inside.len() * c) };
                to[inside.start * c..inside.end * c].copy_from_slice(from);
                continue;
            }
            for x in inside {
                let from = self.input.x.pixel(y.unwrap_or(0), x - pad.1);
                for i in 0..c {
                    // SAFETY: the pixel is inside the input.
                    let v = unsafe { *from.add(i) };
                    to[x * c + i] = self.input.prologue.map_or(v, |p| {
                        let v = v * p.scale[i] + p.shift[i];
                        if p.relu { relu(v) } else { v }
                    });
                }
            }
        }
    }

    /// Where the scales of the pixels of so many rows are, behind the strip.
    pub(super) fn scales(&mut self, rows: usize) -> *mut f32 {
        let out_w = self.out.size().1;
        let end = self.op.strip(rows, out_w).2;
        self.scratch.as_mut_ptr().wrapping_add(end.saturating_sub(rows * out_w))
    }

    fn factors(&self) -> Option<Factors> {
        self.input.prologue.map(|p| (p.scale.as_ptr(), p.shift.as_ptr(), p.relu))
    }

    /// The channels of some blocks, and their factors.
    fn part(&self, blocks: &Range<usize>) -> (View<'_>, Option<Factors>) {
        let x = self.input.x;
        let first = blocks.start * self.op.block();
        let channels = first..(blocks.end * self.op.block()).min(x.size().2);
        let factors = self.factors().map(|(a, b, relu)| (a.wrapping_add(first), b.wrapping_add(first), relu));
        (x.channels(channels), factors)
    }

    /// Padded input rows, a pixel's blocks apart.
    #[inline(always)]
    pub(super) unsafe fn pack_pixels<M: Mac>(&mut self, rows: Range<usize>, blocks: &Range<usize>) {
        let mut strip = Strip::new(&self.op.spec, rows.len(), self.out.size().1, blocks.len());
        strip.pad = self.input.pad;
        let to = self.scratch.as_mut_ptr();
        let (x, factors) = self.part(blocks);
        // SAFETY: the scratch holds the strip.
        unsafe { strip.pack::<M>(x, factors, rows.start, to) }
    }

    /// The windows of all output pixels.
    #[inline(always)]
    pub(super) unsafe fn pack_windows<M: Mac>(&mut self, rows: Range<usize>, blocks: &Range<usize>) {
        let ConvSpec { stride, kernel, dilation, .. } = self.op.spec;
        let pad = self.input.pad;
        let (h, w, c) = self.input.x.size();
        let out_w = self.out.size().1;
        let (block, row, _) = self.op.strip(rows.len(), out_w);
        if kernel == (1, 1) && self.op.spec.pad == (0, 0) {
            let (base, scales) = (self.scratch.as_mut_ptr(), self.scales(rows.len()));
            let (x, factors) = self.part(blocks);
            let c = x.size().2;
            let from = |i: usize| x.pixel((rows.start + i / out_w) * stride, i % out_w * stride);
            let to = |i: usize| base.wrapping_add(i / out_w * row + i % out_w * WORDS);
            let all = rows.len() * out_w;
            for first in (0..all).step_by(TOGETHER) {
                let pixels = first..(first + TOGETHER).min(all);
                let mut into = [1.0; TOGETHER];
                // SAFETY: the pixels are of the strip, and their inputs inside.
                unsafe {
                    if M::WORD == Word::Integers {
                        let mut sums = [0.0; TOGETHER];
                        for i in pixels.clone() {
                            sums[i - first] = squares::<M>(from(i), c, factors);
                        }
                        let back;
                        (into, back) = whole::input_scales(sums);
                        scales.add(first).copy_from_nonoverlapping(back.as_ptr(), pixels.len());
                    }
                    for i in pixels {
                        put_pixel::<M>(from(i), c, factors, into[i - first], to(i), block);
                    }
                }
            }
            return;
        }
        for (oy, ox) in rows.clone().flat_map(|y| (0..out_w).map(move |x| (y, x))) {
            let to = self.scratch.as_mut_ptr().wrapping_add((oy - rows.start) * row + ox * WORDS);
            // SAFETY: the pixel is one of the strip's, and inputs are inside.
            unsafe {
                if pad == (0, 0) && c.is_multiple_of(self.op.block()) {
                    for tap in 0..kernel.0 * kernel.1 {
                        let (ky, kx) = (tap / kernel.1 * dilation, tap % kernel.1 * dilation);
                        let to = to.wrapping_add(tap * (c / self.op.block()) * block);
                        let (y, x) = (oy * stride + ky, ox * stride + kx);
                        if y < h && x < w {
                            put_pixel::<M>(self.input.x.pixel(y, x), c, self.factors(), 1.0, to, block);
                        } else {
                            (0..c / self.op.block()).for_each(|b| zero::<M::S>(to.add(b * block)));
                        }
                    }
                    continue;
                }
                // Value by value: only for stems and odd channels.
                let mut at = 0;
                for ky in 0..kernel.0 {
                    let y = (oy * stride + ky * dilation).checked_sub(pad.0).filter(|&y| y < h);
                    for kx in 0..kernel.1 {
                        let x = (ox * stride + kx * dilation).checked_sub(pad.1).filter(|&x| x < w);
                        for i in 0..c {
                            let v = y.zip(x).map_or(0.0, |(y, x)| {
                                let v = *self.input.x.pixel(y, x).add(i);
                                self.input.prologue.map_or(v, |p| {
                                    let v = v * p.scale[i] + p.shift[i];
                                    if p.relu { relu(v) } else { v }
                                })
                            });
                            put_value::<M>(to, block, at, v);
                            at += 1;
                        }
                    }
                }
                if M::WORD != Word::Float && at % 2 == 1 {
                    put_value::<M>(to, block, at, 0.0);
                }
            }
        }
    }
}

/// A pixel of zeros.
///
/// # Safety
/// `to` is good for a block.
#[inline(always)]
unsafe fn zero<S: Simd>(to: *mut f32) {
    for i in (0..WORDS).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe { S::store(to.add(i), S::splat(0.0)) }
    }
}

/// `n` channels of a pixel from `at` on, with the prologue applied.
///
/// # Safety
/// Input and prologue are good for them.
#[inline(always)]
unsafe fn values<M: Mac>(from: *const f32, prologue: Option<Factors>, at: usize, n: usize) -> V<M> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = load::<M::S>(from.wrapping_add(at), n);
        if let Some((scale, shift, relu)) = prologue {
            let (scale, shift) = (scale.wrapping_add(at), shift.wrapping_add(at));
            v = M::S::fma(v, load::<M::S>(scale, n), load::<M::S>(shift, n));
            if relu {
                v = M::S::relu(v);
            }
        }
        v
    }
}

/// The sum of the squares of a pixel's channels.
///
/// # Safety
/// Input and prologue are good for `c` floats.
#[inline(always)]
unsafe fn squares<M: Mac>(from: *const f32, c: usize, prologue: Option<Factors>) -> f32 {
    let lanes = M::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [M::S::splat(0.0); 2];
        for at in (0..c).step_by(2 * lanes) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * lanes;
                let v = values::<M>(from, prologue, at, c.saturating_sub(at).min(lanes));
                *sum = M::S::fma(v, v, *sum);
            }
        }
        whole::sum::<M>(M::S::add(sums[0], sums[1]))
    }
}

/// `c` channels of a pixel, times `factor` where they become whole numbers, into their blocks, `block` floats apart; the
/// last block is filled up with zeros.
///
/// # Safety
/// `from` is good for `c` floats, `to` for all blocks.
#[inline(always)]
unsafe fn put_pixel<M: Mac>(
    from: *const f32,
    c: usize,
    prologue: Option<Factors>,
    factor: f32,
    to: *mut f32,
    block: usize,
) {
    let lanes = M::S::LANES;
    let per = M::WORD.numbers() * WORDS;
    let mut at = 0;
    let mut to = to;
    while at < c {
        for i in (0..per).step_by(lanes) {
            let n = c.saturating_sub(at + i).min(lanes);
            // SAFETY: the caller's promise; `n` floats are left from `at + i` on.
            unsafe {
                let v = values::<M>(from, prologue, at + i, n);
                match M::WORD {
                    Word::Float => store::<M::S>(to.add(i), v, lanes),
                    Word::Bfloats => M::store_halves(to.cast::<u16>().add(i), v),
                    Word::Integers => {
                        M::store_halves(to.cast::<u16>().add(i), M::S::mul(v, M::S::splat(factor)));
                    }
                }
            }
        }
        at += per;
        to = to.wrapping_add(block);
    }
}

/// Value `at` of a pixel into its block.
///
/// # Safety
/// `to` is good for all blocks.
#[inline(always)]
unsafe fn put_value<M: Mac>(to: *mut f32, block: usize, at: usize, value: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match M::WORD {
            Word::Float => *to.add(at / WORDS * block + at % WORDS) = value,
            Word::Bfloats => *to.add(at / (2 * WORDS) * block).cast::<u16>().add(at % (2 * WORDS)) = bfloat16(value),
            Word::Integers => unreachable!("whole numbers of windows"),
        }
    }
}

/// Rounded to bfloat16, ties to even; a NaN stays one.
pub(super) fn bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
