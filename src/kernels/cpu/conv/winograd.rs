//! 3×3 and 5×5 convolutions of stride 1 with a quarter, and little more than a third, of the products: Winograd's
//! F(4×4, 3×3) and F(2×2, 5×5).
//!
//! Owns: [`Winograd`]. Must not know: other kernels.
//!
//! A tile of 4×4 or 2×2 outputs comes from 6×6 inputs: both are transformed, and the sums over channels become 36 products
//! of matrices. Tiles lie on multiples of their rows whatever the bands, so that bands do not change bits.
//!
//! Where factors are rounded, those of the 36 products are: whole numbers of 16 bits, with a scale for the inputs of a tile and
//! one for the weights of a channel out, of each point. The transforms cost a digit, which leaves outputs about as close as
//! products of bfloat16 are.
//!
//! Source: Lavin 2016, "Fast algorithms for convolutional neural networks", §4.3, points 0, ±1, ±2, ∞: with these, the
//! transform of the inputs is the same for both.

#![expect(clippy::needless_range_loop, reason = "registers by number: such loops unroll, others may not")]

mod cut;
mod transform;

use self::transform::Transform;
use super::{
    ConvSpec, Input,
    band::{Band, Instructions},
    finish::{clamp, finish},
    mac::{Mac, MacKernel, Word, pair, whole},
    tile::{Finish, Taps, Tile, WORDS},
};
use crate::kernels::cpu::{
    aligned::Aligned,
    elementwise::{load, store},
    isa::{Isa, Precision},
    simd::{Kernel, Simd, dispatch as dispatch_plain},
};
use rayon::prelude::*;
use std::{
    mem::MaybeUninit,
    ops::{Range, RangeInclusive},
};

/// Rows and columns of a tile's input.
const IN_SIDE: usize = 6;
/// Products per tile.
const POINTS: usize = IN_SIDE * IN_SIDE;
/// Weights, before the transform, that are near after it: in the second-level cache, beside all else; twice as many whole
/// ones. More are far: they are used for as many tiles as possible. Single ones are kept as they are, a quarter of the
/// memory, and transformed where they are used.
const NEAR_WEIGHTS: usize = 1 << 13;
/// Channels in whose inputs are rounded: with fewer that takes longer than it saves.
const ROUNDED_CHANNELS: RangeInclusive<usize> = 48..=whole::MOST;
/// Channels in, about, that share a scale: with more of them fewer bits are left for each.
const SCALED_CHANNELS: usize = 256;
/// Bytes of transformed inputs and sums that are worked on at once with near weights: half of a second-level cache.
const CHUNK_BYTES: usize = 1 << 19;
/// Bytes of transformed inputs that are worked on at once with far weights.
const FAR_CHUNK_BYTES: usize = 6 << 20;
/// Tiles of a micro-tile of most pixels.
const MICRO_TILES: usize = 14;
/// Micro-tiles, at most, that share the transform of far weights.
const FAR_MICRO_TILES: usize = 5;
/// Channels in, and panels of channels out, whose far weights are transformed at once: they stay in the second-level cache.
const FAR_CHANNELS: usize = 64;
const FAR_PANELS: usize = 2;

/// A 3×3 or 5×5 convolution with its weights.
#[derive(Debug, Clone)]
pub(super) struct Winograd {
    pub(super) spec: ConvSpec,
    isa: Isa,
    word: Word,
    /// Near: transformed, `[point, panel, cin, channel of the panel]`; far: `[panel, cin, tap, channel of the panel]`; whole:
    /// transformed, `[panel, point, word, channel of the panel]`.
    weights: Aligned,
    /// What whole weights are multiplied by, `[part of the channels in, point, channel out]`; else none.
    scales: Aligned,
    bias: Aligned,
}

