//! Convolutions to a few channels: heads, attention maps.
//!
//! Owns: [`Thin`]. Must not know: other kernels.
//!
//! Vectors of channels would be mostly empty, so vectors are of pixels: the band's input is copied into planes, one per
//! channel in, and each weight is a factor of a whole vector of neighbours. Sums are single precision always.

#![expect(clippy::needless_range_loop, reason = "registers by number: such loops unroll, others may not")]

use super::{
    ConvSpec, Input,
    band::{Band, Instructions},
    finish::finish,
    mac::{Mac, MacKernel},
};
use crate::kernels::cpu::{isa::Isa, math::relu, simd::Simd};

/// The most channels out.
const MAX_OUT: usize = 4;
/// The most channels in: planes of more are as slow to make as vectors that are mostly empty.
const MAX_IN: usize = 64;
/// The most vectors of pixels that are summed together.
const VECTORS: usize = 4;
/// Pixels of the widest such group.
const GROUP: usize = VECTORS * 16;
/// Floats of the planes that are worked on at once.
const NEAR_FLOATS: usize = 48 << 10;

/// A convolution to a few channels with its weights.
#[derive(Debug, Clone)]
pub(super) struct Thin {
    pub(super) spec: ConvSpec,
    isa: Isa,
    /// `[cin, kh, kw, cout]`
    weights: Vec<f32>,
    /// `[cout]`
    bias: Vec<f32>,
}

impl Thin {
    /// Whether this is the way for such a convolution. A 1×1 reads each value once: copying it first would not pay.
    pub(super) fn suits(spec: &ConvSpec) -> bool {
        let is_plain = spec.stride == 1 && spec.groups == 1 && spec.kernel != (1, 1);
        is_plain && spec.cout <= MAX_OUT && spec.cin <= MAX_IN
    }

    /// Lays out `weights`, `[cout, cin, kh, kw]`.
    pub(super) fn new(spec: ConvSpec, weights: &[f32], bias: Option<&[f32]>, isa: Isa) -> Self {
        let inputs = spec.cin * spec.kernel.0 * spec.kernel.1;
        let weights = (0..weights.len()).map(|i| weights[i % spec.cout * inputs + i / spec.cout]).collect();
        let bias = bias.map_or_else(|| vec![0.0; spec.cout], <[f32]>::to_vec);
        Self { spec, isa: isa.available(), weights, bias }
    }

    pub(super) fn bytes(&self) -> usize {
        4 * (self.weights.len() + self.bias.len())
    }

    /// Rows of the input that one output row needs.
    fn needed(&self) -> usize {
        (self.spec.kernel.0 - 1) * self.spec.dilation + 1
    }

    /// Floats of a plane's row: the last group may go beyond the image.
    fn cols(&self, out_w: usize) -> usize {
        out_w.next_multiple_of(GROUP) + (self.spec.kernel.1 - 1) * self.spec.dilation
    }

    /// Output rows worked on at once.
    fn together(&self, cols: usize) -> usize {
        (NEAR_FLOATS / (cols * self.spec.cin)).saturating_sub(self.needed() - 1).max(1)
    }

    pub(super) fn scratch_floats(&self, in_w: usize) -> usize {
        // Narrower outputs keep more rows, of no more than what is near.
        (self.needed() * self.cols(in_w + 2 * self.spec.pad.1) * self.spec.cin).max(NEAR_FLOATS)
    }
}

impl Instructions for Thin {
    fn isa(&self) -> Isa {
        self.isa
    }
}

