//! The gradient of a dense convolution's weights: `dW[o, c, ky, kx] = Σ dy[p, o] · x[p·stride + k, c]`.
//!
//! Owns: [`weight_gradient`]. Must not know: networks.
//!
//! Output rows are cut into fixed parts; each part's sums are its own, and parts are added in their order, so that the
//! result does not depend on the number of threads. Inside a part some rows at a time are copied: the input padded, in
//! blocks of 16 channels, the result's gradient in blocks of two vectors of channels. A tile of 8 inputs by two vectors
//! is then summed in registers over a run of pixels.

mod pack;
mod tile;

use self::{
    pack::{pack_given, pack_input},
    tile::Run,
};
use super::maps::{Maps, with_scratch};
use crate::kernels::cpu::{
    Aligned, ConvSpec,
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
};
use rayon::prelude::*;
use std::{cell::RefCell, ops::Range};

/// Channels of a block of the input.
const BLOCK: usize = 16;
/// Values of the input in a tile.
const TILE: usize = 8;
/// Pixels copied at once.
const CHUNK_PX: usize = 768;
/// Pixels a tile is summed over at once: they stay in the first-level cache.
const RUN_PX: usize = 96;
/// Parts, at most; and floats of all of them.
const MOST_PARTS: usize = 16;
const PART_FLOATS: usize = 2 << 20;
/// Floats that one task adds up.
const SUM_FLOATS: usize = 1 << 14;
/// Pixels of a part, at least.
const LEAST_PX: usize = 256;

/// Gradient of the weights, `[cout, cin, kh, kw]`, of a convolution in one group.
///
/// # Shapes
/// - `x`: `[n, h, w, cin]`; `dy`: `[n, out_h, out_w, cout]`
///
/// # Panics
/// If the sizes do not fit the spec.
pub fn weight_gradient(isa: Isa, spec: &ConvSpec, x: Maps<'_>, dy: Maps<'_>) -> Vec<f32> {
    assert!(x.c == spec.cin && dy.c == spec.cout && x.n == dy.n && spec.groups == 1, "gradient of {spec:?}");
    let job = Job::new(isa.available(), *spec, x, dy);
    // Taken, not borrowed: whoever waits here may be given other work.
    let mut parts = PARTS.take().fitted(job.parts * job.part_floats());
    let shared = Shared(parts.as_mut_ptr());
    (0..job.parts * job.shares).into_par_iter().for_each(|task| {
        let (part, share) = (task / job.shares, task % job.shares);
        with_scratch(job.scratch_floats(), |scratch| {
            // SAFETY: parts and shares of blocks do not overlap; the scratch is large enough.
            unsafe { job.run(part, share, shared.at(part * job.part_floats()), scratch) }
        });
    });
    let gradient = job.gathered(&mut parts);
    PARTS.set(parts);
    gradient
}

thread_local! {
    /// The last gradient's sums, for the next one.
    static PARTS: RefCell<Aligned> = RefCell::new(Aligned::default());
}

/// A pointer that tasks share, each using a range of its own.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: users keep to their own ranges.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

struct Job<'a> {
    isa: Isa,
    spec: ConvSpec,
    x: Maps<'a>,
    dy: Maps<'a>,
    /// Whether a kernel's row is one run of `kw · cin` values: for a few channels.
    by_rows: bool,
    /// Parts of the output rows, and shares of the blocks of channels out.
    parts: usize,
    shares: usize,
}

/// Rows of one image.
struct Group {
    image: usize,
    rows: Range<usize>,
}

impl<'a> Job<'a> {
    fn new(isa: Isa, spec: ConvSpec, x: Maps<'a>, dy: Maps<'a>) -> Self {
        let by_rows = spec.cin < TILE && spec.dilation == 1;
        let mut job = Self { isa, spec, x, dy, by_rows, parts: 1, shares: 1 };
        let (rows, px) = (dy.n * dy.h, dy.n * dy.h * dy.w);
        let fit = PART_FLOATS / job.part_floats().max(1);
        job.parts = fit.min(MOST_PARTS).min(px / LEAST_PX).clamp(1, rows.max(1));
        job.shares = MOST_PARTS.div_ceil(job.parts).min(job.blocks_out());
        job
    }

    fn lanes(&self) -> usize {
        if self.isa >= Isa::Avx512 { 16 } else { 8 }
    }

    /// Blocks of two vectors of channels out.
    fn blocks_out(&self) -> usize {
        self.spec.cout.div_ceil(2 * self.lanes())
    }

    /// First channel and width of a block of channels out; the last may be one vector.
    fn block_out(&self, block: usize) -> (usize, usize) {
        let first = block * 2 * self.lanes();
        (first, (self.spec.cout - first).next_multiple_of(self.lanes()).min(2 * self.lanes()))
    }

