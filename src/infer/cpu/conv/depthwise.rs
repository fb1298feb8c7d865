//! Depthwise convolutions: every channel by itself.
//!
//! Owns: [`Depthwise`]. Must not know: sums over channels.
//!
//! A few blocks of channels at a time go through a padded strip, as in [`blocked`](super::blocked). Sums are single
//! precision always: their factors are read once each, so smaller ones would gain nothing.

use super::{
    ConvSpec, Epilogue, Input,
    finish::{clamp, finish},
    strip::{Strip, WORDS},
    tile::{Mac, MacKernel, dispatch},
};
use crate::infer::cpu::{
    aligned::Aligned,
    elementwise::{load, store},
    isa::Isa,
    simd::Simd,
    view::ViewMut,
};
use std::ops::Range;

/// Bytes of the input that are worked on at once.
const STRIP_BYTES: usize = 256 << 10;
/// Blocks of channels packed at once: neighbours in memory.
const BLOCKS: usize = 2;

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

    fn strip(&self, rows: usize, out_w: usize) -> Strip {
        Strip::new(&self.spec, rows, out_w, BLOCKS)
    }

    fn strip_rows(&self, out_w: usize) -> usize {
        let (one, two) = (self.strip(1, out_w).floats, self.strip(2, out_w).floats);
        let mut rows = 1 + (STRIP_BYTES / 4).saturating_sub(one) / (two - one).max(1);
        while rows > 1 && self.strip(rows, out_w).floats > STRIP_BYTES / 4 {
            rows -= 1;
        }
        rows
    }

    pub(super) fn scratch_floats(&self, in_w: usize) -> usize {
        let out_w = (in_w + 2 * self.spec.pad.1).div_ceil(self.spec.stride).max(1);
        self.strip(1, out_w).floats.max(STRIP_BYTES / 4) + WORDS
    }

    /// The convolution of a band; sizes and rows are checked.
    ///
    /// # Safety
    /// `input`, `out` and `epilogue` fit the spec, and `rows` may be written.
    pub(super) unsafe fn run(
        &self,
        input: Input<'_>,
        epilogue: &Epilogue<'_>,
        out: &mut ViewMut<'_>,
        rows: Range<usize>,
        scratch: &mut [f32],
    ) {
        let skip = scratch.as_ptr().align_offset(64);
        let scratch = &mut scratch[skip..];
        // SAFETY: the caller's promise.
        unsafe { dispatch(self.isa, false, Band { op: self, input, epilogue, out, rows, scratch }) }
    }
}

struct Band<'a, 'b> {
    op: &'a Depthwise,
    input: Input<'a>,
    epilogue: &'a Epilogue<'a>,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
    scratch: &'a mut [f32],
}

impl MacKernel for Band<'_, '_> {
    #[inline(always)]
    unsafe fn run<M: Mac>(self) {
        let Self { op, input: Input { x, prologue, .. }, epilogue, out, rows, scratch } = self;
        let (_, out_w, c) = out.size();
        if out_w == 0 {
            return;
        }
        let (taps, step) = (op.spec.kernel.0 * op.spec.kernel.1, op.strip_rows(out_w));
        let fast = clamp(epilogue.activation);
        let in_tile = fast.is_some() && epilogue.residual.is_none() && epilogue.scale.is_none();
        let bounds = fast.flatten().filter(|_| in_tile);
        for start in rows.clone().step_by(step) {
            let part = start..(start + step).min(rows.end);
            let strip = op.strip(part.len(), out_w);
            assert!(strip.floats <= scratch.len(), "working memory of {:?}", op.spec);
            for first in (0..c).step_by(BLOCKS * WORDS) {
                let channels = first..(first + BLOCKS * WORDS).min(c);
                let of = |v: &'_ [f32]| v[channels.clone()].as_ptr();
                let prologue = prologue.map(|p| (of(p.scale), of(p.shift), p.relu));
                // SAFETY: the strip fits the scratch and holds all taps of the part's pixels.
                unsafe {
                    strip.pack::<M>(x.channels(channels.clone()), prologue, part.start, scratch.as_mut_ptr());
                    for (b, i) in channels.step_by(M::S::LANES).map(|i| ((i - first) / WORDS, i)) {
                        let column = Column {
                            x: scratch.as_ptr().wrapping_add(b * strip.block + i % WORDS),
                            w: op.weights.as_ptr().wrapping_add(i / WORDS * taps * WORDS + i % WORDS),
                            bias: op.bias.as_ptr().wrapping_add(i),
                            lanes: (c - i).min(M::S::LANES),
                            out_px: out.layout().pixel_stride,
                            bounds,
                        };
                        for r in 0..part.len() {
                            let to = out.pixel(part.start + r, 0).wrapping_add(i);
                            column.row::<M::S>(&op.spec, &strip, r, out_w, to);
                        }
                    }
                }
            }
            if !in_tile {
                // SAFETY: the rows are those just written.
                unsafe { finish::<M::S>(epilogue, out, part) }
            }
        }
    }
}

/// One vector of channels of a strip.
struct Column {
    x: *const f32,
    w: *const f32,
    bias: *const f32,
    lanes: usize,
    out_px: usize,
    bounds: Option<(f32, f32)>,
}

impl Column {
    /// # Safety
    /// The strip holds all taps of the row, `to` is good for `lanes` floats of each pixel.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, spec: &ConvSpec, strip: &Strip, r: usize, out_w: usize, to: *mut f32) {
        let mut x = 0;
        while x < out_w {
            let from = self.x.wrapping_add(r * spec.stride * strip.row + x * spec.stride * WORDS);
            let to = to.wrapping_add(x * self.out_px);
            // SAFETY: the caller's promise; at most the pixels left are computed.
            unsafe {
                x += match (spec.stride, out_w - x) {
                    (1, 14..) => self.tile::<S, 14, 1>(spec, strip, from, to),
                    (1, 8..) => self.tile::<S, 8, 1>(spec, strip, from, to),
                    (1, 4..) => self.tile::<S, 4, 1>(spec, strip, from, to),
                    (2, 14..) => self.tile::<S, 14, 2>(spec, strip, from, to),
                    (2, 8..) => self.tile::<S, 8, 2>(spec, strip, from, to),
                    (2, 4..) => self.tile::<S, 4, 2>(spec, strip, from, to),
                    _ => self.tile::<S, 1, 1>(spec, strip, from, to),
                }
            }
        }
    }

    /// `N` pixels, `STRIDE` apart in the strip.
    ///
    /// # Safety
    /// As `row`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize, const STRIDE: usize>(
        &self,
        spec: &ConvSpec,
        strip: &Strip,
        from: *const f32,
        to: *mut f32,
    ) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [load::<S>(self.bias, S::LANES); N];
            let mut w = self.w;
            for ky in 0..spec.kernel.0 {
                let mut x = from.add(ky * spec.dilation * strip.row);
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
                    *v = S::min(S::max(*v, S::splat(low)), S::splat(high));
                }
            }
            for i in 0..N {
                store::<S>(to.add(i * self.out_px), acc[i], self.lanes);
            }
        }
        N
    }
}
