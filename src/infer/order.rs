//! The order in which steps are run.
//!
//! Owns: [`order`], [`Readers`]: until when each node is needed. Must not know: image sizes, where storages lie.

use super::program::Program;
use crate::model::graph::{Node, NodeId, Op};

/// Who reads each node.
pub(super) struct Readers {
    /// Indices of the nodes that steps which read it write, ascending.
    of: Vec<Vec<usize>>,
    /// Whether it is a head, or something is a part of it, or it of something.
    is_kept: Vec<bool>,
}

impl Readers {
    pub(super) fn new(program: &Program) -> Self {
        let nodes = program.graph.nodes();
        let (mut of, mut is_kept) = (vec![vec![]; nodes.len()], vec![false; nodes.len()]);
        // Steps are sorted by what they write.
        for step in &program.steps {
            step.inputs.iter().for_each(|input| of[input.index()].push(step.output.index()));
        }
        program.graph.outputs().iter().for_each(|output| is_kept[output.node.index()] = true);
        for (node, _) in nodes.iter().zip(program.graph.live()).filter(|(node, is_live)| *is_live && is_view(&node.op))
        {
            node.inputs.iter().for_each(|input| is_kept[input.index()] = true);
        }
        Self { of, is_kept }
    }

    /// Whether more than steps need a node: it is a head, or a part of it has a name.
    pub(super) fn is_kept(&self, node: NodeId) -> bool {
        self.is_kept[node.index()]
    }

    /// Whether a node, or a part of it, goes into a concatenation.
    pub(super) fn is_concatenated(&self, program: &Program, of: NodeId) -> bool {
        let nodes = || program.graph.nodes().iter().zip(program.graph.ids());
        let takes = |node: &Node| is_view(&node.op) && node.inputs.contains(&of);
        let joins =
            |(node, id): (&Node, NodeId)| takes(node) && (node.op == Op::Concat || self.is_concatenated(program, id));
        self.is_kept(of) && nodes().any(joins)
    }
}

/// Whether a node is but a place in others' memory.
fn is_view(op: &Op) -> bool {
    matches!(op, Op::Dropout { .. } | Op::Crop(_) | Op::SpreadLike | Op::Concat)
}

/// Indices of the steps in the order they are run in: that of their nodes, but one whose inputs are all needed later
/// anyway waits for its first user. So the shortcut of a residual block lives shortly.
pub(super) fn order(program: &Program, readers: &Readers) -> Vec<usize> {
    let key = |i: usize| {
        let step = &program.steps[i];
        let own = step.output.index();
        let Some(&first) = readers.of[own].first().filter(|_| !readers.is_kept(step.output)) else { return (own, 1) };
        let outlives = |input: &NodeId| {
            let last = readers.of[input.index()].last();
            readers.is_kept(*input) || last.is_some_and(|&last| last > first)
        };
        if !step.inputs.is_empty() && step.inputs.iter().all(outlives) { (first, 0) } else { (own, 1) }
    };
    let mut order: Vec<usize> = (0..program.steps.len()).collect();
    order.sort_by_key(|&i| key(i));
    order
}