impl Winograd {
    /// Whether it is faster than the direct way: enough channels for the transforms to pay, tiles that are mostly
    /// used, and enough of them for far weights to be transformed.
    pub(super) fn suits(spec: &ConvSpec, out: Option<(usize, usize)>) -> bool {
        let is_square = matches!(spec.kernel, (3, 3) | (5, 5));
        let plain = is_square && spec.stride == 1 && spec.dilation == 1 && spec.groups == 1;
        let channels = spec.cin.min(spec.cout) >= 16;
        let near = is_near(spec);
        plain
            && channels
            && out.map_or(near, |(h, w)| {
                let side = side(spec);
                let tiles = h.div_ceil(side) * w.div_ceil(side);
                tiles * side * side * 2 <= h * w * 3 && (near || tiles >= MICRO_TILES)
            })
    }

    /// Lays out `weights`, `[cout, cin, k, k]`.
    pub(super) fn new(
        spec: ConvSpec,
        (weights, bias): (&[f32], Option<&[f32]>),
        isa: Isa,
        precision: Precision,
        memory: Aligned,
    ) -> Self {
        let isa = isa.available();
        let rounds = precision != Precision::F32 && isa == Isa::Avx512Bf16 && ROUNDED_CHANNELS.contains(&spec.cin);
        let word = if rounds { Word::Integers } else { Word::Float };
        let [weights_to_be, scales, no_bias] = [(); 3].map(|()| Aligned::default());
        let mut op = Self { spec, isa, word, weights: weights_to_be, scales, bias: no_bias };
        let (cin, padded, panel, taps) = (spec.cin, op.padded(), op.panel(), spec.kernel.0 * spec.kernel.1);
        op.bias = Aligned::zeros(padded);
        if let Some(bias) = bias {
            op.bias[..spec.cout].copy_from_slice(bias);
        }
        let lay_out = |to: &mut [f32]| {
            to.par_chunks_mut(panel * cin * taps).zip(0..padded.div_ceil(panel)).for_each(|(to, i)| {
                let width = to.len() / (cin * taps);
                for (at, to) in to.iter_mut().enumerate() {
                    let (c, tap, o) = (at / width / taps, at / width % taps, i * panel + at % width);
                    *to = if o < spec.cout { weights[(o * cin + c) * taps + tap] } else { 0.0 };
                }
            });
        };
        if rounds {
            let mut plain = Aligned::zeros(taps * cin * padded);
            lay_out(&mut plain);
            op.round(&plain);
        } else if is_near(&spec) {
            let mut plain = Aligned::zeros(taps * cin * padded);
            lay_out(&mut plain);
            op.weights = memory.fitted(POINTS * odd_lines(cin * padded));
            let to = op.weights.as_mut_ptr();
            // SAFETY: `plain` holds the kernels of all channels, the weights all points of them.
            unsafe { dispatch_plain(isa, op.transform(&plain, 0..padded, 0..cin, to)) }
        } else {
            op.weights = memory.fitted(taps * cin * padded);
            lay_out(&mut op.weights);
        }
        op
    }

    /// Transforms weights `[panel, cin, tap, channel of the panel]` to whole numbers.
    fn round(&mut self, plain: &[f32]) {
        let (cin, padded, panel, words) = (self.spec.cin, self.padded(), self.panel(), self.words());
        let mut whole = Aligned::zeros(POINTS * words * padded);
        let parts = self.parts_in();
        let of_panel = |(i, to): (usize, &mut [f32])| {
            let outs = i * panel..(i * panel + panel).min(padded);
            let (width, point) = (outs.len(), odd_lines(outs.len() * cin));
            let mut single = Aligned::zeros(POINTS * point);
            let transform = self.transform(plain, outs.clone(), 0..cin, single.as_mut_ptr());
            // SAFETY: `plain` holds the kernels of all channels, `single` all points of the panel's.
            unsafe { dispatch_plain(self.isa, transform) }
            let mut scales = vec![0.0; parts.len() * POINTS * width];
            for (at, scale) in scales.iter_mut().enumerate() {
                let (part, p, o) = (&parts[at / width / POINTS], at / width % POINTS, at % width);
                let weight = |c: usize| if c < cin { single[p * point + c * width + o] } else { 0.0 };
                *scale = whole::weight_scale(part.clone().map(weight));
                let whole = |c: usize| whole::rounded(weight(c), *scale);
                for c in part.clone().step_by(2) {
                    to[(p * words + c / 2) * width + o] = pair([whole(c), whole(c + 1)]);
                }
            }
            (outs, scales)
        };
        let panels: Vec<_> = whole.par_chunks_mut(POINTS * words * panel).enumerate().map(of_panel).collect();
        self.scales = Aligned::zeros(parts.len() * POINTS * padded);
        for (outs, scales) in panels {
            for (row, scales) in scales.chunks_exact(outs.len()).enumerate() {
                self.scales[row * padded..][outs.clone()].copy_from_slice(scales);
            }
        }
        self.weights = whole;
    }