    fn blocks_in(&self) -> usize {
        if self.by_rows { 1 } else { self.spec.cin.div_ceil(BLOCK) }
    }

    /// Values of a tap: a block's channels, or a kernel's row.
    fn tap_values(&self) -> usize {
        if self.by_rows { (self.spec.kernel.1 * self.spec.cin).next_multiple_of(TILE) } else { BLOCK }
    }

    fn taps(&self) -> usize {
        if self.by_rows { self.spec.kernel.0 } else { self.spec.kernel.0 * self.spec.kernel.1 }
    }

    /// Sums of a block of channels in, for one channel out.
    fn depth(&self) -> usize {
        self.taps() * self.tap_values()
    }

    fn part_floats(&self) -> usize {
        self.blocks_in() * self.depth() * self.spec.cout.next_multiple_of(self.lanes())
    }

    /// Where the sums of a block of channels out start.
    fn sums(&self, block_out: usize) -> usize {
        self.blocks_in() * self.depth() * self.block_out(block_out).0
    }

    /// Floats of a row of the copied input, and of a step of one output pixel in it.
    fn strip_row(&self) -> (usize, usize) {
        let ConvSpec { cin, kernel, stride, dilation, .. } = self.spec;
        let columns = (self.dy.w - 1) * stride + (kernel.1 - 1) * dilation + 1;
        // Behind a kernel's row in one run lies what the last tile reads too far.
        if self.by_rows { (columns * cin + TILE, stride * cin) } else { (columns * BLOCK, stride * BLOCK) }
    }

    fn strip_rows(&self, rows: usize) -> usize {
        (rows - 1) * self.spec.stride + (self.spec.kernel.0 - 1) * self.spec.dilation + 1
    }

    /// Output rows copied at once.
    fn chunk_rows(&self) -> usize {
        (CHUNK_PX / self.dy.w).max(1)
    }

    /// Blocks of channels out of a share.
    fn share(&self, share: usize) -> Range<usize> {
        let each = self.blocks_out().div_ceil(self.shares);
        (share * each).min(self.blocks_out())..((share + 1) * each).min(self.blocks_out())
    }

    fn scratch_floats(&self) -> usize {
        let rows = self.chunk_rows();
        // Every row may be another image's.
        let groups = rows.div_ceil(self.dy.h) + 1;
        let strip = (rows * self.spec.stride + groups * self.strip_rows(1)) * self.strip_row().0 + TILE;
        let blocks = self.blocks_out().div_ceil(self.shares);
        strip.next_multiple_of(BLOCK) + rows * self.dy.w * blocks * 2 * self.lanes() + BLOCK
    }

    /// The rows of a chunk, image by image.
    fn groups(&self, rows: Range<usize>) -> Vec<Group> {
        let h = self.dy.h;
        let images = rows.start / h..rows.end.div_ceil(h);
        images
            .map(|image| Group {
                image,
                rows: rows.start.max(image * h) - image * h..rows.end.min(image * h + h) - image * h,
            })
            .collect()
    }

    /// # Safety
    /// `sums` is good for the part, of which nobody else uses the share's blocks; the scratch is large enough.
    unsafe fn run(&self, part: usize, share: usize, sums: *mut f32, scratch: &mut [f32]) {
        let rows = self.dy.n * self.dy.h;
        let rows = rows * part / self.parts..rows * (part + 1) / self.parts;
        let blocks = self.share(share);
        if blocks.is_empty() {
            return;
        }
        let last = blocks.end - 1;
        let end = self.sums(last) + self.blocks_in() * self.depth() * self.block_out(last).1;
        // SAFETY: the caller's promise; `isa` is available.
        unsafe {
            std::ptr::write_bytes(sums.add(self.sums(blocks.start)), 0, end - self.sums(blocks.start));
            dispatch(self.isa, Part { job: self, rows, blocks, sums, scratch });
        }
    }

    /// The parts added in order, in the order of the weights.
    fn gathered(&self, parts: &mut [f32]) -> Vec<f32> {
        let ConvSpec { cin, cout, kernel: (kh, kw), .. } = self.spec;
        let (sum, others) = parts.split_at_mut(self.part_floats());
        sum.par_chunks_mut(SUM_FLOATS).enumerate().for_each(|(i, sum)| {
            for part in others.chunks_exact(self.part_floats()) {
                let part = &part[i * SUM_FLOATS..][..sum.len()];
                sum.iter_mut().zip(part).for_each(|(a, b)| *a += b);
            }
        });
        let (sum, taps) = (&*sum, kh * kw);
        let mut all = vec![0.0; cout * cin * taps];
        all.par_chunks_mut(2 * self.lanes() * cin * taps).enumerate().for_each(|(block, to)| {
            let (start, width) = (self.sums(block), self.block_out(block).1);
            let outs = to.len() / (cin * taps);
            for c in 0..cin {
                for tap in 0..taps {
                    let row = if self.by_rows {
                        tap / kw * self.tap_values() + tap % kw * cin + c
                    } else {
                        c / BLOCK * self.depth() + tap * BLOCK + c % BLOCK
                    };
                    let row = &sum[start + row * width..][..outs];
                    let to = to[c * taps + tap..].iter_mut().step_by(cin * taps);
                    to.zip(row).for_each(|(to, v)| *to = *v);
                }
            }
        });
        all
    }
}

