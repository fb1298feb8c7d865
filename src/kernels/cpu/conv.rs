//! Convolutions: dense, grouped and depthwise, of any kernel.
//!
//! Owns: [`PackedConv`], [`conv`], [`Cascade`]. Must not know: graphs.

mod band;
mod blocked;
mod cascade;
mod depthwise;
mod finish;
mod grouped;
mod mac;
mod parts;
mod strip;
mod thin;
mod tile;
mod walk;
mod winograd;

use self::{band::Band, blocked::Blocked, depthwise::Depthwise, grouped::Grouped, thin::Thin, winograd::Winograd};
use super::{
    aligned::Aligned,
    isa::{Isa, Precision},
    view::{View, ViewMut},
};
use crate::kernels::Activation;
use std::ops::Range;

pub use self::{
    cascade::{Cascade, cascade},
    parts::{Parts, share},
};

/// A convolution's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Channels in.
    pub cin: usize,
    /// Channels out.
    pub cout: usize,
    /// Rows and columns of the kernel.
    pub kernel: (usize, usize),
    /// Step, on both axes.
    pub stride: usize,
    /// Zeros above and to the left; those below and to the right follow from the output's size.
    pub pad: (usize, usize),
    /// Distance of the kernel's taps.
    pub dilation: usize,
    /// Groups; divides the channels in and out.
    pub groups: usize,
}

impl ConvSpec {
    /// A 1×1: a linear layer at every pixel.
    pub fn linear(cin: usize, cout: usize) -> Self {
        Self { cin, cout, kernel: (1, 1), stride: 1, pad: (0, 0), dilation: 1, groups: 1 }
    }

    /// `k × k` of stride 1 that keeps the size.
    pub fn same(cin: usize, cout: usize, k: usize) -> Self {
        Self { kernel: (k, k), pad: (k / 2, k / 2), ..Self::linear(cin, cout) }
    }

    /// Whether an output pixel needs but the input pixel in its place.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.pad == (0, 0)
    }

    /// Floats of the weights.
    pub fn weight_count(&self) -> usize {
        self.cout * (self.cin / self.groups) * self.kernel.0 * self.kernel.1
    }
}

/// What is done to the input, channel by channel, before it is padded with zeros: `x · scale + shift`, then ReLU.
#[derive(Debug, Clone, Copy)]
pub struct Prologue<'a> {
    /// Factor of each channel in.
    pub scale: &'a [f32],
    /// Added to each channel in.
    pub shift: &'a [f32],
    /// Whether ReLU follows.
    pub relu: bool,
}

/// What is done to each sum: `sum · scale`, then the activation and the residual in either order; a norm before the
/// activation comes after the residual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added; of the output's size, or smaller by `residual_factor`.
    pub residual: Option<View<'a>>,
    /// How many pixels of the output, on each axis, share one of the residual (a nearest enlargement); 0 is 1.
    pub residual_factor: usize,
    /// Function of each value; not softmax.
    pub activation: Option<Activation>,
    /// Whether the residual comes first.
    pub residual_before_activation: bool,
    /// Whether what the output holds is the residual, added before norm and activation; only where
    /// [`PackedConv::accumulates`].
    pub accumulate: bool,
    /// Factor of each channel out (the bias included).
    pub scale: Option<&'a [f32]>,
    /// Factor and offset of each channel out, of a norm that the residual is part of.
    pub norm: Option<(&'a [f32], &'a [f32])>,
}

/// A convolution with its weights laid out for an instruction set.
#[derive(Debug, Clone)]
pub struct PackedConv {
    spec: ConvSpec,
    form: Form,
}

/// How a convolution is computed.
#[derive(Debug, Clone)]
enum Form {
    /// In one group.
    Dense(Blocked),
    /// In several.
    Grouped(Grouped),
    /// Every channel by itself.
    Depthwise(Depthwise),
    /// 3×3 and 5×5 with fewer products.
    Winograd(Winograd),
    /// To a few channels.
    Thin(Thin),
}

impl PackedConv {
    /// Lays out the weights, for outputs of any size.
    ///
    /// # Shapes
    /// - `weights`: `[cout, cin / groups, kh, kw]`
    /// - `bias`: `[cout]`
    ///
    /// # Panics
    /// If these are not the lengths.
    pub fn new(spec: ConvSpec, weights: &[f32], bias: Option<&[f32]>, isa: Isa, precision: Precision) -> Self {
        Self::packed(spec, None, (weights, bias), (isa, precision), Aligned::default())
    }

    /// [`PackedConv::new`] for outputs of about this size: it works for others, but may be slower there.
    ///
    /// # Panics
    /// As [`PackedConv::new`].
    pub fn sized(
        spec: ConvSpec,
        out: (usize, usize),
        (weights, bias): (&[f32], Option<&[f32]>),
        isa: Isa,
        precision: Precision,
    ) -> Self {
        Self::packed(spec, Some(out), (weights, bias), (isa, precision), Aligned::default())
    }

