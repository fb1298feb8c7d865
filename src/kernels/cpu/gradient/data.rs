//! The gradient of a convolution's input: convolutions with turned weights.
//!
//! Owns: [`DataGradient`]. Must not know: networks.
//!
//! With a step of 1 it is one convolution of the result's gradient, kernel turned, channels in and out exchanged. With a
//! larger one, inputs that share `row mod stride` and `column mod stride` are such a convolution each, by the taps that
//! reach them; those that no tap reaches get 0.

use crate::kernels::cpu::{
    Aligned, ConvSpec, Epilogue, Isa, PackedConv, View, ViewMut, conv, elementwise, transposed::Axis,
};
use rayon::prelude::*;
use std::ops::Range;

/// A convolution's data gradient, with its weights laid out.
#[derive(Debug)]
pub struct DataGradient {
    spec: ConvSpec,
    isa: Isa,
    /// Row phase by column phase; none without taps.
    phases: Vec<Option<Phase>>,
}

/// A convolution of the result's gradient.
#[derive(Debug)]
struct Phase {
    conv: PackedConv,
    /// Rows and columns of the result's gradient that it does not see.
    skip: (usize, usize),
}

impl DataGradient {
    /// Lays out the weights, `[cout, cin / groups, kh, kw]`, for inputs of this size, in memory that
    /// [`DataGradient::into_memory`] gave back.
    ///
    /// None for what no network has: padding beyond the kernel, or a step and a dilation at once.
    ///
    /// # Panics
    /// If `weights` has another length.
    pub fn new(spec: ConvSpec, (h, w): (usize, usize), weights: &[f32], isa: Isa, memory: Aligned) -> Option<Self> {
        assert_eq!(weights.len(), spec.weight_count(), "weights of {spec:?}");
        let ConvSpec { kernel: (kh, kw), stride, dilation, pad, .. } = spec;
        let reach = ((kh - 1) * dilation, (kw - 1) * dilation);
        if pad.0 > reach.0 || pad.1 > reach.1 || (stride > 1 && dilation > 1) {
            return None;
        }
        let mut memory = Some(memory);
        let phase = |p: usize| {
            let (py, px) = (p / stride, p % stride);
            if py >= kh || px >= kw {
                return None;
            }
            let taps = ((kh - py).div_ceil(stride), (kw - px).div_ceil(stride));
            let turned = turned(&spec, weights, (py, px), taps);
            // Of the phase's outputs the first lie in the padding.
            let before = |pad: usize, phase: usize| pad.saturating_sub(phase).div_ceil(stride);
            let cut = (before(pad.0, py), before(pad.1, px));
            let whole = if stride == 1 { reach } else { (taps.0 - 1, taps.1 - 1) };
            let pad = (whole.0.saturating_sub(cut.0), whole.1.saturating_sub(cut.1));
            let skip = (cut.0.saturating_sub(whole.0), cut.1.saturating_sub(whole.1));
            let conv = ConvSpec { cin: spec.cout, cout: spec.cin, kernel: taps, stride: 1, pad, ..spec };
            let out = (h.div_ceil(stride), w.div_ceil(stride));
            let memory = memory.take().unwrap_or_default();
            Some(Phase { conv: PackedConv::sized_in(memory, conv, out, (&turned, None), isa), skip })
        };
        Some(Self { spec, isa, phases: (0..stride * stride).map(phase).collect() })
    }

    /// The memory of the weights.
    pub fn into_memory(self) -> Aligned {
        self.phases.into_iter().flatten().next().map(|p| p.conv.into_memory()).unwrap_or_default()
    }

    /// Rows that are computed together.
    pub fn row_step(&self) -> usize {
        let steps = self.phases.iter().flatten().map(|p| p.conv.row_step());
        steps.max().unwrap_or(1) * self.spec.stride
    }

    /// Floats of working memory for a gradient this wide.
    pub fn scratch_floats(&self, dy_w: usize) -> usize {
        self.phases.iter().flatten().map(|p| p.conv.scratch_floats(dy_w)).max().unwrap_or(0)
    }

