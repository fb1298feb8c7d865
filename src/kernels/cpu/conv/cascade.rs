//! A depthwise convolution with the 1×1 before it, the 1×1 after it, or both: blocks of a MobileNet.
//!
//! Owns: [`Cascade`]. Must not know: how each convolution is computed.
//!
//! Between the two 1×1 an activation is up to six times as wide as outside. So a few rows at a time go through all of
//! them: what is between them stays in the second-level cache and is never written to memory. Sums are those of the
//! convolutions by themselves, to the bit.

use super::{
    Epilogue, Form, Input, PackedConv,
    band::{Band, Instructions, SPARE_FLOATS},
    conv,
    depthwise::{Depthwise, Next},
    mac::{Word, dispatch},
};
use crate::kernels::cpu::view::{Layout, View, ViewMut};
use std::{ops::Range, sync::Arc};

/// Floats between the convolutions that are worked on at once.
const NEAR_FLOATS: usize = 128 << 10;
/// A multiple of it is the distance of what lies one behind another in the working memory.
const LINE: usize = 16;

/// The convolutions.
#[derive(Debug, Clone)]
pub struct Cascade {
    /// A 1×1 before.
    pub expand: Option<Arc<PackedConv>>,
    /// Every channel by itself.
    pub depthwise: Arc<PackedConv>,
    /// A 1×1 after.
    pub project: Option<Arc<PackedConv>>,
}

/// How the working memory is shared out.
struct Places {
    /// Output rows of the depthwise convolution that are worked on at once.
    together: usize,
    /// Rows of its input that its strip keeps.
    kept: usize,
    /// Where the strip ends and rows of its input begin, where those end and rows of its output begin, where those end.
    ends: [usize; 3],
    /// Floats of a row of its input and its output.
    rows: [usize; 2],
}

impl Cascade {
    /// Whether a convolution may come before or after the depthwise one.
    pub fn is_pointwise(op: &PackedConv) -> bool {
        matches!(op.form, Form::Dense(_)) && op.spec.is_pointwise()
    }

    /// Whether it may be the one in the middle.
    pub fn is_depthwise(op: &PackedConv) -> bool {
        matches!(op.form, Form::Depthwise(_))
    }

    fn middle(&self) -> &Depthwise {
        let Form::Depthwise(op) = &self.depthwise.form else { panic!("{:?} is not depthwise", self.depthwise.spec) };
        op
    }

    fn places(&self, in_w: usize, out_w: usize) -> Places {
        let op = self.middle();
        let (c, stride, strip) = (op.spec.cin, op.spec.stride, op.strip(out_w).1);
        let rows = [in_w * c, out_w * c].map(|floats: usize| floats.next_multiple_of(LINE));
        let rows = [rows[0] * usize::from(self.expand.is_some()), rows[1] * usize::from(self.project.is_some())];
        let of = |together: usize| {
            let kept = op.needed() + (together - 1) * stride;
            let strip = kept * strip;
            // The first rows need most.
            let between = strip + kept * rows[0];
            Places { together, kept, ends: [strip, between, between + together * rows[1]], rows }
        };
        (2..=8).map(of).take_while(|places| places.ends[2] <= NEAR_FLOATS).last().unwrap_or_else(|| of(1))
    }

    /// Floats of working memory for rows this wide, in and out.
    pub fn scratch_floats(&self, in_w: usize, out_w: usize) -> usize {
        let around = [(&self.expand, in_w), (&self.project, out_w)];
        let around = around.map(|(op, w)| op.as_ref().map_or(0, |op| op.scratch_floats(w)));
        self.places(in_w, out_w).ends[2] + around[0].max(around[1]) + SPARE_FLOATS
    }
}