    /// [`PackedConv::sized`] in single precision, in memory that [`PackedConv::into_memory`] gave back: training lays out
    /// weights anew in every step.
    ///
    /// # Panics
    /// As [`PackedConv::new`].
    pub fn sized_in(
        memory: Aligned,
        spec: ConvSpec,
        out: (usize, usize),
        weights: (&[f32], Option<&[f32]>),
        isa: Isa,
    ) -> Self {
        Self::packed(spec, Some(out), weights, (isa, Precision::F32), memory)
    }

    /// The memory of its weights.
    pub fn into_memory(self) -> Aligned {
        match self.form {
            Form::Dense(op) => op.into_memory(),
            Form::Winograd(op) => op.into_memory(),
            Form::Grouped(_) | Form::Depthwise(_) | Form::Thin(_) => Aligned::default(),
        }
    }

    fn packed(
        spec: ConvSpec,
        out: Option<(usize, usize)>,
        (weights, bias): (&[f32], Option<&[f32]>),
        (isa, precision): (Isa, Precision),
        memory: Aligned,
    ) -> Self {
        assert_eq!(weights.len(), spec.weight_count(), "weights of {spec:?}");
        assert!(bias.is_none_or(|b| b.len() == spec.cout), "bias of {spec:?}");
        let form = if Winograd::suits(&spec, out) {
            Form::Winograd(Winograd::new(spec, (weights, bias), isa, precision, memory))
        } else if Thin::suits(&spec) {
            Form::Thin(Thin::new(spec, weights, bias, isa))
        } else if spec.groups == 1 {
            Form::Dense(Blocked::new(spec, (weights, bias), isa, precision, memory))
        } else if spec.groups == spec.cin && spec.cin == spec.cout && spec.kernel.0 <= depthwise::MAX_ROWS {
            Form::Depthwise(Depthwise::new(spec, weights, bias, isa))
        } else {
            Form::Grouped(Grouped::new(spec, weights, bias, isa, precision))
        };
        Self { spec, form }
    }

    /// Whether factors are rounded where that is asked for; those of Winograd's products apart.
    pub fn rounds(spec: &ConvSpec, out: Option<(usize, usize)>) -> bool {
        let is_dense = spec.groups < spec.cin.max(2);
        is_dense && !Winograd::suits(spec, out) && !Thin::suits(spec) && Blocked::rounds(spec)
    }

    /// The same with other padding: that of another image size.
    pub fn with_pad(&self, pad: (usize, usize)) -> Self {
        let mut other = self.clone();
        other.spec.pad = pad;
        match &mut other.form {
            Form::Dense(op) => op.spec.pad = pad,
            Form::Grouped(op) => op.groups.iter_mut().for_each(|op| op.spec.pad = pad),
            Form::Depthwise(op) => op.spec.pad = pad,
            Form::Winograd(op) => op.spec.pad = pad,
            Form::Thin(op) => op.spec.pad = pad,
        }
        other
    }

    /// Its settings.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Rows that are computed together: bands that start and end on its multiples waste nothing.
    pub fn row_step(&self) -> usize {
        if let Form::Winograd(op) = &self.form { op.side() } else { 1 }
    }

    /// Whether sums can go on from what the output holds.
    pub fn accumulates(&self) -> bool {
        matches!(self.form, Form::Dense(_) | Form::Winograd(_))
    }

    /// Memory of the weights.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::Dense(op) => op.bytes(),
            Form::Grouped(op) => op.bytes(),
            Form::Depthwise(op) => op.bytes(),
            Form::Winograd(op) => op.bytes(),
            Form::Thin(op) => op.bytes(),
        }
    }

    /// Floats of working memory to hand to [`conv`] for an input this wide.
    pub fn scratch_floats(&self, in_w: usize) -> usize {
        let floats = match &self.form {
            Form::Dense(op) => op.scratch_floats(in_w),
            Form::Grouped(op) => op.scratch_floats(in_w),
            Form::Depthwise(op) => op.scratch_floats(in_w),
            Form::Winograd(op) => op.scratch_floats(),
            Form::Thin(op) => op.scratch_floats(in_w),
        };
        floats + band::SPARE_FLOATS
    }
}

/// Rows `rows` of a convolution of one image.
///
/// # Shapes
/// - `x`: `[h, w, cin]`; `out`: `[out_h, out_w, cout]`, any size whose windows start inside the padded input
/// - `scratch`: at least [`PackedConv::scratch_floats`]
///
/// # Panics
/// If a size does not fit.
pub fn conv(
    op: &PackedConv,
    x: View<'_>,
    prologue: Option<Prologue<'_>>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    scratch: &mut [f32],
) {
    conv_part(op, x, prologue, epilogue, out, (rows, 0..op.spec.cout), scratch);
}