    /// The transform of these weights, of whole panels, `[panel, cin, tap, channel of the panel]` of all channels, to
    /// `[point, panel, channel in, channel of the panel]` of these.
    fn transform<'a>(
        &self,
        weights: &'a [f32],
        outs: Range<usize>,
        channels: Range<usize>,
        to: *mut f32,
    ) -> Transform<'a> {
        Transform { weights, kernel: self.spec.kernel.0, panel: self.panel(), cin: self.spec.cin, outs, channels, to }
    }

    /// Rows and columns of a tile's output.
    pub(super) fn side(&self) -> usize {
        side(&self.spec)
    }

    fn lanes(&self) -> usize {
        if self.isa >= Isa::Avx512 { 16 } else { 8 }
    }

    /// Channels out, filled up to whole vectors.
    fn padded(&self) -> usize {
        self.spec.cout.next_multiple_of(self.lanes())
    }

    /// Channels of a panel; the last may have half as many.
    pub(super) fn panel(&self) -> usize {
        2 * self.lanes()
    }

    pub(super) fn into_memory(self) -> Aligned {
        self.weights
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.weights.len() + self.scales.len() + self.bias.len())
    }

    /// Words of a sum.
    fn words(&self) -> usize {
        self.spec.cin.div_ceil(self.word.numbers())
    }

    fn is_near(&self) -> bool {
        self.spec.cin * self.spec.cout <= NEAR_WEIGHTS * self.word.numbers()
    }

    /// Most tiles worked on at once; whole micro-tiles.
    fn chunk(&self) -> usize {
        let micro_tiles = |bytes: usize, channels: usize| bytes / 4 / (POINTS * channels) / MICRO_TILES;
        MICRO_TILES
            * if self.is_near() {
                micro_tiles(CHUNK_BYTES, self.words() + self.padded()).max(1)
            } else {
                micro_tiles(FAR_CHUNK_BYTES, self.words()).clamp(1, FAR_MICRO_TILES)
            }
    }

    /// Channels in and channels out whose products are summed at once.
    fn part(&self) -> (usize, usize) {
        let cin = self.spec.cin;
        let outs = if self.is_near() { self.padded() } else { (FAR_PANELS * self.panel()).min(self.padded()) };
        match self.word {
            // As many parts as needed, of about one size and whole blocks.
            Word::Integers => (cin.div_ceil(cin.div_ceil(SCALED_CHANNELS)).next_multiple_of(2 * WORDS), outs),
            _ if self.is_near() => (cin, outs),
            _ => (FAR_CHANNELS.min(cin), outs),
        }
    }

    /// The channels in of the parts.
    fn parts_in(&self) -> Vec<Range<usize>> {
        let (cin, part) = (self.spec.cin, self.part().0);
        (0..cin).step_by(part).map(|c| c..(c + part).min(cin)).collect()
    }

    /// Floats of a block, and of a point, of the transformed inputs.
    fn steps(&self) -> (usize, usize) {
        let block = odd_lines(self.chunk() * WORDS);
        (block, odd_lines(self.words().div_ceil(WORDS) * block))
    }

    /// Floats of a point of the sums.
    fn sums_step(&self) -> usize {
        odd_lines(self.chunk() * self.part().1)
    }

    /// Where in the working memory, behind the transformed inputs, sums lie, and transformed weights or what becomes whole
    /// inputs, and how long it is.
    fn places(&self) -> (usize, usize, usize) {
        let (channels, outs) = self.part();
        let sums = POINTS * self.steps().1;
        let rest = sums + POINTS * self.sums_step();
        let floats = match self.word {
            Word::Integers => self.scale_floats() + POINTS * self.single_step(),
            _ if self.is_near() => 0,
            _ => POINTS * odd_lines(channels * outs),
        };
        (sums, rest, rest + floats)
    }

    /// Floats of the scales of a chunk's inputs, `[part of the channels in, point, tile]`.
    fn scale_floats(&self) -> usize {
        odd_lines(self.spec.cin.div_ceil(self.part().0) * POINTS * self.chunk())
    }

    /// Floats of a point of a tile's inputs that are to become whole.
    fn single_step(&self) -> usize {
        odd_lines(self.spec.cin)
    }

    pub(super) fn scratch_floats(&self) -> usize {
        self.places().2
    }
}

