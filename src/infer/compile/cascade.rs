//! Depthwise convolutions with the 1×1 around them, as one step.
//!
//! Owns: [`cascades`]: which convolutions they are. Must not know: how rows go through them.

use super::Lowering;
use crate::{
    infer::{
        cpu::Cascade,
        program::{CascadeStep, ConvStep, Stage, Step, StepOp},
        sweep::{LEAST_BYTES, is_light},
    },
    model::graph::{NodeId, Shape},
};

/// The steps, depthwise convolutions and what surrounds them as one.
pub(super) fn cascades(lowering: &Lowering<'_>, steps: Vec<Step>) -> Vec<Step> {
    let Some(shapes) = &lowering.shapes else { return steps };
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    for middle in 0..steps.len() {
        let Some((before, after)) = around(lowering, shapes, &steps, middle) else { continue };
        let [expand, project] = [before, after].map(|at| at.and_then(|at| steps[at].take()));
        let depthwise = steps[middle].take().expect("what is around a step is not it");
        let last = after.unwrap_or(middle);
        steps[last] = Some(joined(expand, depthwise, project));
    }
    steps.into_iter().flatten().collect()
}

/// The 1×1 before and after a depthwise convolution that are computed with it, if that is worth it.
fn around(
    lowering: &Lowering<'_>,
    shapes: &[Shape],
    steps: &[Option<Step>],
    middle: usize,
) -> Option<(Option<usize>, Option<usize>)> {
    let conv = |at: usize| match steps[at].as_ref().map(|step| (step, &step.op)) {
        Some((step, StepOp::Conv(conv))) if conv.prologue.is_none() && !conv.is_gated => Some((step, conv)),
        _ => None,
    };
    let is_alone = |conv: &ConvStep| conv.residual_factor.is_none() && conv.norm.is_none();
    let (step, _) = conv(middle).filter(|(_, op)| Cascade::is_depthwise(&op.packed) && is_alone(op))?;
    let bytes = |id: NodeId| {
        let shape = shapes[id.index()];
        4 * shape.h * shape.w * shape.c
    };
    let is_between = |id: NodeId| lowering.only_user(id).is_some() && bytes(id) >= LEAST_BYTES;
    let find = |fits: &dyn Fn(&Step, &ConvStep) -> bool| {
        (0..steps.len()).find(|&at| {
            conv(at)
                .is_some_and(|(step, op)| Cascade::is_pointwise(&op.packed) && is_light(&op.packed) && fits(step, op))
        })
    };
    let (x, y) = (step.inputs[0], step.output);
    let before = find(&|step, op| step.output == x && is_alone(op)).filter(|_| is_between(x));
    let after = find(&|step, op| step.inputs[0] == y && op.residual_factor.is_none_or(|factor| factor == 1));
    let after = after.filter(|_| is_between(y));
    (before.is_some() || after.is_some()).then_some((before, after))
}

/// One step of two or three.
fn joined(expand: Option<Step>, depthwise: Step, project: Option<Step>) -> Step {
    let (node, mut output, mut fused) = (depthwise.node, depthwise.output, vec![]);
    let mut inputs = expand.as_ref().unwrap_or(&depthwise).inputs.clone();
    let mut stage = |step: Step| {
        let StepOp::Conv(conv) = step.op else { unreachable!("only convolutions are joined") };
        output = step.output;
        fused.extend(step.fused);
        Stage { node: step.node, output: step.output, conv: *conv }
    };
    let residual = project.as_ref().and_then(|step| step.inputs.get(1).copied());
    let [expand, depthwise, project] = [expand, Some(depthwise), project].map(|step| step.map(&mut stage));
    inputs.extend(residual);
    let depthwise = depthwise.expect("the one in the middle");
    Step { node, op: StepOp::Cascade(Box::new(CascadeStep { expand, depthwise, project })), inputs, output, fused }
}