/// [`conv`] of the rows and channels out of one of the [`PackedConv::parts`]; others are not touched.
///
/// # Panics
/// As [`conv`]; if its channels are not those of a part.
pub fn conv_part(
    op: &PackedConv,
    x: View<'_>,
    prologue: Option<Prologue<'_>>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_>,
    (rows, channels): (Range<usize>, Range<usize>),
    scratch: &mut [f32],
) {
    let spec = &op.spec;
    check(spec, x, prologue, epilogue, out, &rows);
    assert!(op.has_part(&channels), "channels {channels:?} of {spec:?}");
    let input = Input { x, prologue, pad: spec.pad };
    // SAFETY: sizes and rows are checked.
    unsafe { Band { op, input, epilogue, out, rows, channels, scratch }.of_form() }
}

/// What is summed: the input, what is done to it first, and the zeros above and to the left.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: View<'a>,
    prologue: Option<Prologue<'a>>,
    pad: (usize, usize),
}

impl PackedConv {
    /// [`conv`] that leaves out the first rows and columns of the output.
    pub(super) fn run_from(
        &self,
        (top, left): (usize, usize),
        x: View<'_>,
        epilogue: &Epilogue<'_>,
        out: &mut ViewMut<'_>,
        rows: Range<usize>,
        scratch: &mut [f32],
    ) {
        check(&self.spec, x, None, epilogue, out, &rows);
        let (pad, (h, w, _)) = (self.spec.pad, x.size());
        // Whole outputs beyond the padding start further into the input.
        let (y, x0) = (top.saturating_sub(pad.0), left.saturating_sub(pad.1));
        let x = x.crop(y, x0, h - y, w - x0);
        let input = Input { x, prologue: None, pad: (pad.0.saturating_sub(top), pad.1.saturating_sub(left)) };
        // SAFETY: sizes and rows are checked.
        unsafe { Band { op: self, input, epilogue, out, rows, channels: 0..self.spec.cout, scratch }.of_form() }
    }
}

impl Band<'_, '_, PackedConv> {
    /// # Safety
    /// The input, the output and the epilogue fit the spec, and the rows may be written.
    unsafe fn of_form(self) {
        assert!(!self.epilogue.accumulate || self.op.accumulates(), "sums of {:?} in place", self.op.spec);
        // SAFETY: the caller's promise.
        unsafe {
            match &self.op.form {
                Form::Dense(op) => self.of(op).run(),
                Form::Grouped(op) => self.of(op).run_groups(),
                Form::Depthwise(op) => self.of(op).run(),
                Form::Winograd(op) => self.of(op).run(),
                Form::Thin(op) => self.of(op).run(),
            }
        }
    }
}

fn check(
    spec: &ConvSpec,
    x: View<'_>,
    prologue: Option<Prologue<'_>>,
    epilogue: &Epilogue<'_>,
    out: &ViewMut<'_>,
    rows: &Range<usize>,
) {
    let (out_h, out_w, _) = out.size();
    assert_eq!(x.size().2, spec.cin, "channels in of {spec:?}");
    out.check((out_h, out_w, spec.cout), rows);
    if let Some(p) = prologue {
        assert!(p.scale.len() == spec.cin && p.shift.len() == spec.cin, "prologue of {spec:?}");
    }
    epilogue.check((out_h, out_w, spec.cout));
}

impl<'a> Epilogue<'a> {
    /// What is done to some of the channels.
    fn of_channels(&self, channels: Range<usize>) -> Self {
        let some = |all: &'a [f32]| &all[channels.clone()];
        Self {
            residual: self.residual.map(|r| r.channels(channels.clone())),
            scale: self.scale.map(some),
            norm: self.norm.map(|(a, b)| (some(a), some(b))),
            ..*self
        }
    }

    /// Panics unless it fits an output of this size.
    pub(super) fn check(&self, (h, w, c): (usize, usize, usize)) {
        assert!(self.activation != Some(Activation::Softmax), "softmax needs all channels of a pixel");
        assert!(self.scale.is_none_or(|s| s.len() == c), "scale of the epilogue");
        assert!(self.norm.is_none_or(|(a, b)| a.len() == c && b.len() == c), "norm of the epilogue");
        assert!(!self.accumulate || self.residual.is_none() && self.scale.is_none(), "sums in place");
        if let Some(r) = self.residual {
            let f = self.residual_factor.max(1);
            assert_eq!(r.size(), (h.div_ceil(f), w.div_ceil(f), c), "size of the residual");
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
