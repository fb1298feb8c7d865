//! A band of a convolution's output, on its way to what computes it.
//!
//! Owns: [`Band`], [`Instructions`]. Must not know: how sums are formed.

use super::{
    Epilogue, Input,
    mac::{MacKernel, Word, dispatch},
};
use crate::kernels::cpu::{isa::Isa, view::ViewMut};
use std::ops::Range;

/// Floats that working memory has to spare for its alignment to a cache line.
pub(super) const SPARE_FLOATS: usize = 16;

/// A part to be computed by `op`: a kernel of it, written once per form.
pub(super) struct Band<'a, 'b, O> {
    pub op: &'a O,
    pub input: Input<'a>,
    pub epilogue: &'a Epilogue<'a>,
    pub out: &'a mut ViewMut<'b>,
    pub rows: Range<usize>,
    /// Channels out: all, or those of a [part](super::Parts).
    pub channels: Range<usize>,
    pub scratch: &'a mut [f32],
}

/// What a form's weights were laid out for.
pub(super) trait Instructions {
    /// Instructions that the processor has.
    fn isa(&self) -> Isa;

    /// What products are formed of; pairs only where the processor multiplies them.
    fn word(&self) -> Word {
        Word::Float
    }
}

impl<'a, 'b, O> Band<'a, 'b, O> {
    /// The same band for another.
    pub(super) fn of<P>(self, op: &'a P) -> Band<'a, 'b, P> {
        let Self { op: _, input, epilogue, out, rows, channels, scratch } = self;
        Band { op, input, epilogue, out, rows, channels, scratch }
    }
}

impl<O: Instructions> Band<'_, '_, O>
where
    Self: MacKernel,
{
    /// Computes it; sizes and rows are checked.
    ///
    /// # Safety
    /// `input`, `out` and `epilogue` fit the convolution, and `channels` of `rows` may be written.
    pub(super) unsafe fn run(mut self) {
        if self.rows.is_empty() || self.channels.is_empty() || self.out.size().1 == 0 {
            return;
        }
        let skip = self.scratch.as_ptr().align_offset(64).min(self.scratch.len());
        self.scratch = &mut std::mem::take(&mut self.scratch)[skip..];
        // SAFETY: the instructions are there; the rest is the caller's promise.
        unsafe { dispatch(self.op.isa(), self.op.word(), self) }
    }
}
