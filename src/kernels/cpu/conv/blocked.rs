//! Dense convolutions, and groups that fill vectors.
//!
//! Owns: [`Blocked`]: the layout of weights and inputs, the loops over bands, blocks and tiles. Must not know: the
//! arithmetic of a tile.
//!
//! A part of the band's input is copied into a strip: padded, with the prologue applied, rounded where products are
//! of pairs, in blocks of a cache line per pixel. The copy is a small share of the work (a value is read `k² · cout`
//! times) and buys constant distances, no edges, and a working set that stays in the second-level cache.

use super::{
    ConvSpec,
    band::{Band, Instructions},
    finish::{clamp, finish},
    mac::{Mac, MacKernel, Word, pair, whole},
    strip::{Strip, bfloat16},
    tile::{Finish, Tile, WORDS},
    walk::Walk,
};
use crate::kernels::cpu::{
    aligned::Aligned,
    isa::{Isa, Precision},
};
use rayon::prelude::*;
use std::ops::Range;

/// Bytes of the input that are worked on at once.
const STRIP_BYTES: usize = 512 << 10;
/// Bytes of the output that are worked on at once.
const OUT_BYTES: usize = 512 << 10;
/// Bytes of the weights of one block of channels out that are gone through at once, in single precision.
const PANEL_BYTES: usize = 160 << 10;
/// Weights of all blocks of channels out that stay in the cache beside the rest.
const NEAR_WEIGHTS: usize = 24 << 10;

/// How inputs lie in the strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `[block, row, column, 16]`; every tap is a pixel of the strip.
    Pixels,
    /// `[row, column · cin]`: a kernel's row is one run. For a few channels.
    Rows,
    /// `[block, output pixel, 16]`: the values of a pixel's window in the order of the weights.
    Windows,
}

/// A convolution in one group, with its weights.
#[derive(Debug, Clone)]
pub(super) struct Blocked {
    pub(super) spec: ConvSpec,
    isa: Isa,
    word: Word,
    pub(super) order: Order,
    /// Blocks of channels out; each `[block, kh, kw, words of the block, lanes]`.
    weights: Aligned,
    bias: Aligned,
    /// What whole weights are multiplied by, of each channel out; else none.
    scales: Aligned,
}

impl Blocked {
    /// Lays out `weights`, `[cout, cin, kh, kw]`, of a convolution in one group.
    pub(super) fn new(
        spec: ConvSpec,
        (weights, bias): (&[f32], Option<&[f32]>),
        isa: Isa,
        precision: Precision,
        memory: Aligned,
    ) -> Self {
        let isa = isa.available();
        let order = order(&spec);
        let word = match precision {
            _ if isa != Isa::Avx512Bf16 || !Self::rounds(&spec) => Word::Float,
            Precision::F32 => Word::Float,
            Precision::Int16 if is_whole(&spec) => Word::Integers,
            Precision::Bf16 | Precision::Int16 => Word::Bfloats,
        };
        let padded = |values: Option<&[f32]>| {
            let mut padded = Aligned::zeros(spec.cout.next_multiple_of(32));
            if let Some(values) = values {
                padded[..spec.cout].copy_from_slice(values);
            }
            padded
        };
        let mut scales = Aligned::default();
        if word == Word::Integers {
            let of_channel = |weights: &[f32]| whole::weight_scale(weights.iter().copied());
            let all: Vec<f32> = weights.chunks_exact(spec.cin).map(of_channel).collect();
            scales = padded(Some(&all));
        }
        let mut op = Self { spec, isa, word, order, weights: Aligned::default(), bias: padded(bias), scales };
        op.weights = op.packed(weights, memory);
        op
    }

    /// Whether factors are rounded where that is asked for.
    pub(super) fn rounds(spec: &ConvSpec) -> bool {
        order(spec) != Order::Rows && spec.cin > 1
    }