/// Rows `rows` of the convolutions of one image, with what is done after each of them: of one that is not there, nothing.
///
/// # Shapes
/// - `x`: `[h, w, cin]`, `out`: `[out_h, out_w, cout]`
/// - `scratch`: at least [`Cascade::scratch_floats`]
///
/// # Panics
/// If a size does not fit.
pub fn cascade(
    op: &Cascade,
    x: View<'_>,
    epilogues: &[Epilogue<'_>; 3],
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    scratch: &mut [f32],
) {
    let ((h, w, _), (out_h, out_w, _), c) = (x.size(), out.size(), op.depthwise.spec.cin);
    let middle = op.middle();
    let places = op.places(w, out_w);
    let skip = scratch.as_ptr().align_offset(4 * LINE).min(scratch.len());
    let (near, rest) = scratch[skip..].split_at_mut(places.ends[2]);
    let (strip, between) = near.split_at_mut(places.ends[0]);
    let (before, after) = between.split_at_mut(places.ends[1] - places.ends[0]);
    let layout = |h: usize, w: usize, row_stride: usize| Layout { h, w, c, pixel_stride: c, row_stride };
    let (wide, thin) = (layout(h, w, places.rows[0]), layout(out_h, out_w, places.rows[1]));
    let (pad, stride) = (middle.spec.pad.0, middle.spec.stride);
    let mut packed = rows.start * stride;
    for start in rows.clone().step_by(places.together) {
        let group = start..(start + places.together).min(rows.end);
        // Rows of the depthwise convolution's input that nobody computed yet.
        let needed = packed.max(start * stride)..(group.end - 1) * stride + middle.needed();
        let needed = needed.start.saturating_sub(pad).min(h)..needed.end.saturating_sub(pad).min(h);
        let input = match &op.expand {
            Some(expand) => {
                assert!(needed.len() * wide.row_stride <= before.len(), "working memory of {:?}", expand.spec);
                let first = before.as_mut_ptr();
                // SAFETY: a view of the needed rows alone, which the memory holds; the pointer is where the first row of
                // all would be.
                unsafe {
                    let first = first.wrapping_sub(needed.start * wide.row_stride);
                    let mut to = ViewMut::from_raw(first, wide, needed.clone());
                    conv(expand, x, None, &epilogues[0], &mut to, needed, rest);
                    View::from_raw(first, wide)
                }
            }
            None => x,
        };
        let mut sum = |out: &mut ViewMut<'_>| {
            super::check(&middle.spec, input, None, &epilogues[1], out, &group);
            let (input, rows) = (Input { x: input, prologue: None, pad: middle.spec.pad }, group.clone());
            let (channels, scratch) = (0..c, &mut *strip);
            let band = Band { op: middle, input, epilogue: &epilogues[1], out, rows, channels, scratch };
            // SAFETY: sizes are checked; of the input only rows are read that are needed and not packed.
            unsafe { dispatch(middle.isa(), Word::Float, Next { band, packed: &mut packed, kept: places.kept }) }
        };
        match &op.project {
            Some(project) => {
                let first = after.as_mut_ptr().wrapping_sub(start * thin.row_stride);
                // SAFETY: as above, of the group's rows.
                unsafe {
                    sum(&mut ViewMut::from_raw(first, thin, group.clone()));
                    conv(project, View::from_raw(first, thin), None, &epilogues[2], out, group, rest);
                }
            }
            None => sum(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        Activation,
        cpu::{
            ConvSpec,
            conv::tests::numbers,
            isa::{Isa, Precision},
        },
    };

    /// Channels before, between and behind, and which of the 1×1 there are.
    type Widths = ([usize; 3], [bool; 2]);

    fn check((c, is_there): Widths, depthwise: ConvSpec, (h, w): (usize, usize), (isa, precision): (Isa, Precision)) {
        let pack = |seed: u64, spec: ConvSpec| {
            let (weights, bias) = (numbers(seed, spec.weight_count()), numbers(seed + 1, spec.cout));
            Arc::new(PackedConv::new(spec, &weights, Some(&bias), isa, precision))
        };
        let depthwise = ConvSpec { cin: c[1], cout: c[1], groups: c[1], ..depthwise };
        let op = Cascade {
            expand: is_there[0].then(|| pack(1, ConvSpec::linear(c[0], c[1]))),
            depthwise: pack(3, depthwise),
            project: is_there[1].then(|| pack(5, ConvSpec::linear(c[1], c[2]))),
        };
        let side =
            |n: usize, k: usize, pad: usize| (n + 2 * pad - (k - 1) * depthwise.dilation - 1) / depthwise.stride + 1;
        let (out_h, out_w) =
            (side(h, depthwise.kernel.0, depthwise.pad.0), side(w, depthwise.kernel.1, depthwise.pad.1));
        let (cin, cout) = (c[usize::from(!is_there[0])], c[1 + usize::from(is_there[1])]);
        let (x, residual) = (numbers(7, h * w * (cin + 2)), numbers(8, out_h * out_w * cout));
        let x = View::new(&x, h, w, cin, cin + 2);
        let act = |activation| Epilogue { activation, ..Epilogue::default() };
        let project = Epilogue { residual: Some(View::dense(&residual, out_h, out_w, cout)), ..act(None) };
        let epilogues = [act(Some(Activation::Relu6)), act(Some(Activation::Gelu)), project];
        let mut apart = [vec![0.0; h * w * c[1]], vec![0.0; out_h * out_w * c[1]], vec![0.0; out_h * out_w * cout]];
        let most = [&op.expand, &op.project].into_iter().flatten().chain([&op.depthwise]);
        let mut scratch = numbers(9, most.map(|op| op.scratch_floats(w)).max().unwrap_or(0));
        {
            let [a, b, want] = &mut apart;
            let mut input = x;
            if let Some(expand) = &op.expand {
                conv(expand, x, None, &epilogues[0], &mut ViewMut::dense(a, h, w, c[1]), 0..h, &mut scratch);
                input = View::dense(a, h, w, c[1]);
            }
            let to = if op.project.is_some() { &mut *b } else { &mut *want };
            let mut to = ViewMut::dense(to, out_h, out_w, c[1]);
            conv(&op.depthwise, input, None, &epilogues[1], &mut to, 0..out_h, &mut scratch);
            if let Some(project) = &op.project {
                let mut to = ViewMut::dense(want, out_h, out_w, cout);
                conv(project, View::dense(b, out_h, out_w, c[1]), None, &epilogues[2], &mut to, 0..out_h, &mut scratch);
            }
        }
        for bands in [&[][..], &[1], &[3, 4, out_h / 2]] {
            let mut got = vec![0.0; out_h * out_w * cout];
            let mut scratch = numbers(10, op.scratch_floats(w, out_w));
            let mut start = 0;
            for &end in bands.iter().chain([&out_h]) {
                let end = end.max(start);
                let mut to = ViewMut::dense(&mut got, out_h, out_w, cout);
                cascade(&op, x, &epilogues, &mut to, start..end, &mut scratch);
                start = end;
            }
            assert!(got == apart[2], "{isa:?} {precision:?} {c:?} {is_there:?} {depthwise:?} of {h}x{w}, {bands:?}");
        }
    }

    #[test]
    fn rows_through_all_are_what_each_gives_by_itself() {
        let of = |k, stride, pad, dilation| ConvSpec {
            kernel: (k, k),
            stride,
            pad: (pad, pad),
            dilation,
            ..ConvSpec::linear(1, 1)
        };
        let specs = [of(3, 1, 1, 1), of(3, 2, 1, 1), of(5, 1, 2, 1), of(5, 2, 2, 1), of(3, 1, 2, 2), of(3, 1, 0, 1)];
        let sizes = [(17, 9), (8, 31), (9, 300)];
        for (i, (spec, size)) in specs.into_iter().flat_map(|spec| sizes.map(|size| (spec, size))).enumerate() {
            for is_there in [[true, true], [true, false], [false, true]] {
                for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
                    let precision = [Precision::F32, Precision::Bf16, Precision::Int16][i % 3];
                    check(([12 + i, 40 + 7 * i, 16 + i], is_there), spec, size, (isa, precision));
                }
            }
        }
    }
}