/// At least `floats`, in an odd number of cache lines: what lies such a distance apart shares no place in the cache.
fn odd_lines(floats: usize) -> usize {
    (floats.div_ceil(WORDS) | 1) * WORDS
}

/// Rows and columns of a tile's output.
fn side(spec: &ConvSpec) -> usize {
    IN_SIDE + 1 - spec.kernel.0
}

/// Whether single weights are transformed once and for all.
fn is_near(spec: &ConvSpec) -> bool {
    spec.cin * spec.cout <= NEAR_WEIGHTS
}

/// `Bᵀ d`.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn inward<S: Simd>(d: [S::V; IN_SIDE]) -> [S::V; IN_SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (four, minus_four, minus_five) = (S::splat(4.0), S::splat(-4.0), S::splat(-5.0));
        let (a, b) = (S::fma(d[2], minus_four, d[4]), S::fma(d[1], minus_four, d[3]));
        let (c, e) = (S::sub(d[4], d[2]), S::mul(S::sub(d[3], d[1]), S::splat(2.0)));
        [
            S::fma(d[0], four, S::fma(d[2], minus_five, d[4])),
            S::add(a, b),
            S::sub(a, b),
            S::add(c, e),
            S::sub(c, e),
            S::fma(d[1], four, S::fma(d[3], minus_five, d[5])),
        ]
    }
}

/// `Aᵀ m`: of point a, the powers of a; the last output also has the point ∞.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn outward<S: Simd, const SIDE: usize>(m: [S::V; IN_SIDE]) -> [S::V; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (s1, d1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (s2, d2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        let mut y = [S::add(S::add(m[0], s1), s2); SIDE];
        for i in 1..SIDE {
            let power = S::splat((1 << i) as f32);
            y[i] = if i % 2 == 1 { S::fma(d2, power, d1) } else { S::fma(s2, power, s1) };
        }
        y[SIDE - 1] = S::add(y[SIDE - 1], m[5]);
        y
    }
}

impl Instructions for Winograd {
    fn isa(&self) -> Isa {
        self.isa
    }

    fn word(&self) -> Word {
        self.word
    }
}

