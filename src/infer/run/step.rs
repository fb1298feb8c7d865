//! One step: from slots to views, from the step's kind to its kernel.
//!
//! Owns: [`Pass::step`]. Must not know: threads other than by bands.

use super::Pass;
use crate::{
    infer::{
        cpu::{
            self, Cascade, Epilogue, PackedConv, PackedTransposed, Prologue, View, ViewMut, attention, elementwise,
            norm,
            pool::{self, Over},
            resize,
            view::Layout,
            window_attention,
        },
        plan::{PlanStep, Slot, Work},
        program::{CascadeStep, ConvStep, StepOp, TransposedStep},
    },
    model::graph::Activation,
};
use std::ops::Range;

impl Pass<'_> {
    /// Runs a step on all its rows.
    pub(super) fn step(&self, step: &PlanStep) {
        let op = |i: usize| &self.compiled.program.steps[i].op;
        match &step.work {
            Work::Copy => {
                let x = self.view(&step.inputs[0]);
                self.rows(step, |out, rows, _| elementwise::copy(self.isa(), x, out, rows));
            }
            Work::Shrink => self.shrink(step),
            Work::Conv(i, packed) => match op(*i) {
                StepOp::Conv(conv) => self.conv(step, conv, packed),
                _ => unreachable!("the plan's convolutions are the program's"),
            },
            Work::Cascade(i, packed) => match op(*i) {
                StepOp::Cascade(of) => self.cascade(step, of, packed),
                _ => unreachable!("the plan's convolutions are the program's"),
            },
            Work::Transposed(i, packed) => match op(*i) {
                StepOp::Transposed(conv) => self.transposed(step, conv, packed),
                _ => unreachable!("the plan's convolutions are the program's"),
            },
            Work::Step(i) => self.plain(step, op(*i)),
        }
    }

    /// No row is written over before it is moved: what is left of a storage starts behind its beginning.
    fn shrink(&self, step: &PlanStep) {
        let (from, to) = (step.inputs[0], step.output);
        let row = to.layout.w * to.layout.c;
        for y in 0..to.layout.h {
            // SAFETY: slots lie inside the arena, and nothing else uses them now.
            unsafe {
                let row_of = |slot: Slot, stride: usize| self.arena.add(slot.offset + y * stride);
                std::ptr::copy(row_of(from, from.layout.row_stride), row_of(to, row), row);
            }
        }
    }

    fn isa(&self) -> cpu::Isa {
        self.plan().isa
    }

    /// What a slot holds.
    fn view(&self, slot: &Slot) -> View<'_> {
        // SAFETY: slots lie inside the arena; no step writes what it reads, but where it is told to go on from it. Of what
        // is near only rows in work are read.
        unsafe { View::from_raw(self.first(slot), slot.layout) }
    }

    /// The channels of a slot of one pixel.
    fn pixel(&self, slot: &Slot) -> &[f32] {
        // SAFETY: as in `view`; the channels of a pixel are side by side.
        unsafe { std::slice::from_raw_parts(self.arena.add(slot.offset), slot.layout.c) }
    }

    /// Runs `f` on bands of the output.
    fn rows(&self, step: &PlanStep, f: impl Fn(&mut ViewMut<'_>, Range<usize>, &mut [f32]) + Sync) {
        self.rows_of(step.output, step.macs + step.moved_floats, f);
    }

    /// Runs `f` on bands of a slot.
    fn rows_of(&self, out: Slot, work: u64, f: impl Fn(&mut ViewMut<'_>, Range<usize>, &mut [f32]) + Sync) {
        self.bands(out.layout.h, work, &|rows, scratch| {
            // SAFETY: the slot lies inside the arena, is the step's own, and no band has the rows of another; what is near
            // is the thread's.
            let mut view = unsafe { ViewMut::from_raw(self.first(&out), out.layout, rows.clone()) };
            f(&mut view, rows, scratch);
        });
    }

    fn conv(&self, step: &PlanStep, conv: &ConvStep, packed: &PackedConv) {
        let x = self.view(&step.inputs[0]);
        let channels = x.size().2;
        let mut prologue = conv.prologue.as_ref().map(|p| Prologue { scale: &p.scale, shift: &p.shift, relu: p.relu });
        if conv.is_gated {
            let scale = self.pixel(&step.inputs[1]);
            prologue = Some(Prologue { scale, shift: &self.compiled.zeros[..channels], relu: false });
        }
        let residual = conv.residual_factor.and_then(|_| step.inputs.last());
        let accumulate = residual == Some(&step.output);
        let residual = residual.filter(|_| !accumulate).map(|slot| self.view(slot));
        let epilogue = Epilogue { accumulate, ..epilogue(conv, residual) };
        let (out, work) = (step.output, step.macs + step.moved_floats);
        let run = |part: (Range<usize>, Range<usize>), scratch: &mut [f32]| {
            // SAFETY: the slot lies inside the arena, is the step's own, and no part has the floats of another; what is
            // near is the thread's.
            let mut out = unsafe { ViewMut::from_raw(self.first(&out), out.layout, part.0.clone()) };
            cpu::conv_part(packed, x, prologue, &epilogue, &mut out, part, scratch);
        };
        if let Some(window) = &self.window {
            return window.run(out.layout.h, &|rows, scratch| run((rows, 0..out.layout.c), scratch));
        }
        let parts = packed.parts((out.layout.h, out.layout.w), self.team.members(), self.bands_for(work));
        self.share(parts.count(), &|i, scratch| run(parts.part(i), scratch));
    }

    fn cascade(&self, step: &PlanStep, of: &CascadeStep, packed: &Cascade) {
        let x = self.view(&step.inputs[0]);
        let residual = step.inputs.get(1).map(|slot| self.view(slot));
        let before = of.expand.as_ref().map_or_else(Epilogue::default, |stage| epilogue(&stage.conv, None));
        let after = of.project.as_ref().map_or_else(Epilogue::default, |stage| epilogue(&stage.conv, residual));
        let epilogues = [before, epilogue(&of.depthwise.conv, None), after];
        self.rows(step, |out, rows, scratch| cpu::cascade(packed, x, &epilogues, out, rows, scratch));
    }

    fn transposed(&self, step: &PlanStep, conv: &TransposedStep, packed: &PackedTransposed) {
        let x = self.view(&step.inputs[0]);
        let epilogue = Epilogue { activation: conv.activation, ..Epilogue::default() };
        self.rows(step, |out, rows, scratch| cpu::transposed_conv(packed, x, &epilogue, out, rows, scratch));
    }

    fn plain(&self, step: &PlanStep, op: &StepOp) {
        let isa = self.isa();
        let inputs: Vec<View<'_>> = step.inputs.iter().map(|slot| self.view(slot)).collect();
        match op {
            StepOp::Conv(_) | StepOp::Cascade(_) | StepOp::Transposed(_) => {
                unreachable!("convolutions are planned as such")
            }
            StepOp::Pixels => self.pixels(step),
            StepOp::Embedding { table, .. } => {
                let (c, kind) = (step.output.layout.c, self.input.kind);
                let row = View::dense(&table[kind * c..][..c], 1, 1, c);
                self.rows(step, |out, rows, _| elementwise::copy(isa, row, out, rows));
            }
            StepOp::Affine { scale, shift, activation } => {
                self.rows(step, |out, rows, _| {
                    elementwise::affine(isa, inputs[0], (scale, shift), *activation, out, rows)
                });
            }
            StepOp::Activation(activation) => {
                self.rows(step, |out, rows, _| elementwise::activate(isa, inputs[0], *activation, out, rows));
            }
            StepOp::Add { activation } => {
                self.rows(step, |out, rows, _| elementwise::add(isa, &inputs, *activation, out, rows));
            }
            StepOp::AddEnlarged { factor, activation } => self.add_enlarged(step, *factor, *activation),
            StepOp::Multiply => {
                self.rows(step, |out, rows, _| elementwise::multiply(isa, inputs[0], inputs[1], out, rows));
            }
            StepOp::GroupNorm { .. } | StepOp::GlobalResponseNorm { .. } => self.global_norm(step, op, inputs[0]),
            StepOp::LayerNorm { eps, weight, bias } => {
                self.rows(step, |out, rows, _| norm::layer_norm(isa, inputs[0], (weight, bias), *eps, out, rows));
            }
            StepOp::Attention { heads } => self.rows(step, |out, rows, scratch| {
                attention::attention(isa, (inputs[0], inputs[1]), *heads, out, rows, scratch);
            }),
            StepOp::WindowAttention { windows, bias } => self.rows(step, |out, rows, scratch| {
                window_attention::window_attention(isa, inputs[0], bias, *windows, out, rows, scratch);
            }),
            StepOp::SpaceToDepth => self.space_to_depth(step),
            StepOp::MaxPool(pool) => {
                self.rows(step, |out, rows, _| pool::max_pool(isa, inputs[0], *pool, out, rows));
            }
            StepOp::AvgPool(pool) => {
                self.rows(step, |out, rows, _| pool::avg_pool(isa, inputs[0], *pool, out, rows));
            }
            StepOp::GlobalAvgPool => self.global_pool(step, inputs[0], Over::Sum),
            StepOp::GlobalMaxPool => self.global_pool(step, inputs[0], Over::Max),
            StepOp::ChannelMean => self.rows(step, |out, rows, _| elementwise::channel_mean(isa, inputs[0], out, rows)),
            StepOp::ChannelMax => self.rows(step, |out, rows, _| elementwise::channel_max(isa, inputs[0], out, rows)),
            StepOp::Resize(mode) => {
                self.rows(step, |out, rows, _| resize::resize(isa, inputs[0], *mode, out, rows));
            }
        }
    }

    /// The image's bytes as the weights want them.
    fn pixels(&self, step: &PlanStep) {
        let n = self.input.normalisation;
        let scale = [0, 1, 2].map(|i| 1.0 / (255.0 * n.std[i]));
        let shift = [0, 1, 2].map(|i| -n.mean[i] / n.std[i]);
        self.rows(step, |out, rows, _| elementwise::from_rgb(self.input.pixels, scale, shift, out, rows));
    }

    /// Each of the four pixels of a block as a copy from every second pixel to a quarter of the channels.
    fn space_to_depth(&self, step: &PlanStep) {
        let (x, out) = (step.inputs[0], step.output);
        for quarter in 0..4 {
            let from = self.view(&every(x, 2, (quarter % 2, quarter / 2)));
            let layout = Layout { c: x.layout.c, ..out.layout };
            let to = Slot { offset: out.offset + quarter * x.layout.c, layout, ..out };
            self.rows_of(to, step.moved_floats / 4, |out, rows, _| elementwise::copy(self.isa(), from, out, rows));
        }
    }

    /// The pixels that share one of the first input, in turns: each turn is a sum of equal sizes.
    fn add_enlarged(&self, step: &PlanStep, factor: usize, activation: Option<Activation>) {
        let (x, other, out) = (self.view(&step.inputs[0]), step.inputs[1], step.output);
        let (h, work) = (x.size().0, step.moved_floats);
        self.bands(h, work, &|rows, _| {
            for y in rows {
                for (dy, dx) in (0..factor).flat_map(|dy| (0..factor).map(move |dx| (dy, dx))) {
                    let (terms, to) = ([x, self.view(&every(other, factor, (dy, dx)))], every(out, factor, (dy, dx)));
                    // SAFETY: the slot is the step's own, and no row or turn has the pixels of another.
                    let mut to = unsafe { ViewMut::from_raw(self.arena.add(to.offset), to.layout, y..y + 1) };
                    elementwise::add(self.isa(), &terms, activation, &mut to, y..y + 1);
                }
            }
        });
    }

    /// Results of each row, of `per_row` floats; `then` is given all of them and as many floats behind them as are left.
    fn row_results(
        &self,
        step: &PlanStep,
        x: View<'_>,
        per_row: usize,
        f: impl Fn(Range<usize>, &mut [f32]) + Sync,
        then: impl FnOnce(&[f32], &mut [f32]),
    ) {
        let (_, offset, floats) = step.partial.expect("steps over the whole image have room for their rows' results");
        let h = x.size().0;
        self.bands(h, step.moved_floats, &|rows, _| {
            // SAFETY: the room is the step's own, and no band has the rows of another.
            let part = unsafe {
                let first = self.arena.add(offset + rows.start * per_row);
                std::slice::from_raw_parts_mut(first, rows.len() * per_row)
            };
            f(rows, part);
        });
        let results = h * per_row;
        // SAFETY: as above; all bands are done, and the two slices do not overlap.
        unsafe {
            let rest = std::slice::from_raw_parts_mut(self.arena.add(offset + results), floats - results);
            then(std::slice::from_raw_parts(self.arena.add(offset), results), rest);
        }
    }

    fn global_pool(&self, step: &PlanStep, x: View<'_>, over: Over) {
        let (h, w, c) = x.size();
        let by_row = |rows: Range<usize>, part: &mut [f32]| pool::over_rows(self.isa(), x, over, rows, part);
        self.row_results(step, x, c, by_row, |results, _| {
            // SAFETY: the output is the step's own; its channels are side by side.
            let out = unsafe { std::slice::from_raw_parts_mut(self.arena.add(step.output.offset), c) };
            match over {
                Over::Max => pool::max_of_maxima(results, out),
                _ => pool::mean_of_sums(results, h * w, out),
            }
        });
    }

    /// Norms whose statistics are over the image: rows' results, factors per channel, then like any affine.
    fn global_norm(&self, step: &PlanStep, op: &StepOp, x: View<'_>) {
        let (isa, (_, w, c)) = (self.isa(), x.size());
        let apply = |scale: &[f32], shift: &[f32], activation: Option<Activation>| {
            self.rows(step, |out, rows, _| elementwise::affine(isa, x, (scale, shift), activation, out, rows));
        };
        match op {
            StepOp::GroupNorm { groups, eps, weight, bias, activation } => {
                let by_row = |rows: Range<usize>, part: &mut [f32]| norm::row_moments(isa, x, rows, part);
                self.row_results(step, x, 2 * c, by_row, |results, rest| {
                    let (scale, shift) = rest.split_at_mut(c);
                    norm::group_norm_factors(results, (w, *groups, *eps), (weight, bias), (scale, &mut shift[..c]));
                    apply(scale, &shift[..c], *activation);
                });
            }
            StepOp::GlobalResponseNorm { weight, bias } => {
                let by_row = |rows: Range<usize>, part: &mut [f32]| pool::over_rows(isa, x, Over::Squares, rows, part);
                self.row_results(step, x, c, by_row, |results, rest| {
                    norm::response_norm_factors(results, weight, &mut rest[..c]);
                    apply(&rest[..c], bias, None);
                });
            }
            _ => unreachable!("only these two are over the image"),
        }
    }
}

/// What a convolution's step does to each sum.
fn epilogue<'a>(conv: &'a ConvStep, residual: Option<View<'a>>) -> Epilogue<'a> {
    Epilogue {
        residual,
        accumulate: false,
        residual_factor: conv.residual_factor.unwrap_or(1),
        activation: conv.activation,
        residual_before_activation: conv.is_residual_first,
        scale: None,
        norm: conv.norm.as_ref().map(|norm| (&norm.scale[..], &norm.shift[..])),
    }
}

/// Every `step`th pixel of a slot from the row and column `first` on; the sides are multiples of `step`.
fn every(slot: Slot, step: usize, first: (usize, usize)) -> Slot {
    let l = slot.layout;
    let layout = Layout {
        h: l.h / step,
        w: l.w / step,
        pixel_stride: step * l.pixel_stride,
        row_stride: step * l.row_stride,
        ..l
    };
    Slot { offset: slot.offset + first.0 * l.row_stride + first.1 * l.pixel_stride, layout, ..slot }
}