    fn lanes(&self) -> usize {
        match self.isa {
            Isa::Avx512 | Isa::Avx512Bf16 => 16,
            Isa::Avx2 | Isa::Portable => 8,
        }
    }

    /// Channels of a block.
    pub(super) fn block(&self) -> usize {
        self.word.numbers() * WORDS
    }

    /// Values that a sum goes through, as `(taps, values of a tap)`: windows are one tap of all their values.
    pub(super) fn depth(&self) -> (usize, usize) {
        let (kh, kw) = self.spec.kernel;
        match self.order {
            Order::Pixels => (kh * kw, self.spec.cin),
            Order::Rows => (kh, kw * self.spec.cin),
            Order::Windows => (1, kh * kw * self.spec.cin),
        }
    }

    /// Words of one sum.
    pub(super) fn words(&self) -> usize {
        let (taps, values) = self.depth();
        taps * values.div_ceil(self.word.numbers())
    }

    /// Vectors of the block of channels out that starts at `o`.
    fn vectors_at(&self, o: usize) -> usize {
        if self.spec.cout - o > self.lanes() || self.order == Order::Rows { 2 } else { 1 }
    }

    fn packed(&self, weights: &[f32], memory: Aligned) -> Aligned {
        let (taps, values) = self.depth();
        let (kh, kw) = self.spec.kernel;
        let (cin, lanes) = (self.spec.cin, self.lanes());
        // The weight of value `i` of tap `t`, in the order of the checkpoint.
        let weight = |o: usize, t: usize, i: usize| {
            if o >= self.spec.cout || i >= values {
                return 0.0;
            }
            let (tap, channel) = match self.order {
                Order::Pixels => (t, i),
                Order::Rows => (t * kw + i / cin, i % cin),
                Order::Windows => (i / cin, i % cin),
            };
            weights[(o * cin + channel) * kh * kw + tap]
        };
        let unit = if self.order == Order::Rows { 2 * lanes } else { lanes };
        let mut packed = memory.fitted(self.spec.cout.next_multiple_of(unit) * self.words());
        let panels: Vec<usize> = (0..self.spec.cout).step_by(2 * lanes).collect();
        let mut rest = &mut packed[..];
        let mut parts = vec![];
        for o in panels {
            let width = self.vectors_at(o) * lanes;
            let (part, others) = rest.split_at_mut(width * self.words());
            parts.push((o, width, part));
            rest = others;
        }
        parts.into_par_iter().for_each(|(o, width, part)| {
            let block = if self.order == Order::Rows { values } else { self.block() };
            let mut rows = part.chunks_exact_mut(width);
            for start in (0..values).step_by(block) {
                for t in 0..taps {
                    let end = (start + block).min(values);
                    for (i, row) in (start..end).step_by(self.word.numbers()).zip(&mut rows) {
                        for (o, to) in (o..o + width).zip(row) {
                            *to = match self.word {
                                Word::Float => weight(o, t, i),
                                Word::Bfloats => pair([i, i + 1].map(|i| bfloat16(weight(o, t, i)))),
                                Word::Integers => {
                                    pair([i, i + 1].map(|i| whole::rounded(weight(o, t, i), self.scales[o])))
                                }
                            };
                        }
                    }
                }
            }
        });
        packed
    }