impl MacKernel for Band<'_, '_, Winograd> {
    #[inline(always)]
    unsafe fn run<M: Mac>(mut self) {
        let op = self.op;
        assert!(op.scratch_floats() <= self.scratch.len(), "working memory of {:?}", op.spec);
        let side = op.side();
        let across = self.out.size().1.div_ceil(side);
        let tiles = self.rows.start / side * across..self.rows.end.div_ceil(side) * across;
        let place = |tile: usize| (tile / across * side, tile % across * side);
        let (cin, (channels, outs)) = (op.spec.cin, op.part());
        // The last panel is filled up with channels that nobody has.
        let mine = self.channels.start..if self.channels.end == op.spec.cout { op.padded() } else { self.channels.end };
        let (sums, rest, _) = op.places();
        // As many chunks as needed, of about one size.
        let micro_tiles = tiles.len().div_ceil(MICRO_TILES);
        let chunks = (micro_tiles * MICRO_TILES).div_ceil(op.chunk());
        let at = |chunk: usize| (tiles.start + chunk * micro_tiles / chunks * MICRO_TILES).min(tiles.end);
        for i in 0..chunks {
            let (start, end) = (at(i), at(i + 1));
            let scratch = self.scratch.as_mut_ptr();
            // SAFETY: the scratch holds a chunk's inputs, its sums and the weights of a part.
            unsafe {
                for tile in start..end {
                    let to = scratch.add((tile - start) * WORDS);
                    if M::WORD == Word::Integers {
                        let single = scratch.add(rest + op.scale_floats());
                        self.transform_input::<M::S>(place(tile), single, (WORDS, op.single_step()));
                        self.round_input::<M>(single, scratch.add(rest + tile - start), to);
                    } else {
                        self.transform_input::<M::S>(place(tile), to, op.steps());
                    }
                }
                for o in mine.clone().step_by(outs) {
                    let outs = o..(o + outs).min(mine.end);
                    for c in (0..cin).step_by(channels) {
                        let channels = c..(c + channels).min(cin);
                        let transformed = if M::WORD == Word::Integers {
                            op.weights.as_ptr().add(o * POINTS * op.words())
                        } else if op.is_near() {
                            op.weights.as_ptr()
                        } else {
                            let to = scratch.add(rest);
                            op.transform(&op.weights, outs.clone(), channels.clone(), to).run::<M::S>();
                            to.cast_const()
                        };
                        self.multiply::<M>(end - start, outs.clone(), channels, transformed);
                    }
                    for tile in start..end {
                        let from = scratch.add(sums + (tile - start) * op.part().1);
                        if side == 4 {
                            self.transform_output::<M::S, 4>(place(tile), outs.clone(), from);
                        } else {
                            self.transform_output::<M::S, 2>(place(tile), outs.clone(), from);
                        }
                    }
                }
            }
        }
        if !self.in_tile() {
            let epilogue = self.epilogue.of_channels(self.channels.clone());
            // SAFETY: the rows and channels are those just written.
            unsafe { finish::<M::S>(&epilogue, &mut self.out.channels(self.channels.clone()), self.rows.clone()) }
        }
    }
}

impl Band<'_, '_, Winograd> {
    /// Whether the epilogue is done where tiles are written.
    fn in_tile(&self) -> bool {
        let e = self.epilogue;
        clamp(e.activation).is_some() && e.residual_factor <= 1 && e.scale.is_none() && e.norm.is_none()
    }

    /// Transformed inputs of a tile, as whole numbers, and what they are to be multiplied by.
    #[inline(always)]
    unsafe fn round_input<M: Mac>(&self, single: *const f32, scales: *mut f32, to: *mut f32) {
        let op = self.op;
        let ((block, point), lanes, channels) = (op.steps(), M::S::LANES, op.part().0);
        for start in (0..op.spec.cin).step_by(channels) {
            let end = (start + channels).min(op.spec.cin);
            let scales = scales.wrapping_add(start / channels * POINTS * op.chunk());
            // SAFETY: the scratch holds all points, the single inputs those of whole vectors.
            unsafe {
                let mut squares = [0.0; POINTS];
                for (p, squares) in squares.iter_mut().enumerate() {
                    let from = single.add(p * op.single_step());
                    let mut sum = M::S::splat(0.0);
                    for at in (start..end).step_by(lanes) {
                        let v = M::S::load(from.add(at));
                        sum = M::S::fma(v, v, sum);
                    }
                    *squares = whole::sum::<M>(sum);
                }
                let (into, back) = whole::input_scales(squares);
                for p in 0..POINTS {
                    *scales.add(p * op.chunk()) = back[p];
                    let (from, to) = (single.add(p * op.single_step()), to.add(p * point));
                    let factor = M::S::splat(into[p]);
                    for at in (start..end).step_by(2 * lanes) {
                        let to = to.add(at / (2 * WORDS) * block).cast::<u16>();
                        M::store_halves(to, M::S::mul(M::S::load(from.add(at)), factor));
                        let is_there = at + lanes < end;
                        let v = if is_there { M::S::load(from.add(at + lanes)) } else { M::S::splat(0.0) };
                        M::store_halves(to.add(lanes), M::S::mul(v, factor));
                    }
                }
            }
        }
    }

