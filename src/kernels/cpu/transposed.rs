//! Transposed convolutions without padding.
//!
//! Owns: [`PackedTransposed`], [`transposed_conv`]. Must not know: graphs.

use super::{
    conv::{ConvSpec, Epilogue, PackedConv},
    isa::{Isa, Precision},
    view::{View, ViewMut},
};
use std::{ops::Range, sync::Arc};

/// A transposed convolution's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposedSpec {
    /// Channels in.
    pub cin: usize,
    /// Channels out.
    pub cout: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step in the output.
    pub stride: usize,
    /// Rows and columns cut from the top and the left of the whole output, `(h − 1)·stride + kernel` rows.
    pub crop: (usize, usize),
}

/// A transposed convolution with its weights laid out for an instruction set.
///
/// The outputs that share `row mod stride` and `column mod stride` are a convolution of stride 1 by the taps that reach
/// them: `stride²` small ones, and no zeros between pixels.
#[derive(Debug, Clone)]
pub struct PackedTransposed {
    spec: TransposedSpec,
    /// Row phase by column phase.
    phases: Arc<[PackedConv]>,
}

impl PackedTransposed {
    /// Lays out the weights.
    ///
    /// # Shapes
    /// - `weights`: `[cin, cout, kernel, kernel]`
    /// - `bias`: `[cout]`
    ///
    /// # Panics
    /// If these are not the lengths, or the stride is larger than the kernel.
    pub fn new(spec: TransposedSpec, weights: &[f32], bias: Option<&[f32]>, isa: Isa, precision: Precision) -> Self {
        let TransposedSpec { cin, cout, kernel: k, stride, .. } = spec;
        assert_eq!(weights.len(), cin * cout * k * k, "weights of {spec:?}");
        assert!(0 < stride && stride <= k, "stride of {spec:?}");
        let phases = (0..stride * stride).map(|p| {
            let (py, px) = (p / stride, p % stride);
            let (kh, kw) = ((k - py).div_ceil(stride), (k - px).div_ceil(stride));
            // The last tap reaches the nearest pixel: taps run backwards.
            let phase: Vec<f32> = (0..cout * cin * kh * kw)
                .map(|i| {
                    let (o, c, ky, kx) = (i / (cin * kh * kw), i / (kh * kw) % cin, i / kw % kh, i % kw);
                    let (ky, kx) = (py + stride * (kh - 1 - ky), px + stride * (kw - 1 - kx));
                    weights[((c * cout + o) * k + ky) * k + kx]
                })
                .collect();
            let conv = ConvSpec { kernel: (kh, kw), pad: (kh - 1, kw - 1), ..ConvSpec::linear(cin, cout) };
            PackedConv::new(conv, &phase, bias, isa, precision)
        });
        Self { spec, phases: phases.collect() }
    }

    /// The same with another crop: that of another image size.
    pub fn with_crop(&self, crop: (usize, usize)) -> Self {
        Self { spec: TransposedSpec { crop, ..self.spec }, phases: self.phases.clone() }
    }

    /// Its settings.
    pub fn spec(&self) -> &TransposedSpec {
        &self.spec
    }

    /// Memory of the weights.
    pub fn bytes(&self) -> usize {
        self.phases.iter().map(PackedConv::bytes).sum()
    }

    /// Floats of working memory to hand to [`transposed_conv`] for an input this wide.
    pub fn scratch_floats(&self, in_w: usize) -> usize {
        self.phases.iter().map(|p| p.scratch_floats(in_w)).max().unwrap_or(0)
    }
}

