//! From fused steps and an image size to a plan.
//!
//! Owns: [`schedule`]: the order of steps and copies, when each buffer lives. Must not know: how steps are run.

use super::{
    arena::{self, Buffer},
    cpu::{Cascade, Isa, PackedConv, PackedTransposed, Precision, attention, view::Layout},
    in_place::sums_in_place,
    order::{Readers, order},
    place::{CopyOf, Part, Placement, place},
    plan::{HeadSlot, Plan, PlanStep, Slot, Work},
    program::{ConvStep, Program, Stage, Step, StepOp, TransposedStep},
    shrink::{Shrink, Touch, shrink},
    sweep::{Sweep, sweeps},
};
use crate::model::graph::{NodeId, Op, Shape, ShapeError};
use std::sync::Arc;

/// The plan of a program for images of `h × w` px.
///
/// # Errors
/// [`ShapeError`] when the network cannot take that size.
pub(super) fn schedule(
    program: &Program,
    (h, w): (usize, usize),
    (isa, precision): (Isa, Precision),
) -> Result<Plan, ShapeError> {
    let shapes = program.graph.shapes(h, w)?;
    let readers = Readers::new(program);
    let order = order(program, &readers);
    let mut placement = place(program, &shapes, &sums_in_place(program, &readers, &order));
    for size in &mut placement.sizes {
        size[2] = program.target.pixel_stride(size[2]);
    }
    let mut scheduler = Scheduler {
        program,
        shapes,
        placement,
        steps: vec![],
        partials: vec![],
        shrunk: vec![],
        scratch_floats: 0,
        near_floats: 0,
    };
    let planned = scheduler.order(&order);
    let touches = scheduler.touches(&planned);
    let mut shrinks = shrink(&mut scheduler.placement, &touches, program.target);
    for (at, planned) in planned.into_iter().enumerate() {
        match planned {
            Planned::Step(i) => scheduler.step(i),
            Planned::Copy(copy) => scheduler.copy(&copy),
        }
        shrinks.extract_if(.., |shrink| shrink.after == at).for_each(|shrink| scheduler.shrink(&shrink));
    }
    Ok(scheduler.finish((h, w), (isa, precision)))
}

enum Planned {
    Step(usize),
    Copy(CopyOf),
}

struct Scheduler<'a> {
    program: &'a Program,
    shapes: Vec<Shape>,
    placement: Placement,
    steps: Vec<PlanStep>,
    /// Step and floats of working memory in the arena.
    partials: Vec<(usize, usize)>,
    /// Buffers that lie at the beginning of others.
    shrunk: Vec<(usize, usize)>,
    scratch_floats: usize,
    /// Floats of what is between the steps of a sweep, at most.
    near_floats: usize,
}