    /// The 6×6 inputs of the tile whose first output is this, transformed, to all points: blocks of 16 channels, and
    /// points, so many floats apart.
    #[inline(always)]
    unsafe fn transform_input<S: Simd>(&self, (oy, ox): (usize, usize), to: *mut f32, (block, point): (usize, usize)) {
        let Input { x, prologue, pad } = self.input;
        let (h, w, c) = x.size();
        let row = |r: usize| (oy + r).checked_sub(pad.0).filter(|&y| y < h);
        let col = |k: usize| (ox + k).checked_sub(pad.1).filter(|&v| v < w);
        let mut from = [[std::ptr::null::<f32>(); IN_SIDE]; IN_SIDE];
        for (r, from) in from.iter_mut().enumerate() {
            for (k, from) in from.iter_mut().enumerate() {
                *from = row(r).zip(col(k)).map_or(std::ptr::null(), |(y, v)| x.pixel(y, v));
            }
        }
        // SAFETY: pixels are inside the input or null; the scratch holds all points.
        unsafe {
            for i in (0..c.next_multiple_of(WORDS)).step_by(S::LANES) {
                let n = c.saturating_sub(i).min(S::LANES);
                let factors = prologue.map(|p| {
                    (
                        load::<S>(p.scale.as_ptr().wrapping_add(i), n),
                        load::<S>(p.shift.as_ptr().wrapping_add(i), n),
                        p.relu,
                    )
                });
                // More than there are registers: clearing them first would be half of the stores.
                let mut half = MaybeUninit::<[[S::V; IN_SIDE]; IN_SIDE]>::uninit();
                let half = half.as_mut_ptr().cast::<[S::V; IN_SIDE]>();
                for k in 0..IN_SIDE {
                    let mut d = [S::splat(0.0); IN_SIDE];
                    for r in 0..IN_SIDE {
                        if from[r][k].is_null() {
                            continue;
                        }
                        d[r] = load::<S>(from[r][k].wrapping_add(i), n);
                        if let Some((scale, shift, relu)) = factors {
                            d[r] = S::fma(d[r], scale, shift);
                            if relu {
                                d[r] = S::relu(d[r]);
                            }
                        }
                    }
                    half.add(k).write(inward::<S>(d));
                }
                let half = &*half.cast::<[[S::V; IN_SIDE]; IN_SIDE]>();
                let to = to.add(i / WORDS * block + i % WORDS);
                for r in 0..IN_SIDE {
                    let d = inward::<S>([half[0][r], half[1][r], half[2][r], half[3][r], half[4][r], half[5][r]]);
                    for k in 0..IN_SIDE {
                        S::store(to.add((r * IN_SIDE + k) * point), d[k]);
                    }
                }
            }
        }
    }

