//! Transposed convolutions without padding.
//!
//! Owns: [`PackedTransposed`], [`transposed_conv`]. Must not know: graphs.

use super::{
    conv::Epilogue,
    isa::{Isa, Precision},
    reference,
    view::{View, ViewMut},
};
use std::ops::Range;

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
#[derive(Debug, Clone)]
pub struct PackedTransposed {
    spec: TransposedSpec,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl PackedTransposed {
    /// Lays out the weights.
    ///
    /// # Shapes
    /// - `weights`: `[cin, cout, kernel, kernel]`
    /// - `bias`: `[cout]`
    ///
    /// # Panics
    /// If these are not the lengths.
    pub fn new(spec: TransposedSpec, weights: &[f32], bias: Option<&[f32]>, isa: Isa, precision: Precision) -> Self {
        assert_eq!(weights.len(), spec.cin * spec.cout * spec.kernel * spec.kernel, "weights of {spec:?}");
        assert!(bias.is_none_or(|b| b.len() == spec.cout), "bias of {spec:?}");
        let _ = (isa, precision);
        Self { spec, weights: weights.to_vec(), bias: bias.map(<[f32]>::to_vec) }
    }

    /// The same with another crop: that of another image size.
    pub fn with_crop(&self, crop: (usize, usize)) -> Self {
        let mut other = self.clone();
        other.spec.crop = crop;
        other
    }

    /// Its settings.
    pub fn spec(&self) -> &TransposedSpec {
        &self.spec
    }

    /// Memory of the weights.
    pub fn bytes(&self) -> usize {
        4 * self.weights.len()
    }

    /// Floats of working memory to hand to [`transposed_conv`] for an input this wide.
    pub fn scratch_floats(&self, in_w: usize) -> usize {
        let _ = in_w;
        0
    }
}

/// Rows `rows` of a transposed convolution of one image.
///
/// # Shapes
/// - `x`: `[h, w, cin]`; `out`: `[out_h, out_w, cout]`, at most what the crop leaves of the whole
/// - `scratch`: at least [`PackedTransposed::scratch_floats`]
///
/// # Panics
/// If a size does not fit.
pub fn transposed_conv(
    op: &PackedTransposed,
    x: View<'_>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    scratch: &mut [f32],
) {
    let spec = &op.spec;
    let (out_h, out_w, _) = out.size();
    assert_eq!(x.size().2, spec.cin, "channels in of {spec:?}");
    out.check((out_h, out_w, spec.cout), &rows);
    epilogue.check((out_h, out_w, spec.cout));
    let _ = scratch;
    reference::transposed_conv((spec, &op.weights, op.bias.as_deref()), x, epilogue, out, rows);
}