impl Scheduler<'_> {
    /// Steps in their order; copies before the next step that could need them.
    fn order(&self, steps: &[usize]) -> Vec<Planned> {
        let mut copies: Vec<&CopyOf> = self.placement.copies.iter().collect();
        copies.sort_by_key(|copy| copy.user.index());
        let mut copies = copies.into_iter().peekable();
        let mut all = vec![];
        for &i in steps {
            let own = self.program.steps[i].output.index();
            while let Some(copy) = copies.next_if(|copy| copy.user.index() < own) {
                all.push(Planned::Copy(copy.clone()));
            }
            all.push(Planned::Step(i));
        }
        all.extend(copies.map(|copy| Planned::Copy(copy.clone())));
        all
    }

    /// What steps and copies read and write, in their order.
    fn touches(&self, planned: &[Planned]) -> Vec<Touch> {
        let part = |id: NodeId| self.placement.parts[id.index()].clone().expect("what a step touches has a place");
        let mut touches = vec![];
        for (at, planned) in planned.iter().enumerate() {
            let (inputs, written) = match planned {
                Planned::Step(i) => {
                    let step = &self.program.steps[*i];
                    (&step.inputs[..], part(step.output))
                }
                Planned::Copy(copy) => (std::slice::from_ref(&copy.from), copy.to.clone()),
            };
            touches.extend(inputs.iter().map(|id| Touch { at, read: Some(*id), part: part(*id) }));
            touches.push(Touch { at, read: None, part: written });
        }
        touches
    }

    /// The slot of a part; offsets are within the buffer until the arena is arranged.
    fn slot(&self, part: &Part, shape: Shape) -> Slot {
        let [_, w, c] = self.placement.sizes[part.storage];
        let [y, x, channel] = [0, 1, 2].map(|i| part.axes[i].start as usize);
        let (pixel_stride, row_stride) = if part.is_spread { (0, 0) } else { (c, w * c) };
        let layout = Layout { h: shape.h, w: shape.w, c: shape.c, pixel_stride, row_stride };
        Slot { buffer: part.storage, offset: (y * w + x) * c + channel, layout }
    }

    fn node_slot(&self, id: NodeId) -> Slot {
        let part = self.placement.parts[id.index()].as_ref().expect("what a step reads or writes has a place");
        self.slot(part, self.shapes[id.index()])
    }

    fn copy(&mut self, copy: &CopyOf) {
        let shape = self.shapes[copy.from.index()];
        let (input, output) = (self.node_slot(copy.from), self.slot(&copy.to, shape));
        let name = self.program.graph.label(copy.from);
        self.push((name, vec!["copy"]), Work::Copy, vec![input], output, 0);
    }

    fn shrink(&mut self, shrink: &Shrink) {
        let [h, w, c] = self.placement.sizes[shrink.to.storage];
        let slot = |part: &Part| self.slot(part, Shape { c, h, w });
        let (from, to) = (slot(&shrink.from), slot(&shrink.to));
        self.shrunk.push((to.buffer, from.buffer));
        self.push(("what is left".to_owned(), vec!["crop"]), Work::Shrink, vec![from], to, 0);
    }

    fn step(&mut self, i: usize) {
        let step = &self.program.steps[i];
        let (inputs, output) = (step.inputs.iter().map(|id| self.node_slot(*id)), self.node_slot(step.output));
        let inputs: Vec<Slot> = inputs.collect();
        let macs = self.macs(step);
        let (work, scratch, partial) = match &step.op {
            StepOp::Conv(conv) => {
                let x = inputs[0].layout;
                let packed = self.padded(conv, x);
                let scratch = packed.scratch_floats(x.w);
                (Work::Conv(i, packed), scratch, 0)
            }
            StepOp::Cascade(of) => {
                let (x, padded) = (inputs[0].layout, |stage: &Stage| self.padded(&stage.conv, inputs[0].layout));
                let [expand, project] = [&of.expand, &of.project].map(|stage| stage.as_ref().map(padded));
                let packed = Arc::new(Cascade { expand, depthwise: padded(&of.depthwise), project });
                let scratch = packed.scratch_floats(x.w, output.layout.w);
                (Work::Cascade(i, packed), scratch, 0)
            }
            StepOp::Transposed(conv) => {
                let packed = self.cropped(conv);
                let scratch = packed.scratch_floats(inputs[0].layout.w);
                (Work::Transposed(i, packed), scratch, 0)
            }
            op => {
                let x = inputs.first().map_or(output.layout, |slot| slot.layout);
                let partial = match op {
                    StepOp::GroupNorm { .. } => 2 * x.c * (x.h + 1),
                    StepOp::GlobalResponseNorm { .. } => x.c * (x.h + 1),
                    StepOp::GlobalAvgPool | StepOp::GlobalMaxPool => x.c * x.h,
                    _ => 0,
                };
                let scratch = match op {
                    StepOp::Attention { .. } => {
                        let seen = inputs[1].layout;
                        attention::scratch_floats(seen.h * seen.w)
                    }
                    StepOp::WindowAttention { windows, .. } => windows.scratch_floats(),
                    _ => 0,
                };
                (Work::Step(i), scratch, partial)
            }
        };
        self.scratch_floats = self.scratch_floats.max(scratch);
        if partial > 0 {
            self.partials.push((self.steps.len(), partial));
        }
        let name = self.program.graph.label(step.node);
        self.push((name, step.fused.clone()), work, inputs, output, macs);
    }

    fn push(
        &mut self,
        (name, fused): (String, Vec<&'static str>),
        work: Work,
        inputs: Vec<Slot>,
        output: Slot,
        macs: u64,
    ) {
        let floats = |slot: &Slot| (slot.layout.h * slot.layout.w * slot.layout.c) as u64;
        let moved_floats = inputs.iter().chain([&output]).map(floats).sum();
        self.steps.push(PlanStep { name, fused, inputs, output, partial: None, macs, moved_floats, work });
    }

    /// The convolution with the padding of this image size.
    fn padded(&self, conv: &ConvStep, x: Layout) -> Arc<PackedConv> {
        let spec = conv.packed.spec();
        let before = |size: usize, kernel: usize| conv.padding.before_after(size, kernel, spec.stride).0;
        let pad = (before(x.h, spec.kernel.0), before(x.w, spec.kernel.1));
        if pad == spec.pad { conv.packed.clone() } else { Arc::new(conv.packed.with_pad(pad)) }
    }

    /// The transposed convolution with the crop of this image size.
    fn cropped(&self, conv: &TransposedStep) -> Arc<PackedTransposed> {
        let (whole, left) = (self.shapes[conv.whole.index()], self.shapes[conv.cropped.index()]);
        let crop = ((whole.h - left.h) / 2, (whole.w - left.w) / 2);
        if crop == (0, 0) { conv.packed.clone() } else { Arc::new(conv.packed.with_crop(crop)) }
    }

    fn macs(&self, step: &Step) -> u64 {
        match &step.op {
            StepOp::Cascade(of) => of.stages().map(|stage| self.macs_of(stage.node, stage.output)).sum(),
            _ => self.macs_of(step.node, step.output),
        }
    }

    fn macs_of(&self, node: NodeId, output: NodeId) -> u64 {
        let (node, out) = (&self.program.graph.nodes()[node.index()], self.shapes[output.index()]);
        let Some(x) = node.inputs.first().map(|n| self.shapes[n.index()]) else { return 0 };
        (match &node.op {
            Op::Conv(conv) => out.h * out.w * out.c * (x.c / conv.groups) * conv.kernel * conv.kernel,
            // Taps that fall on an input pixel.
            Op::TransposedConv(conv) => out.h * out.w * x.c * out.c * conv.kernel.pow(2) / conv.stride.pow(2),
            Op::Linear { .. } => out.h * out.w * x.c * out.c,
            Op::Attention { .. } => {
                let seen = self.shapes[node.inputs[1].index()];
                2 * x.h * x.w * seen.h * seen.w * x.c
            }
            Op::WindowAttention { window_px, .. } => 2 * out.h * out.w * out.c * window_px * window_px,
            _ => 0,
        }) as u64
    }

    /// What is near leaves the arena; all else that the steps touch lives as long as all of them are run.
    fn swept(&mut self, sweep: &Sweep, buffers: &mut [Buffer]) {
        let own = &self.steps[sweep.steps.clone()];
        for slot in own.iter().flat_map(|step| step.inputs.iter().chain([&step.output])) {
            let buffer = &mut buffers[slot.buffer];
            buffer.first_step = buffer.first_step.min(sweep.steps.start);
            buffer.last_step = buffer.last_step.max(sweep.steps.end - 1);
        }
        sweep.near.iter().for_each(|&(buffer, _)| buffers[buffer].floats = 0);
        self.near_floats = self.near_floats.max(sweep.near_floats);
    }

    /// Buffers' lives, then their places.
    fn finish(mut self, (h, w): (usize, usize), (isa, precision): (Isa, Precision)) -> Plan {
        let sizes = self.placement.sizes.iter().map(|size| size.iter().product());
        let unborn = |floats| Buffer { offset: 0, floats, first_step: usize::MAX, last_step: 0, within: None };
        let mut buffers: Vec<Buffer> = sizes.map(unborn).collect();
        for (i, step) in self.steps.iter().enumerate() {
            for slot in step.inputs.iter().chain([&step.output]) {
                let buffer = &mut buffers[slot.buffer];
                buffer.first_step = buffer.first_step.min(i);
                buffer.last_step = buffer.last_step.max(i);
            }
        }
        for head in &self.placement.heads {
            buffers[head.storage].last_step = self.steps.len();
        }
        for buffer in buffers.iter_mut().filter(|b| b.first_step == usize::MAX) {
            *buffer = unborn(0);
        }
        let sweeps = sweeps(self.program, &self.steps, &buffers);
        for sweep in sweeps.iter().filter(|sweep| sweep.steps.len() > 1) {
            self.swept(sweep, &mut buffers);
        }
        for &(step, floats) in &self.partials {
            self.steps[step].partial = Some((buffers.len(), 0, floats));
            buffers.push(Buffer { offset: 0, floats, first_step: step, last_step: step, within: None });
        }
        self.shrunk.iter().for_each(|&(to, from)| buffers[to].within = Some(from));
        let arena_floats = arena::arrange(&mut buffers);
        let heads = self.placement.heads.iter().zip(self.program.graph.outputs()).map(|(part, output)| {
            let mut slot = self.slot(part, self.shapes[output.node.index()]);
            slot.offset += buffers[slot.buffer].offset;
            HeadSlot { name: output.name, slot }
        });
        let heads = heads.collect();
        for step in &mut self.steps {
            step.inputs.iter_mut().chain([&mut step.output]).for_each(|s| s.offset += buffers[s.buffer].offset);
            if let Some((buffer, offset, _)) = &mut step.partial {
                *offset = buffers[*buffer].offset;
            }
        }
        Plan {
            network: self.program.graph.name(),
            h,
            w,
            isa,
            precision,
            steps: self.steps,
            sweeps,
            buffers,
            arena_floats,
            scratch_floats: self.near_floats + self.scratch_floats,
            weight_bytes: self.program.weight_bytes(),
            heads,
        }
    }
}
