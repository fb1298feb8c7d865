//! Convolutions in groups: each group is a dense one.
//!
//! Owns: [`Grouped`]. Must not know: how a dense one is computed.

use super::{ConvSpec, Epilogue, Input, Prologue, band::Band, blocked::Blocked};
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
        let Self { op: Grouped { groups }, input, epilogue, out, rows, scratch } = self;
        for (g, op) in groups.iter().enumerate() {
            let (cin, cout) = (op.spec.cin, op.spec.cout);
            let (from, to) = (g * cin..(g + 1) * cin, g * cout..(g + 1) * cout);
            let prologue =
                input.prologue.map(|p| Prologue { scale: &p.scale[from.clone()], shift: &p.shift[from.clone()], ..p });
            let epilogue = Epilogue {
                residual: epilogue.residual.map(|r| r.channels(to.clone())),
                scale: epilogue.scale.map(|s| &s[to.clone()]),
                norm: epilogue.norm.map(|(scale, shift)| (&scale[to.clone()], &shift[to.clone()])),
                ..*epilogue
            };
            let input = Input { x: input.x.channels(from), prologue, ..input };
            let (out, rows) = (&mut out.channels(to), rows.clone());
            // SAFETY: the caller's promise, channel by channel.
            unsafe { Band { op, input, epilogue: &epilogue, out, rows, scratch: &mut *scratch }.run() }
        }
    }
}