    pub(super) fn into_memory(self) -> Aligned {
        self.weights
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.weights.len() + self.bias.len() + self.scales.len())
    }

    /// Blocks of channels in.
    pub(super) fn blocks(&self) -> usize {
        match self.order {
            Order::Rows => 1,
            _ => self.depth().1.div_ceil(self.block()),
        }
    }

    /// Blocks of channels in that are summed before the next are packed: a deep sum goes through the output, so that
    /// strip and weights stay in the cache.
    pub(super) fn part_blocks(&self) -> usize {
        let (taps, all) = (self.depth().0, self.blocks());
        let single = self.order == Order::Windows && (self.spec.kernel, self.spec.pad) != ((1, 1), (0, 0));
        if single {
            return all;
        }
        let most = PANEL_BYTES / (taps * WORDS * 2 * self.lanes() * 4);
        // As many parts as needed, of about one size.
        all.div_ceil(all.div_ceil(most.max(2)))
    }

    /// Floats of a strip for `rows` rows of `out_w` pixels and the blocks of a part: `(a block, a row, all)`.
    pub(super) fn strip(&self, rows: usize, out_w: usize) -> (usize, usize, usize) {
        let ConvSpec { cin, kernel: (kh, kw), stride, dilation, .. } = self.spec;
        let in_rows = (rows - 1) * stride + (kh - 1) * dilation + 1;
        let in_cols = (out_w - 1) * stride + (kw - 1) * dilation + 1;
        match self.order {
            Order::Pixels => {
                let strip = Strip::new(&self.spec, rows, out_w, self.part_blocks());
                (strip.block, strip.row, strip.floats)
            }
            Order::Rows => (0, in_cols * cin, in_rows * in_cols * cin + WORDS),
            Order::Windows => {
                let block = ((rows * out_w) | 1) * WORDS;
                let scales = if self.word == Word::Integers { rows * out_w } else { 0 };
                (block, out_w * WORDS, block * self.part_blocks() + scales)
            }
        }
    }

    /// Output rows worked on at once: as many as fit the cache, at least one.
    fn strip_rows(&self, out_w: usize) -> usize {
        let (one, two) = (self.strip(1, out_w).2, self.strip(2, out_w).2);
        let more = (STRIP_BYTES / 4).saturating_sub(one) / (two - one).max(1);
        let mut rows = 1 + more.min(OUT_BYTES / 4 / (out_w * self.spec.cout).max(1));
        while rows > 1 && self.strip(rows, out_w).2 > STRIP_BYTES / 4 {
            rows -= 1;
        }
        rows
    }

    pub(super) fn scratch_floats(&self, in_w: usize) -> usize {
        // The widest output whose windows start inside the padded input.
        let out_w = (in_w + 2 * self.spec.pad.1).div_ceil(self.spec.stride).max(1);
        self.strip(1, out_w).2.max(STRIP_BYTES / 4)
    }
}

/// A few channels go by rows, single pixels and wide steps by windows.
fn order(spec: &ConvSpec) -> Order {
    let distance = spec.stride * spec.cin;
    if spec.dilation == 1 && spec.kernel != (1, 1) && matches!(distance, 3 | 6 | 12) && spec.cin < 4 {
        Order::Rows
    } else if spec.kernel == (1, 1) || spec.stride > 2 || spec.cin < 4 || spec.kernel == (spec.stride, spec.stride) {
        Order::Windows
    } else {
        Order::Pixels
    }
}

/// Whether factors may be whole numbers: all inputs of a sum are of one pixel.
fn is_whole(spec: &ConvSpec) -> bool {
    spec.kernel == (1, 1) && spec.pad == (0, 0) && spec.cin <= whole::MOST
}

impl Instructions for Blocked {
    fn isa(&self) -> Isa {
        self.isa
    }

    fn word(&self) -> Word {
        self.word
    }
}

impl MacKernel for Band<'_, '_, Blocked> {
    #[inline(always)]
    unsafe fn run<M: Mac>(mut self) {
        let (op, (_, out_w, _)) = (self.op, self.out.size());
        let step = op.strip_rows(out_w);
        for start in self.rows.clone().step_by(step) {
            let rows = start..(start + step).min(self.rows.end);
            assert!(op.strip(rows.len(), out_w).2 <= self.scratch.len(), "working memory of {:?}", op.spec);
            let (all, per_part) = (op.blocks(), op.part_blocks());
            for first in (0..all).step_by(per_part) {
                let blocks = first..(first + per_part).min(all);
                // SAFETY: the strip fits the scratch; sizes are the caller's promise.
                unsafe {
                    match op.order {
                        Order::Pixels => self.pack_pixels::<M>(rows.clone(), &blocks),
                        Order::Rows => self.pack_rows::<M>(rows.clone()),
                        Order::Windows => self.pack_windows::<M>(rows.clone(), &blocks),
                    }
                    self.sum::<M>(rows.clone(), blocks);
                }
            }
        }
    }
}

