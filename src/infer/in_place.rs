//! The order of steps, and which of them may write over what they add.
//!
//! Owns: [`order`], [`sums_in_place`]. Must not know: image sizes, where storages lie.

use super::program::{Program, Step, StepOp, Target};
use crate::model::graph::{NodeId, Op};

/// Indices of the steps in the order they are run in: that of their nodes, but one whose inputs are all needed later
/// anyway waits for its first user. So the shortcut of a residual block lives shortly.
pub(super) fn order(program: &Program) -> Vec<usize> {
    let readers = Readers::new(program);
    let key = |i: usize| {
        let step = &program.steps[i];
        let own = step.output.index();
        let first = match readers.of[own].first() {
            Some(&first) if !readers.is_kept[own] => first,
            _ => return (own, 1),
        };
        let outlives = |input: &NodeId| {
            let at = input.index();
            readers.is_kept[at] || readers.of[at].last().is_some_and(|&last| last > first)
        };
        if !step.inputs.is_empty() && step.inputs.iter().all(outlives) { (first, 0) } else { (own, 1) }
    };
    let mut order: Vec<usize> = (0..program.steps.len()).collect();
    order.sort_by_key(|&i| key(i));
    order
}

/// Of each step, the residual whose memory its sums go on in: nobody needs it any more.
pub(super) fn sums_in_place(program: &Program, order: &[usize]) -> Vec<Option<NodeId>> {
    let readers = Readers::new(program);
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
        let is_free = !readers.is_kept[residual.index()] && !others.contains(residual) && is_last(i, *residual);
        // The memory of a concatenation is large: it should not live from the residual's beginning on.
        let fits = sums && conv.packed.accumulates() && is_free && !readers.is_concatenated(program, step.output);
        (program.target == Target::Cpu && fits).then_some(*residual)
    };
    program.steps.iter().enumerate().map(of).collect()
}

/// Who reads each node.
struct Readers {
    /// Indices of the nodes that steps which read it write, ascending.
    of: Vec<Vec<usize>>,
    /// Whether it is a head, or something is a part of it, or it of something.
    is_kept: Vec<bool>,
}

impl Readers {
    fn new(program: &Program) -> Self {
        let nodes = program.graph.nodes();
        let (mut of, mut is_kept) = (vec![vec![]; nodes.len()], vec![false; nodes.len()]);
        // Steps are sorted by what they write.
        for step in &program.steps {
            step.inputs.iter().for_each(|input| of[input.index()].push(step.output.index()));
        }
        program.graph.outputs().iter().for_each(|output| is_kept[output.node.index()] = true);
        for (_, node) in nodes.iter().enumerate().filter(|(i, node)| program.graph.live()[*i] && is_view(&node.op)) {
            node.inputs.iter().for_each(|input| is_kept[input.index()] = true);
        }
        Self { of, is_kept }
    }

    /// Whether a node, or a part of it, goes into a concatenation.
    fn is_concatenated(&self, program: &Program, of: NodeId) -> bool {
        let takes = |node: &crate::model::graph::Node| is_view(&node.op) && node.inputs.contains(&of);
        self.is_kept[of.index()]
            && program
                .graph
                .nodes()
                .iter()
                .zip(program.graph.ids())
                .filter(|(node, _)| takes(node))
                .any(|(node, id)| node.op == Op::Concat || self.is_concatenated(program, id))
    }
}

/// Whether a node is but a place in others' memory.
fn is_view(op: &Op) -> bool {
    matches!(op, Op::Dropout { .. } | Op::Crop(_) | Op::SpreadLike | Op::Concat)
}
