//! Convolutions in groups: each group is a dense one.
//!
//! Owns: [`Grouped`]. Must not know: how a dense one is computed.

use super::{ConvSpec, Epilogue, Input, Prologue, blocked::Blocked};
use crate::kernels::cpu::{
    aligned::Aligned,
    isa::{Isa, Precision},
    view::ViewMut,
};
use std::ops::Range;

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

    /// The convolution of a band; sizes and rows are checked.
    ///
    /// # Safety
    /// `input`, `out` and `epilogue` fit the spec, and `rows` may be written.
    pub(super) unsafe fn run(
        &self,
        input: Input<'_>,
        epilogue: &Epilogue<'_>,
        out: &mut ViewMut<'_>,
        rows: Range<usize>,
        scratch: &mut [f32],
    ) {
        for (g, op) in self.groups.iter().enumerate() {
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
            // SAFETY: the caller's promise, channel by channel.
            unsafe {
                op.run(
                    Input { x: input.x.channels(from), prologue, ..input },
                    &epilogue,
                    &mut out.channels(to),
                    rows.clone(),
                    scratch,
                )
            }
        }
    }
}