/// A part of the rows for some blocks of channels out.
struct Part<'a, 'b> {
    job: &'a Job<'b>,
    rows: Range<usize>,
    blocks: Range<usize>,
    sums: *mut f32,
    scratch: &'a mut [f32],
}

impl Kernel for Part<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { job, rows, blocks, sums, scratch } = self;
        let skip = scratch.as_ptr().align_offset(64);
        let strip = scratch[skip..].as_mut_ptr();
        let step = job.chunk_rows();
        for start in rows.clone().step_by(step) {
            let groups = job.groups(start..(start + step).min(rows.end));
            let px: usize = groups.iter().map(|g| g.rows.len()).sum::<usize>() * job.dy.w;
            let strip_floats: usize =
                groups.iter().map(|g| job.strip_rows(g.rows.len())).sum::<usize>() * job.strip_row().0 + TILE;
            let given = strip.wrapping_add(strip_floats.next_multiple_of(BLOCK));
            assert!(
                strip_floats.next_multiple_of(BLOCK) + px * blocks.len() * 2 * S::LANES <= scratch.len() - skip,
                "working memory of {:?}",
                job.spec
            );
            // SAFETY: the copies fit the scratch, the sums are the caller's promise.
            unsafe {
                let mut to = given;
                for block in blocks.clone() {
                    let (first, width) = job.block_out(block);
                    pack_given::<S>(job, &groups, (first, width), to);
                    to = to.add(px * width);
                }
                for block_in in 0..job.blocks_in() {
                    pack_input::<S>(job, &groups, block_in, strip);
                    let mut from = given;
                    for block in blocks.clone() {
                        let width = job.block_out(block).1;
                        let sums = sums.add(job.sums(block) + block_in * job.depth() * width);
                        if width == S::LANES {
                            add_up::<S, 1>(job, &groups, strip, from, sums);
                        } else {
                            add_up::<S, 2>(job, &groups, strip, from, sums);
                        }
                        from = from.add(px * width);
                    }
                }
            }
        }
    }
}

/// Adds a chunk's products of a block in and a block out.
///
/// # Safety
/// Copies and sums are good for what the job says.
#[inline(always)]
unsafe fn add_up<S: Simd, const V: usize>(
    job: &Job<'_>,
    groups: &[Group],
    strip: *const f32,
    given: *const f32,
    sums: *mut f32,
) {
    let (row, px) = job.strip_row();
    let (w, width) = (job.dy.w, V * S::LANES);
    let (kw, dilation) = (job.spec.kernel.1, job.spec.dilation);
    let tap_at = |tap: usize| {
        if job.by_rows { tap * row } else { tap / kw * dilation * row + tap % kw * dilation * BLOCK }
    };
    // Whole short rows together, long ones in pieces.
    let (rows_each, columns_each) = ((RUN_PX / w).max(1), if w > RUN_PX { w.div_ceil(w.div_ceil(RUN_PX)) } else { w });
    let (mut strip, mut given) = (strip, given);
    for group in groups {
        let rows = group.rows.len();
        for y in (0..rows).step_by(rows_each) {
            for x in (0..w).step_by(columns_each) {
                let run = Run {
                    rows: rows_each.min(rows - y),
                    columns: columns_each.min(w - x),
                    x_row: job.spec.stride * row,
                    x_px: px,
                    dy_row: w * width,
                };
                let from = strip.wrapping_add(y * job.spec.stride * row + x * px);
                let dy = given.wrapping_add((y * w + x) * width);
                for tap in 0..job.taps() {
                    for i in (0..job.tap_values()).step_by(TILE) {
                        let to = sums.wrapping_add((tap * job.tap_values() + i) * width);
                        let from = from.wrapping_add(tap_at(tap) + i);
                        // SAFETY: the caller's promise.
                        unsafe {
                            if S::LANES == 16 {
                                run.tile::<S, V, TILE>(from, dy, to);
                            } else {
                                // As many sums as half the registers.
                                run.tile::<S, V, { TILE / 2 }>(from, dy, to);
                                run.tile::<S, V, { TILE / 2 }>(from.add(TILE / 2), dy, to.add(TILE / 2 * width));
                            }
                        }
                    }
                }
            }
        }
        strip = strip.wrapping_add(job.strip_rows(rows) * row);
        given = given.wrapping_add(rows * w * width);
    }
}
