//! Depthwise convolutions: every channel by itself.
//!
//! Owns: [`Depthwise`]. Must not know: sums over channels.
//!
//! The rows of the input that an output row needs go through a padded strip, as in [`blocked`](super::blocked), each
//! once. Sums are single precision always: their factors are read once each, so smaller ones would gain nothing.

#![expect(clippy::needless_range_loop, reason = "registers by number: such loops unroll, others may not")]

use super::{
    ConvSpec, Input,
    band::{Band, Instructions},
    finish::{clamp, finish},
    mac::{Mac, MacKernel},
    strip::{Strip, WORDS},
};
use crate::kernels::cpu::{
    aligned::Aligned,
    elementwise::{load, store},
    isa::Isa,
    simd::Simd,
};
use std::ops::Range;

/// The most rows of a kernel.
pub(super) const MAX_ROWS: usize = 16;

/// The most output rows worked on at once.
const MAX_TOGETHER: usize = 8;
/// Bytes of a block of channels of the strip.
const NEAR_BYTES: usize = 36 << 10;

/// A depthwise convolution with its weights.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    pub(super) spec: ConvSpec,
    isa: Isa,
    /// `[block, kh, kw, 16]`
    weights: Aligned,
    bias: Aligned,
}

impl Depthwise {
    /// Lays out `weights`, `[c, 1, kh, kw]`.
    pub(super) fn new(spec: ConvSpec, weights: &[f32], bias: Option<&[f32]>, isa: Isa) -> Self {
        let (c, taps) = (spec.cout, spec.kernel.0 * spec.kernel.1);
        let mut padded = Aligned::zeros(c.next_multiple_of(WORDS));
        if let Some(bias) = bias {
            padded[..c].copy_from_slice(bias);
        }
        let mut packed = Aligned::zeros(c.next_multiple_of(WORDS) * taps);
        for (i, weight) in weights.iter().enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            packed[(channel / WORDS * taps + tap) * WORDS + channel % WORDS] = *weight;
        }
        Self { spec, isa: isa.available(), weights: packed, bias: padded }
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.weights.len() + self.bias.len())
    }

    /// A strip of the rows that one output row needs, and the floats of one of its rows.
    pub(super) fn strip(&self, out_w: usize) -> (Strip, usize) {
        let one_row = ConvSpec { kernel: (1, self.spec.kernel.1), ..self.spec };
        let strip = Strip::new(&one_row, 1, out_w, self.spec.cin.div_ceil(WORDS));
        (strip, strip.floats)
    }

    /// Rows of the input that one output row needs.
    pub(super) fn needed(&self) -> usize {
        (self.spec.kernel.0 - 1) * self.spec.dilation + 1
    }

    /// Output rows worked on at once: a block of channels of their inputs stays in the first-level cache.
    fn together(&self, row: usize) -> usize {
        let fit = NEAR_BYTES / 4 / row;
        (fit.saturating_sub(self.needed()) / self.spec.stride + 1).min(MAX_TOGETHER)
    }

    /// Rows of the input that are kept in the strip.
    fn kept(&self, row: usize) -> usize {
        self.needed() + (self.together(row) - 1) * self.spec.stride
    }

    pub(super) fn scratch_floats(&self, in_w: usize) -> usize {
        let out_w = (in_w + 2 * self.spec.pad.1).div_ceil(self.spec.stride).max(1);
        // Narrower outputs keep more rows, of no more than what is near.
        let (strip, row) = self.strip(out_w);
        let near = NEAR_BYTES / 4 * (row / strip.block);
        (self.needed() * row).max(near)
    }
}

impl Instructions for Depthwise {
    fn isa(&self) -> Isa {
        self.isa
    }
}

impl MacKernel for Band<'_, '_, Depthwise> {
    #[inline(always)]
    unsafe fn run<M: Mac>(mut self) {
        let (op, rows) = (self.op, self.rows.clone());
        let (strip, _) = op.strip(self.out.size().1);
        let (kept, together) = (op.kept(strip.block), op.together(strip.block));
        let mut packed = rows.start * op.spec.stride;
        for start in rows.clone().step_by(together) {
            let band = start..(start + together).min(rows.end);
            // SAFETY: the rows are the band's.
            unsafe {
                packed = self.pack::<M>(packed, &band, kept);
                self.sum::<M>(band, kept);
            }
        }
    }
}

impl Band<'_, '_, Depthwise> {
    /// Packs the rows of the input that these output rows need, from `packed` on, each over one that is needed no more;
    /// the next one to pack.
    ///
    /// # Safety
    /// The input and the output fit the convolution.
    #[inline(always)]
    unsafe fn pack<M: Mac>(&mut self, packed: usize, rows: &Range<usize>, kept: usize) -> usize {
        let (op, Input { x, prologue, .. }) = (self.op, self.input);
        let prologue = prologue.map(|p| (p.scale.as_ptr(), p.shift.as_ptr(), p.relu));
        let (strip, row) = op.strip(self.out.size().1);
        assert!(kept * row <= self.scratch.len(), "working memory of {:?}", op.spec);
        let needed = packed.max(rows.start * op.spec.stride)..(rows.end - 1) * op.spec.stride + op.needed();
        for at in needed.clone() {
            // SAFETY: the scratch holds the rows kept.
            unsafe { strip.pack_row::<M>(x, prologue, at, self.scratch.as_mut_ptr().add(at % kept * row)) }
        }
        needed.end.max(packed)
    }