impl Band<'_, '_, Blocked> {
    /// The sums of `rows` over `blocks`, whose input is in the strip; they go on from those of the blocks before.
    #[inline(always)]
    unsafe fn sum<M: Mac>(&mut self, rows: Range<usize>, blocks: Range<usize>) {
        let op = self.op;
        let (_, out_w, cout) = self.out.size();
        let (fast, e) = (clamp(self.epilogue.activation), self.epilogue);
        let in_tile = fast.is_some() && e.residual_factor <= 1 && e.scale.is_none() && e.norm.is_none();
        let flat = self.flat(in_tile);
        let walk = Walk::new(op, rows.len(), out_w, flat);
        let (taps, first, last) = (walk.taps(&blocks), blocks.start == 0, blocks.end == op.blocks());
        // Few weights stay near by themselves; then a tile's outputs are written side by side.
        let by_tile = taps.blocks.0 * taps.rows.0 * taps.cols.0 * taps.run * cout <= NEAR_WEIGHTS;
        let panels = || (0..cout).step_by(2 * op.lanes());
        let scales = self.scales(rows.len()).cast_const();
        let tiles = || walk.tiles(M::PIXELS);
        let mut compute = |o: usize, (r, x, n): (usize, usize, usize)| {
            let vectors = op.vectors_at(o);
            let width = vectors * op.lanes();
            let (y, ox) = if flat { (rows.start + x / out_w, x % out_w) } else { (rows.start + r, x) };
            let residual = e.residual.filter(|_| in_tile && last);
            let finish = Finish {
                resume: !first || e.accumulate,
                adds_bias: first,
                residual: residual.map_or(std::ptr::null(), |v| v.pixel(y, ox).wrapping_add(o)),
                residual_px: residual.map_or(0, |v| v.layout().pixel_stride),
                residual_first: e.residual_before_activation,
                clamp: fast.flatten().filter(|_| in_tile && last),
            };
            let tile = Tile {
                x: self.scratch.as_ptr().wrapping_add(walk.input(r, x)),
                w: op.weights.as_ptr().wrapping_add(op.words() * o + walk.weights(blocks.start, width)),
                bias: op.bias.as_ptr().wrapping_add(o),
                scales: (scales.wrapping_add(r * out_w + x), op.scales.as_ptr().wrapping_add(o)),
                out: self.out.pixel(y, ox).wrapping_add(o),
                out_px: self.out.layout().pixel_stride,
                channels: (cout - o).min(width),
            };
            // SAFETY: the strip holds all taps of the tile's pixels, the panel all weights of the blocks.
            unsafe { walk.call::<M>(vectors, n, &tile, &taps, &finish) }
        };
        if by_tile {
            tiles().for_each(|tile| panels().for_each(|o| compute(o, tile)));
        } else {
            panels().for_each(|o| tiles().for_each(|tile| compute(o, tile)));
        }
        if !in_tile && last {
            // SAFETY: the rows are those just written.
            unsafe { finish::<M::S>(e, self.out, rows) }
        }
    }

    /// Whether all rows of the strip are one long row, for the input, the output and the residual.
    fn flat(&self, in_tile: bool) -> bool {
        let gapless = |l: crate::kernels::cpu::view::Layout| l.row_stride == l.w * l.pixel_stride;
        let residual = self.epilogue.residual.filter(|_| in_tile);
        self.op.order == Order::Windows && gapless(self.out.layout()) && residual.is_none_or(|r| gapless(r.layout()))
    }
}
