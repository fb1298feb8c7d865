//! Steps whose rows go through together.
//!
//! Owns: [`Sweep`], [`sweeps`]: which steps they are. Must not know: how a step is computed.
//!
//! A step that reads but the rows that the one before it has just written finds them in the second-level cache if a few
//! rows at a time go through both. What only such steps read is never in the arena: a few rows of it are in the working
//! memory of each thread. Bits are those of the steps one after another.

use super::{
    arena::Buffer,
    cpu::{Cascade, PackedConv},
    plan::{PlanStep, Slot, Work},
    program::{Program, StepOp, Target},
};
use crate::model::graph::Pool;
use std::ops::Range;

/// Bytes of what is between steps that are not worth it: they stay in the cache anyway.
pub(super) const LEAST_BYTES: usize = 1 << 20;
/// The most weights of a convolution: they are gone through once for a few rows.
const MOST_WEIGHTS: usize = 48 << 10;
/// Floats between the steps that are worked on at once, beside what the steps themselves need near: from 32 to 192 Ki
/// there was no difference.
const NEAR_FLOATS: usize = 64 << 10;
/// A multiple of it is the distance of what lies one behind another in the working memory.
const LINE: usize = 16;
/// The most rows of the step with the fewest that are worked on at once.
const MOST_ROWS: usize = 16;

/// Some steps, one after another, whose rows go through together; or a single one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Which of the plan's steps.
    pub steps: Range<usize>,
    /// Rows of the output with the fewest; others have a multiple of them.
    pub rows: usize,
    /// Rows of it that stay together.
    pub unit: usize,
    /// Rows of it that are worked on at once, a multiple of the unit.
    pub together: usize,
    /// Buffers in the working memory, and where their rows begin.
    pub near: Vec<(usize, usize)>,
    /// Floats of them all.
    pub near_floats: usize,
}

impl Sweep {
    /// Where the rows of a buffer begin in the working memory, if it is there.
    pub(super) fn near(&self, buffer: usize) -> Option<usize> {
        self.near.iter().find(|(near, _)| *near == buffer).map(|&(_, at)| at)
    }

    /// Which rows of an image this high go with these.
    pub(super) fn rows_of(&self, rows: &Range<usize>, h: usize) -> Range<usize> {
        let factor = h / self.rows;
        rows.start * factor..rows.end * factor
    }
}

/// All steps, in their order, those together that are worth it. `buffers` say when each lives.
pub(super) fn sweeps(program: &Program, steps: &[PlanStep], buffers: &[Buffer]) -> Vec<Sweep> {
    let (finder, mut all, mut at) = (Finder { program, steps, buffers }, vec![], 0);
    while at < steps.len() {
        let sweep = (program.target == Target::Cpu).then(|| finder.from(at)).flatten().unwrap_or_else(|| single(at));
        at = sweep.steps.end;
        all.push(sweep);
    }
    all
}

fn single(at: usize) -> Sweep {
    Sweep { steps: at..at + 1, rows: 1, unit: 1, together: 1, near: vec![], near_floats: 0 }
}

struct Finder<'a> {
    program: &'a Program,
    steps: &'a [PlanStep],
    buffers: &'a [Buffer],
}