    /// The products of all points: sums over these channels of `tiles` tiles, which go on from those before; `weights` are
    /// `[point, panel, channel in, channel of the panel]` of these channels alone, whole ones `[panel, point, word, channel
    /// of the panel]` from the first panel on.
    #[inline(always)]
    unsafe fn multiply<M: Mac>(
        &mut self,
        tiles: usize,
        outs: Range<usize>,
        channels: Range<usize>,
        weights: *const f32,
    ) {
        let op = self.op;
        let (block, point) = op.steps();
        let words = channels.len().div_ceil(M::WORD.numbers());
        let blocks = words.div_ceil(WORDS);
        let first_block = channels.start / (WORDS * M::WORD.numbers());
        let row = |p: usize| channels.start / op.part().0 * POINTS + p;
        let taps = Taps {
            blocks: (blocks, block),
            rows: (1, 0),
            cols: (1, 0),
            run: WORDS,
            last_run: words - (blocks - 1) * WORDS,
        };
        let plain = Finish {
            resume: channels.start > 0,
            adds_bias: channels.start == 0,
            residual: std::ptr::null(),
            residual_px: 0,
            residual_first: false,
            clamp: None,
        };
        let (zeros, scratch, (sums, rest, _), stride) =
            ([0.0; 2 * WORDS], self.scratch.as_mut_ptr(), op.places(), op.part().1);
        for p in 0..POINTS {
            for o in (0..outs.len()).step_by(op.panel()) {
                let width = op.panel().min(outs.len() - o);
                let weights = weights.wrapping_add(match M::WORD {
                    Word::Integers => o * POINTS * op.words() + (p * op.words() + channels.start / 2) * width,
                    _ => p * odd_lines(outs.len() * channels.len()) + o * channels.len(),
                });
                let mut t = 0;
                while t < tiles {
                    let n = *M::PIXELS.iter().find(|&&n| n <= tiles - t).expect("tiles of one pixel");
                    let tile = Tile {
                        x: scratch.wrapping_add(p * point + first_block * block + t * WORDS),
                        w: weights,
                        bias: zeros.as_ptr(),
                        scales: (
                            scratch.wrapping_add(rest + row(p) * op.chunk() + t),
                            op.scales.as_ptr().wrapping_add(row(p) * op.padded() + outs.start + o),
                        ),
                        out: scratch.wrapping_add(sums + p * op.sums_step() + t * stride + o),
                        out_px: stride,
                        channels: width,
                    };
                    // SAFETY: the scratch holds all points of a chunk's tiles, the weights all points.
                    unsafe {
                        if width == op.lanes() {
                            M::tile_of::<1, WORDS>(n, &tile, &taps, &plain);
                        } else {
                            M::tile_of::<2, WORDS>(n, &tile, &taps, &plain);
                        }
                    }
                    t += n;
                }
            }
        }
    }

    /// The sums of all points, transformed, to these channels of the tile's outputs that lie in the band.
    #[inline(always)]
    unsafe fn transform_output<S: Simd, const SIDE: usize>(
        &mut self,
        (oy, ox): (usize, usize),
        outs: Range<usize>,
        from: *const f32,
    ) {
        let op = self.op;
        let (_, out_w, cout) = self.out.size();
        let point = op.sums_step();
        let e = self.epilogue;
        let in_tile = self.in_tile();
        let bounds = clamp(e.activation).flatten().filter(|_| in_tile);
        let residual = e.residual.filter(|_| in_tile);
        // SAFETY: the scratch holds all points; outputs are those of the band.
        unsafe {
            for o in (outs.start..outs.end.min(cout)).step_by(S::LANES) {
                let n = (cout - o).min(S::LANES);
                let from = from.add(o - outs.start);
                let mut half = [[S::splat(0.0); SIDE]; IN_SIDE];
                for (k, half) in half.iter_mut().enumerate() {
                    let mut m = [S::splat(0.0); IN_SIDE];
                    for r in 0..IN_SIDE {
                        m[r] = S::load(from.add((r * IN_SIDE + k) * point));
                    }
                    *half = outward::<S, SIDE>(m);
                }
                let bias = S::load(op.bias.as_ptr().add(o));
                for r in 0..SIDE {
                    let y = oy + r;
                    if !self.rows.contains(&y) {
                        continue;
                    }
                    let m =
                        outward::<S, SIDE>([half[0][r], half[1][r], half[2][r], half[3][r], half[4][r], half[5][r]]);
                    for k in 0..SIDE.min(out_w - ox) {
                        let mut v = S::add(m[k], bias);
                        let to = self.out.pixel(y, ox + k).add(o);
                        if e.accumulate {
                            v = S::add(v, load::<S>(to, n));
                        }
                        let r = residual.map(|view| load::<S>(view.pixel(y, ox + k).add(o), n));
                        if let Some(r) = r.filter(|_| e.residual_before_activation) {
                            v = S::add(v, r);
                        }
                        if let Some((low, high)) = bounds {
                            v = S::clamp(v, S::splat(low), S::splat(high));
                        }
                        if let Some(r) = r.filter(|_| !e.residual_before_activation) {
                            v = S::add(v, r);
                        }
                        store::<S>(to, v, n);
                    }
                }
            }
        }
    }
}