/// Rows `rows` of a transposed convolution of one image.
///
/// # Shapes
/// - `x`: `[h, w, cin]`; `out`: `[out_h, out_w, cout]`, at most what the crop leaves of the whole
/// - `scratch`: at least [`PackedTransposed::scratch_floats`]
///
/// # Panics
/// If a size does not fit, or the epilogue has an enlarged residual.
pub fn transposed_conv(
    op: &PackedTransposed,
    x: View<'_>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    scratch: &mut [f32],
) {
    let TransposedSpec { cin, cout, stride, crop, .. } = op.spec;
    let (out_h, out_w, _) = out.size();
    assert_eq!(x.size().2, cin, "channels in of {:?}", op.spec);
    assert!(epilogue.residual_factor <= 1, "an enlarged residual of {:?}", op.spec);
    out.check((out_h, out_w, cout), &rows);
    epilogue.check((out_h, out_w, cout));
    for (p, phase) in op.phases.iter().enumerate() {
        let (Some(ys), Some(xs)) =
            (Axis::new(p / stride, stride, crop.0, out_h), Axis::new(p % stride, stride, crop.1, out_w))
        else {
            continue;
        };
        // The phase's rows that lie in the band.
        let mine =
            rows.start.saturating_sub(ys.first).div_ceil(stride)..rows.end.saturating_sub(ys.first).div_ceil(stride);
        let mine = mine.start.min(ys.count)..mine.end.min(ys.count);
        if mine.is_empty() {
            continue;
        }
        let size = (ys.count, xs.count);
        let epilogue =
            Epilogue { residual: epilogue.residual.map(|r| r.grid((ys.first, xs.first), stride, size)), ..*epilogue };
        let mut to = out.grid((ys.first, xs.first), stride, size, mine.clone());
        phase.run_from((ys.skip, xs.skip), x, &epilogue, &mut to, mine, scratch);
    }
}

/// The outputs of one phase along one axis.
pub(super) struct Axis {
    /// The first output, after the crop.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// How many of the phase the crop cut off.
    pub skip: usize,
}

impl Axis {
    pub(super) fn new(phase: usize, stride: usize, crop: usize, size: usize) -> Option<Self> {
        let skip = crop.saturating_sub(phase).div_ceil(stride);
        let first = phase + skip * stride - crop;
        (first < size).then(|| Self { first, count: (size - first).div_ceil(stride), skip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        Activation,
        cpu::{
            conv::tests::{difference, numbers},
            reference,
        },
    };

    #[test]
    fn every_isa_computes_what_is_defined_in_any_bands() {
        for (kernel, stride, crop, cin, cout) in [
            (2, 2, (0, 0), 20, 33),
            (3, 2, (1, 2), 16, 40),
            (5, 2, (3, 5), 7, 12),
            (4, 4, (0, 1), 8, 8),
            (3, 1, (1, 1), 5, 6),
        ] {
            let spec = TransposedSpec { cin, cout, kernel, stride, crop };
            let (h, w) = (5, 7);
            let (out_h, out_w) = ((h - 1) * stride + kernel - crop.0, (w - 1) * stride + kernel - crop.1 - 1);
            let x = numbers(1, h * w * cin);
            let x = View::dense(&x, h, w, cin);
            let weights = numbers(2, cin * cout * kernel * kernel);
            let (bias, residual) = (numbers(3, cout), numbers(4, out_h * out_w * cout));
            let epilogue = Epilogue {
                residual: Some(View::dense(&residual, out_h, out_w, cout)),
                activation: Some(Activation::Relu),
                ..Epilogue::default()
            };
            let mut want = vec![0.0; out_h * out_w * cout];
            let mut to = ViewMut::dense(&mut want, out_h, out_w, cout);
            reference::transposed_conv((&spec, &weights, Some(&bias)), x, &epilogue, &mut to, 0..out_h);
            for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
                let op = PackedTransposed::new(spec, &weights, Some(&bias), isa, Precision::F32);
                let mut scratch = vec![0.0; op.scratch_floats(w)];
                let mut run = |bands: &[usize]| {
                    let mut got = vec![9.0; out_h * out_w * cout];
                    let mut to = ViewMut::dense(&mut got, out_h, out_w, cout);
                    let mut start = 0;
                    for &end in bands.iter().chain([&out_h]) {
                        transposed_conv(&op, x, &epilogue, &mut to, start..end, &mut scratch);
                        start = end;
                    }
                    got
                };
                let whole = run(&[]);
                assert!(difference(&whole, &want) < 2e-6, "{isa:?} {spec:?}");
                assert!(whole == run(&[1, 2, 6]), "{isa:?} {spec:?}");
            }
        }
    }
}
