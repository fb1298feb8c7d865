//! Which sums may be written over what they add.
//!
//! Owns: [`sums_in_place`]. Must not know: image sizes, where storages lie.

use super::{
    order::Readers,
    program::{Program, Step, StepOp, Target},
};
use crate::model::graph::NodeId;

/// Of each step, the residual whose memory its sums go on in: nobody needs it any more.
pub(super) fn sums_in_place(program: &Program, readers: &Readers, order: &[usize]) -> Vec<Option<NodeId>> {
    let mut position = vec![0; program.steps.len()];
    order.iter().enumerate().for_each(|(at, &i)| position[i] = at);
    let is_last = |i: usize, residual: NodeId| {
        let later = |(j, step): (usize, &Step)| step.inputs.contains(&residual) && position[j] > position[i];
        !program.steps.iter().enumerate().any(later)
    };
    let of = |(i, step): (usize, &Step)| {
        let StepOp::Conv(conv) = &step.op else { return None };
        let (residual, others) = step.inputs.split_last()?;
        let sums = conv.residual_factor == Some(1) && (conv.is_residual_first || conv.activation.is_none());
        let is_free = !readers.is_kept(*residual) && !others.contains(residual) && is_last(i, *residual);
        // The memory of a concatenation is large: it should not live from the residual's beginning on.
        let fits = sums && conv.packed.accumulates() && is_free && !readers.is_concatenated(program, step.output);
        (program.target == Target::Cpu && fits).then_some(*residual)
    };
    program.steps.iter().enumerate().map(of).collect()
}
