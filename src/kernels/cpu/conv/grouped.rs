//! Convolutions in groups: each group is a dense one.
//!
//! Owns: [`Grouped`]. Must not know: how a dense one is computed.

use super::{ConvSpec, Input, Prologue, band::Band, blocked::Blocked};
use crate::kernels::cpu::{
    aligned::Aligned,
    isa::{Isa, Precision},
};

/// A convolution in several groups.
#[derive(Debug, Clone)]
pub(super) struct Grouped {
    pub(super) groups: Vec<Blocked>,
}

impl Grouped {
    /// Lays out `weights`, `[cout, cin / groups, kh, kw]`.
    pub(super) fn new(spec: ConvSpec, weights: &[f32], bias: Option<&[f32]>, isa: Isa, precision: Precision) -> Self {
        let part = ConvSpec { cin: spec.cin / spec.groups, cout: spec.cout / spec.groups, groups: 1, ..spec };
        let groups = weights
            .chunks_exact(part.weight_count())
            .enumerate()
            .map(|(g, weights)| {
                let bias = bias.map(|b| &b[g * part.cout..(g + 1) * part.cout]);
                Blocked::new(part, (weights, bias), isa, precision, Aligned::default())
            })
            .collect();
        Self { groups }
    }

    pub(super) fn bytes(&self) -> usize {
        self.groups.iter().map(Blocked::bytes).sum()
    }

    pub(super) fn scratch_floats(&self, in_w: usize) -> usize {
        self.groups[0].scratch_floats(in_w)
    }
}

impl Band<'_, '_, Grouped> {
    /// Computes it; sizes and rows are checked.
    ///
    /// # Safety
    /// As [`Band::run`] of a dense convolution.
    pub(super) unsafe fn run_groups(self) {
        let Self { op: Grouped { groups }, input, epilogue, out, rows, channels: _, scratch } = self;
        for (g, op) in groups.iter().enumerate() {
            let (cin, cout) = (op.spec.cin, op.spec.cout);
            let (from, to) = (g * cin..(g + 1) * cin, g * cout..(g + 1) * cout);
            let prologue =
                input.prologue.map(|p| Prologue { scale: &p.scale[from.clone()], shift: &p.shift[from.clone()], ..p });
            let epilogue = &epilogue.of_channels(to.clone());
            let input = Input { x: input.x.channels(from), prologue, ..input };
            let (out, rows, channels) = (&mut out.channels(to), rows.clone(), 0..cout);
            // SAFETY: the caller's promise, channel by channel.
            unsafe { Band { op, input, epilogue, out, rows, channels, scratch: &mut *scratch }.run() }
        }
    }
}