    /// Rows of one image's gradient, added to what is there already if `before` is given.
    ///
    /// # Shapes
    /// - `dy`: `[out_h, out_w, cout]`; `dx`, `before`: `[h, w, cin]`
    ///
    /// # Panics
    /// If a size does not fit.
    pub fn run(
        &self,
        dy: View<'_>,
        before: Option<View<'_>>,
        dx: &mut ViewMut<'_>,
        rows: Range<usize>,
        scratch: &mut [f32],
    ) {
        let ConvSpec { cin, cout, stride, pad, .. } = self.spec;
        let (h, w, _) = dx.size();
        assert_eq!(dy.size().2, cout, "channels of the gradient of {:?}", self.spec);
        dx.check((h, w, cin), &rows);
        for (p, phase) in self.phases.iter().enumerate() {
            let axes = (Axis::new(p / stride, stride, pad.0, h), Axis::new(p % stride, stride, pad.1, w));
            let (Some(ys), Some(xs)) = axes else { continue };
            let mine = |row: usize| row.saturating_sub(ys.first).div_ceil(stride).min(ys.count);
            let mine = mine(rows.start)..mine(rows.end);
            if mine.is_empty() {
                continue;
            }
            let (first, size) = ((ys.first, xs.first), (ys.count, xs.count));
            let reached = phase.as_ref().map_or((0, 0), |p| p.reached(dy, size));
            if reached != size {
                let mut to = dx.grid(first, stride, size, mine.clone());
                match before.map(|r| r.grid(first, stride, size)) {
                    Some(before) => elementwise::copy(self.isa, before, &mut to, mine.clone()),
                    None => zero(&mut to, mine.clone()),
                }
            }
            let mine = mine.start.min(reached.0)..mine.end.min(reached.0);
            if let Some(phase) = phase.as_ref().filter(|_| !mine.is_empty() && reached.1 > 0) {
                let residual = before.map(|r| r.grid(first, stride, reached));
                let epilogue = Epilogue { residual, ..Epilogue::default() };
                let mut to = dx.grid(first, stride, reached, mine.clone());
                conv(&phase.conv, phase.seen(dy), None, &epilogue, &mut to, mine, scratch);
            }
        }
    }
}

impl Phase {
    /// The part of the result's gradient that it sees.
    fn seen<'a>(&self, dy: View<'a>) -> View<'a> {
        let (h, w, _) = dy.size();
        let (top, left) = (self.skip.0.min(h), self.skip.1.min(w));
        dy.crop(top, left, h - top, w - left)
    }

    /// Rows and columns of its outputs whose windows start inside; no tap reaches those behind.
    fn reached(&self, dy: View<'_>, (rows, columns): (usize, usize)) -> (usize, usize) {
        let ((h, w, _), pad) = (self.seen(dy).size(), self.conv.spec().pad);
        (rows.min(h + pad.0), columns.min(w + pad.1))
    }
}

fn zero(to: &mut ViewMut<'_>, rows: Range<usize>) {
    let (_, w, c) = to.size();
    for y in rows {
        for x in 0..w {
            // SAFETY: the pixel is inside the view, its channels side by side.
            unsafe { std::ptr::write_bytes(to.pixel(y, x), 0, c) }
        }
    }
}

/// The taps `first + stride · i` of every kernel from the last to the first, channels in and out exchanged inside their
/// group: `[cin, cout / groups, taps]`.
fn turned(spec: &ConvSpec, weights: &[f32], first: (usize, usize), taps: (usize, usize)) -> Vec<f32> {
    let ConvSpec { cin, cout, kernel: (kh, kw), stride, groups, .. } = *spec;
    let (each_in, each_out) = (cin / groups, cout / groups);
    let count = taps.0 * taps.1;
    let mut all = vec![0.0; cin * each_out * count];
    all.par_chunks_mut((each_out * count).max(1)).enumerate().for_each(|(c, all)| {
        let group = c / each_in;
        for (o, to) in all.chunks_exact_mut(count).enumerate() {
            let kernel = &weights[((group * each_out + o) * each_in + c % each_in) * kh * kw..][..kh * kw];
            for (i, to) in to.iter_mut().rev().enumerate() {
                *to = kernel[(first.0 + stride * (i / taps.1)) * kw + first.1 + stride * (i % taps.1)];
            }
        }
    });
    all
}