impl MacKernel for Band<'_, '_, Thin> {
    #[inline(always)]
    unsafe fn run<M: Mac>(mut self) {
        let op = self.op;
        let cols = op.cols(self.out.size().1);
        let together = op.together(cols);
        for start in self.rows.clone().step_by(together) {
            let end = (start + together).min(self.rows.end);
            let kept = end - start + op.needed() - 1;
            assert!(kept * cols * op.spec.cin <= self.scratch.len(), "working memory of {:?}", op.spec);
            self.pack(start, kept, cols);
            for y in start..end {
                // SAFETY: the scratch holds the planes of the rows; sizes are the caller's promise.
                unsafe {
                    match op.spec.cout {
                        1 => self.row::<M::S, 1, VECTORS>(y, (y - start, kept), cols),
                        2 => self.row::<M::S, 2, VECTORS>(y, (y - start, kept), cols),
                        // As many sums as there are registers for.
                        3 if M::S::LANES == 16 => self.row::<M::S, 3, VECTORS>(y, (y - start, kept), cols),
                        4 if M::S::LANES == 16 => self.row::<M::S, 4, VECTORS>(y, (y - start, kept), cols),
                        3 => self.row::<M::S, 3, 2>(y, (y - start, kept), cols),
                        4 => self.row::<M::S, 4, 2>(y, (y - start, kept), cols),
                        _ => unreachable!("channels out of {:?}", op.spec),
                    }
                }
            }
            // SAFETY: the rows are those just written.
            unsafe { finish::<M::S>(self.epilogue, self.out, start..end) }
        }
    }
}

impl Band<'_, '_, Thin> {
    /// The padded input from output row `start` on as planes: `[cin, kept, cols]`.
    #[inline(always)]
    fn pack(&mut self, start: usize, kept: usize, cols: usize) {
        let Input { x, prologue, pad } = self.input;
        let (h, w, c) = x.size();
        let px = x.layout().pixel_stride;
        let inside = pad.1.min(cols)..(pad.1 + w).min(cols).max(pad.1.min(cols));
        for r in 0..kept {
            let y = (start + r).checked_sub(pad.0).filter(|&y| y < h);
            for i in 0..c {
                let to = &mut self.scratch[(i * kept + r) * cols..][..cols];
                let Some(y) = y else {
                    to.fill(0.0);
                    continue;
                };
                to[..inside.start].fill(0.0);
                to[inside.end..].fill(0.0);
                let from = x.pixel(y, inside.start.saturating_sub(pad.1)).wrapping_add(i);
                for (k, to) in to[inside.clone()].iter_mut().enumerate() {
                    // SAFETY: the pixel is inside the input.
                    *to = unsafe { *from.add(k * px) };
                }
                if let Some(p) = prologue {
                    let (scale, shift) = (p.scale[i], p.shift[i]);
                    for v in &mut to[inside.clone()] {
                        *v = *v * scale + shift;
                        *v = if p.relu { relu(*v) } else { *v };
                    }
                }
            }
        }
    }

    /// The sums of an output row, whose window starts at row `first` of the planes.
    #[inline(always)]
    unsafe fn row<S: Simd, const C: usize, const V: usize>(
        &mut self,
        y: usize,
        (first, kept): (usize, usize),
        cols: usize,
    ) {
        let op = self.op;
        let ConvSpec { cin, kernel: (kh, kw), dilation, .. } = op.spec;
        let out_w = self.out.size().1;
        let out_px = self.out.layout().pixel_stride;
        for ox in (0..out_w).step_by(V * S::LANES) {
            // SAFETY: planes reach a group beyond the output; sizes are the caller's promise.
            unsafe {
                let mut acc = [[S::splat(0.0); V]; C];
                for o in 0..C {
                    acc[o] = [S::splat(op.bias[o]); V];
                }
                let mut w = op.weights.as_ptr();
                for i in 0..cin {
                    for ky in 0..kh {
                        let row = (i * kept + first + ky * dilation) * cols + ox;
                        let mut x = self.scratch.as_ptr().add(row);
                        for _ in 0..kw {
                            let mut values = [S::splat(0.0); V];
                            for v in 0..V {
                                values[v] = S::load(x.add(v * S::LANES));
                            }
                            for o in 0..C {
                                let weight = S::splat(*w.add(o));
                                for v in 0..V {
                                    acc[o][v] = S::fma(values[v], weight, acc[o][v]);
                                }
                            }
                            w = w.add(C);
                            x = x.add(dilation);
                        }
                    }
                }
                let mut pixels = [[0.0_f32; GROUP]; C];
                for o in 0..C {
                    for v in 0..V {
                        S::store(pixels[o].as_mut_ptr().add(v * S::LANES), acc[o][v]);
                    }
                }
                let to = self.out.pixel(y, ox);
                for k in 0..(out_w - ox).min(V * S::LANES) {
                    for o in 0..C {
                        *to.add(k * out_px + o) = pixels[o][k];
                    }
                }
            }
        }
    }
}