impl Finder<'_> {
    /// As many steps from this one on as go through together.
    fn from(&self, first: usize) -> Option<Sweep> {
        if !self.leads(&self.steps[first]) {
            return None;
        }
        let (mut end, mut near) = (first + 1, vec![]);
        while let Some(slot) = self.near(end - 1) {
            let next = end..self.buffers[slot.buffer].last_step + 1;
            near.push(slot);
            if next.is_empty() || !next.clone().all(|at| self.follows(&self.steps[at], &near)) {
                near.pop();
                break;
            }
            end = next.end;
        }
        let own = &self.steps[first..end];
        let is_near = |slot: &Slot| near.iter().any(|n: &Slot| n.buffer == slot.buffer);
        // What is written to the arena is nobody else's business: its rows are done in any order.
        let touched = |step: &PlanStep, buffer| step.inputs.iter().chain([&step.output]).any(|s| s.buffer == buffer);
        let is_apart = |(i, step): (usize, &PlanStep)| {
            let others = own.iter().enumerate().filter(|(j, _)| *j != i);
            is_near(&step.output) || !others.map(|(_, other)| other).any(|other| touched(other, step.output.buffer))
        };
        (end - first > 1 && own.iter().enumerate().all(is_apart)).then(|| self.sweep(first..end, &near))?
    }

    fn sweep(&self, steps: Range<usize>, near: &[Slot]) -> Option<Sweep> {
        let own = &self.steps[steps.clone()];
        let rows = own.iter().map(|step| step.output.layout.h).min()?;
        let unit = match &own[0].work {
            Work::Conv(_, packed) => (packed.row_step() * rows / own[0].output.layout.h).max(1),
            _ => 1,
        };
        let is_whole = own.iter().all(|step| step.output.layout.h.is_multiple_of(rows));
        let floats = |slot: &Slot, together: usize| {
            (slot.layout.h / rows * together * slot.layout.row_stride).next_multiple_of(LINE)
        };
        let all = |together: usize| near.iter().map(|slot| floats(slot, together)).sum::<usize>();
        let fits = |together: &usize| *together <= MOST_ROWS.max(unit) && all(*together) <= NEAR_FLOATS;
        let together = (1..).map(|units| units * unit).take_while(fits).last().unwrap_or(unit);
        let mut near_floats = 0;
        let place = |slot: &Slot| {
            let at = near_floats;
            near_floats += floats(slot, together);
            (slot.buffer, at)
        };
        let near = near.iter().map(place).collect();
        is_whole.then_some(Sweep { steps, rows, unit, together, near, near_floats })
    }

    /// Whether a step may be the first: it writes row after row, its weights are few, and a few rows of it cost no more
    /// than their share (what goes through a strip packs the rows around them anew).
    fn leads(&self, step: &PlanStep) -> bool {
        match &step.work {
            Work::Conv(_, packed) => is_light(packed) && !Cascade::is_depthwise(packed),
            Work::Copy => true,
            Work::Cascade(..) | Work::Transposed(..) | Work::Shrink => false,
            Work::Step(i) => matches!(
                self.program.steps[*i].op,
                StepOp::Affine { .. }
                    | StepOp::Activation(_)
                    | StepOp::Add { .. }
                    | StepOp::Multiply
                    | StepOp::LayerNorm { .. }
                    | StepOp::MaxPool(_)
                    | StepOp::AvgPool(_)
                    | StepOp::Resize(_)
            ),
        }
    }

    /// What a step writes, if it is a whole buffer that only steps after it read, and large enough.
    fn near(&self, at: usize) -> Option<Slot> {
        let slot = self.steps[at].output;
        let (buffer, l) = (&self.buffers[slot.buffer], slot.layout);
        let is_whole = slot.offset == 0 && l.h * l.w * l.c == buffer.floats && l.row_stride == l.w * l.c;
        let is_own = buffer.first_step == at && buffer.last_step < self.steps.len() && buffer.last_step > at;
        let is_written_once = self.steps[at + 1..].iter().all(|step| step.output.buffer != slot.buffer);
        (is_whole && is_own && is_written_once && 4 * buffer.floats >= LEAST_BYTES).then_some(slot)
    }

    /// Whether a step reads something near, and of that but the rows that it writes itself.
    fn follows(&self, step: &PlanStep, near: &[Slot]) -> bool {
        let factor = match &step.work {
            Work::Conv(_, packed) if packed.spec().is_pointwise() && is_light(packed) => 1,
            Work::Copy => 1,
            Work::Step(i) => match self.program.steps[*i].op {
                StepOp::Affine { .. }
                | StepOp::Activation(_)
                | StepOp::Add { .. }
                | StepOp::Multiply
                | StepOp::LayerNorm { .. }
                | StepOp::ChannelMean
                | StepOp::ChannelMax => 1,
                StepOp::MaxPool(Pool { kernel: 2, stride: 2, pad: 0 }) => 2,
                _ => return false,
            },
            Work::Conv(..) | Work::Cascade(..) | Work::Transposed(..) | Work::Shrink => return false,
        };
        let mut nears = step.inputs.iter().filter_map(|x| Some((x, near.iter().find(|n| n.buffer == x.buffer)?)));
        let rows = step.output.layout.h * factor;
        nears.clone().count() > 0 && nears.all(|(x, whole)| x == whole && x.layout.h == rows)
    }
}

/// Whether a convolution has so few weights that going through them for a few rows costs little.
pub(super) fn is_light(op: &PackedConv) -> bool {
    op.spec().weight_count() <= MOST_WEIGHTS
}
