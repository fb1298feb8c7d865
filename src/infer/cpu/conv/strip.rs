//! The input of a dense convolution, copied into the strip.
//!
//! Owns: padding, the prologue, rounding to bfloat16, the strip's three orders. Must not know: weights, sums.

use super::{
    ConvSpec, Prologue,
    blocked::Band,
    tile::{Mac, WORDS},
};
use crate::infer::cpu::{
    elementwise::{load, store},
    simd::Simd,
};
use std::ops::Range;

impl Band<'_, '_> {
    /// Padded input rows of `rows`, a pixel's blocks apart.
    #[inline(always)]
    pub(super) unsafe fn pack_pixels<M: Mac>(&mut self, rows: Range<usize>) {
        let ConvSpec { stride, pad, kernel, dilation, .. } = self.op.spec;
        let (h, w, c) = self.x.size();
        let (block, row, _) = self.op.strip(rows.len(), self.out.size().1);
        let in_rows = (rows.len() - 1) * stride + (kernel.0 - 1) * dilation + 1;
        let blocks = c.div_ceil(self.op.block());
        let cols = row / WORDS;
        let inside = pad.1.min(cols)..(pad.1 + w).min(cols).max(pad.1.min(cols));
        for r in 0..in_rows {
            let to = self.scratch.as_mut_ptr().wrapping_add(r * row);
            let y = (rows.start * stride + r).checked_sub(pad.0).filter(|&y| y < h);
            // SAFETY: rows and columns are those of the strip and, inside, of the input.
            unsafe {
                for b in 0..blocks {
                    let to = to.add(b * block);
                    let from = if y.is_some() { 0..inside.start } else { 0..cols };
                    let behind = if y.is_some() { inside.end..cols } else { 0..0 };
                    from.chain(behind).for_each(|x| zero::<M::S>(to.add(x * WORDS)));
                }
                let Some(y) = y else { continue };
                for x in inside.clone() {
                    put_pixel::<M>(self.x.pixel(y, x - pad.1), c, self.prologue, to.add(x * WORDS), block);
                }
            }
        }
    }

    /// Padded input rows as they are.
    #[inline(always)]
    pub(super) unsafe fn pack_rows<M: Mac>(&mut self, rows: Range<usize>) {
        let ConvSpec { stride, pad, kernel, .. } = self.op.spec;
        let (h, w, c) = self.x.size();
        let row = self.op.strip(rows.len(), self.out.size().1).1;
        let cols = row / c;
        for r in 0..(rows.len() - 1) * stride + kernel.0 {
            let to = &mut self.scratch[r * row..][..row];
            let y = (rows.start * stride + r).checked_sub(pad.0).filter(|&y| y < h);
            let inside = if y.is_some() { pad.1.min(cols)..(pad.1 + w).min(cols).max(pad.1.min(cols)) } else { 0..0 };
            to[..inside.start * c].fill(0.0);
            to[inside.end * c..].fill(0.0);
            for x in inside {
                let from = self.x.pixel(y.unwrap_or(0), x - pad.1);
                for i in 0..c {
                    // SAFETY: the pixel is inside the input.
                    let v = unsafe { *from.add(i) };
                    to[x * c + i] = self.prologue.map_or(v, |p| {
                        let v = v * p.scale[i] + p.shift[i];
                        if p.relu { v.max(0.0) } else { v }
                    });
                }
            }
        }
    }

    /// The windows of all output pixels.
    #[inline(always)]
    pub(super) unsafe fn pack_windows<M: Mac>(&mut self, rows: Range<usize>) {
        let ConvSpec { stride, pad, kernel, dilation, .. } = self.op.spec;
        let (h, w, c) = self.x.size();
        let out_w = self.out.size().1;
        let (block, row, _) = self.op.strip(rows.len(), out_w);
        for (oy, ox) in rows.clone().flat_map(|y| (0..out_w).map(move |x| (y, x))) {
            let to = self.scratch.as_mut_ptr().wrapping_add((oy - rows.start) * row + ox * WORDS);
            // SAFETY: the pixel is one of the strip's, and inputs are inside.
            unsafe {
                if kernel == (1, 1) && pad == (0, 0) {
                    put_pixel::<M>(self.x.pixel(oy * stride, ox * stride), c, self.prologue, to, block);
                    continue;
                }
                // Value by value: only for stems and for steps wider than 2.
                let mut at = 0;
                for ky in 0..kernel.0 {
                    let y = (oy * stride + ky * dilation).checked_sub(pad.0).filter(|&y| y < h);
                    for kx in 0..kernel.1 {
                        let x = (ox * stride + kx * dilation).checked_sub(pad.1).filter(|&x| x < w);
                        for i in 0..c {
                            let v = y.zip(x).map_or(0.0, |(y, x)| {
                                let v = *self.x.pixel(y, x).add(i);
                                self.prologue.map_or(v, |p| {
                                    let v = v * p.scale[i] + p.shift[i];
                                    if p.relu { v.max(0.0) } else { v }
                                })
                            });
                            put_value::<M>(to, block, at, v);
                            at += 1;
                        }
                    }
                }
                if M::PAIRS && at % 2 == 1 {
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

/// `c` channels of a pixel into their blocks, `block` floats apart; the last block is filled up with zeros.
///
/// # Safety
/// `from` is good for `c` floats, `to` for all blocks.
#[inline(always)]
unsafe fn put_pixel<M: Mac>(from: *const f32, c: usize, prologue: Option<Prologue<'_>>, to: *mut f32, block: usize) {
    let lanes = M::S::LANES;
    let per = if M::PAIRS { 2 * WORDS } else { WORDS };
    let mut at = 0;
    let mut to = to;
    while at < c {
        for i in (0..per).step_by(lanes) {
            let n = c.saturating_sub(at + i).min(lanes);
            // SAFETY: the caller's promise; `n` floats are left from `at + i` on.
            unsafe {
                let from = from.wrapping_add(at + i);
                let mut v = load::<M::S>(from, n);
                if let Some(p) = prologue {
                    let (scale, shift) = (p.scale.as_ptr().wrapping_add(at + i), p.shift.as_ptr().wrapping_add(at + i));
                    v = M::S::fma(v, load::<M::S>(scale, n), load::<M::S>(shift, n));
                    if p.relu {
                        v = M::S::max(v, M::S::splat(0.0));
                    }
                }
                if M::PAIRS {
                    M::store_halves(to.cast::<u16>().add(i), v);
                } else {
                    store::<M::S>(to.add(i), v, lanes);
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
        if M::PAIRS {
            *to.add(at / (2 * WORDS) * block).cast::<u16>().add(at % (2 * WORDS)) = bfloat16(value);
        } else {
            *to.add(at / WORDS * block + at % WORDS) = value;
        }
    }
}

/// Rounded to bfloat16, ties to even; not for NaN.
pub(super) fn bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