    /// Computes some rows whose inputs are packed.
    ///
    /// # Safety
    /// As `pack`; the rows may be written.
    #[inline(always)]
    unsafe fn sum<M: Mac>(&mut self, rows: Range<usize>, kept: usize) {
        let (op, epilogue) = (self.op, self.epilogue);
        let (_, out_w, c) = self.out.size();
        let ConvSpec { kernel: (kh, kw), stride, dilation, .. } = op.spec;
        let fast = clamp(epilogue.activation);
        let plain = epilogue.residual.is_none() && epilogue.scale.is_none() && epilogue.norm.is_none();
        let in_tile = fast.is_some() && plain;
        let bounds = fast.flatten().filter(|_| in_tile);
        let (strip, row) = op.strip(out_w);
        assert!(kh <= MAX_ROWS && rows.len() <= MAX_TOGETHER, "rows of {:?}", op.spec);
        let mut from = [[0; MAX_ROWS]; MAX_TOGETHER];
        for (y, from) in rows.clone().zip(&mut from) {
            for (ky, from) in from[..kh].iter_mut().enumerate() {
                *from = (y * stride + ky * dilation) % kept * row;
            }
        }
        for i in (0..c).step_by(M::S::LANES) {
            for (y, from) in rows.clone().zip(&from) {
                let column = Column {
                    x: self.scratch.as_ptr().wrapping_add(i / WORDS * strip.block + i % WORDS),
                    rows: &from[..kh],
                    w: op.weights.as_ptr().wrapping_add(i / WORDS * kh * kw * WORDS + i % WORDS),
                    bias: op.bias.as_ptr().wrapping_add(i),
                    lanes: (c - i).min(M::S::LANES),
                    out_px: self.out.layout().pixel_stride,
                    bounds,
                };
                // SAFETY: the strip holds all taps of the row's pixels.
                unsafe { column.row::<M::S>(&op.spec, out_w, self.out.pixel(y, 0).wrapping_add(i)) }
            }
        }
        if !in_tile {
            // SAFETY: the rows are those just written.
            unsafe { finish::<M::S>(epilogue, self.out, rows) }
        }
    }
}

/// The next rows of a band whose strip stays as it was left.
pub(super) struct Next<'a, 'b> {
    pub band: Band<'a, 'b, Depthwise>,
    /// The first row of the padded input that is not packed.
    pub packed: &'a mut usize,
    /// Rows of the input that the strip keeps.
    pub kept: usize,
}

impl MacKernel for Next<'_, '_> {
    #[inline(always)]
    unsafe fn run<M: Mac>(mut self) {
        let rows = self.band.rows.clone();
        // SAFETY: the rows are the band's.
        unsafe {
            *self.packed = self.band.pack::<M>(*self.packed, &rows, self.kept);
            for start in rows.clone().step_by(MAX_TOGETHER) {
                self.band.sum::<M>(start..(start + MAX_TOGETHER).min(rows.end), self.kept);
            }
        }
    }
}

/// One vector of channels of a strip.
struct Column<'a> {
    x: *const f32,
    /// Floats before each of the kernel's rows.
    rows: &'a [usize],
    w: *const f32,
    bias: *const f32,
    lanes: usize,
    out_px: usize,
    bounds: Option<(f32, f32)>,
}

impl Column<'_> {
    /// # Safety
    /// The strip holds all taps of the row, `to` is good for `lanes` floats of each pixel.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, spec: &ConvSpec, out_w: usize, to: *mut f32) {
        let mut x = 0;
        while x < out_w {
            // The last tile may compute some pixels again, to the same bits: cheaper than one by one.
            let n = match out_w - x {
                9.. if out_w >= 14 => 14,
                5.. if out_w >= 8 => 8,
                _ if out_w >= 4 => 4,
                _ => 1,
            };
            let at = x.min(out_w - n);
            let from = at * spec.stride * WORDS;
            let to = to.wrapping_add(at * self.out_px);
            // SAFETY: the caller's promise; `at + n <= out_w`.
            unsafe {
                match (spec.stride, n) {
                    (1, 14) => self.tile::<S, 14, 1>(spec, from, to),
                    (1, 8) => self.tile::<S, 8, 1>(spec, from, to),
                    (1, 4) => self.tile::<S, 4, 1>(spec, from, to),
                    (2, 14) => self.tile::<S, 14, 2>(spec, from, to),
                    (2, 8) => self.tile::<S, 8, 2>(spec, from, to),
                    (2, 4) => self.tile::<S, 4, 2>(spec, from, to),
                    _ => {
                        for i in 0..n {
                            let to = to.add(i * self.out_px);
                            self.tile::<S, 1, 1>(spec, from + i * spec.stride * WORDS, to);
                        }
                    }
                }
            }
            x = at + n;
        }
    }

    /// `N` pixels, `STRIDE` apart in the strip.
    ///
    /// # Safety
    /// As `row`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize, const STRIDE: usize>(&self, spec: &ConvSpec, from: usize, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [load::<S>(self.bias, S::LANES); N];
            let mut w = self.w;
            for row in self.rows {
                let mut x = self.x.add(row + from);
                for _ in 0..spec.kernel.1 {
                    let weight = S::load(w);
                    for i in 0..N {
                        acc[i] = S::fma(S::load(x.add(i * STRIDE * WORDS)), weight, acc[i]);
                    }
                    x = x.add(spec.dilation * WORDS);
                    w = w.add(WORDS);
                }
            }
            if let Some((low, high)) = self.bounds {
                for v in &mut acc {
                    *v = S::clamp(*v, S::splat(low), S::splat(high));
                }
            }
            for i in 0..N {
                store::<S>(to.add(i * self.out_px), acc[i], self.lanes);
            }
        }
    }
}
