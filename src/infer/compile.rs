//! From a graph and its weights to fused steps.
//!
//! Owns: [`lower`]: which nodes become one step. Must not know: image sizes, buffers, threads.
//!
//! Nodes are taken in the graph's order. A convolution follows its users as long as it is their only source: batch
//! normalisation and layer scale go into its weights, an addition and an activation into its end. A normalisation that
//! no convolution precedes goes into the beginning of the one convolution that reads it. Convolutions side by side that a
//! 1×1 adds up are one ([`join`]), and so are a depthwise convolution and those around it ([`cascade`]). Crops,
//! concatenations, dropout and spreading do nothing: they are places in buffers ([`place`](super::place)). A step has the
//! position of the last node in it, so that all it reads comes before it.

mod cascade;
mod chain;
mod fold;
mod join;
mod parts;
mod slight;

use super::{
    CompileError, Options,
    cpu::{Isa, Precision},
    program::{Affine, Program, Step, StepOp, Target},
    rounding::Single,
};
use crate::model::{
    graph::{Activation, Graph, Node, NodeId, Op, Shape},
    weights::Weights,
};
use std::collections::HashMap;

/// The steps of a network, with so much of it in single precision where factors are rounded.
///
/// # Errors
/// A tensor that `weights` lacks.
pub(super) fn lower(
    graph: &Graph,
    weights: &Weights,
    options: Options,
    single: Single,
    target: Target,
) -> Result<Program, CompileError> {
    let graph = graph.without_repeats();
    let mut lowering = Lowering::new(&graph, weights, options, single, target);
    for (i, node) in graph.nodes().iter().enumerate() {
        if lowering.live[i] && !lowering.covered[i] {
            lowering.node(lowering.ids[i], node)?;
        }
    }
    let mut steps = std::mem::take(&mut lowering.steps);
    steps.sort_by_key(|step| step.output);
    if target == Target::Cpu {
        steps = cascade::cascades(&lowering, steps);
    }
    Ok(Program { graph, steps, target })
}

/// What is known while the nodes are gone through.
struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    isa: Isa,
    precision: Precision,
    /// Layers that stay in single precision whatever is asked for.
    is_slight: Vec<bool>,
    target: Target,
    /// Of every node, for the size that matters.
    shapes: Option<Vec<Shape>>,
    /// Every node's id.
    ids: Vec<NodeId>,
    live: Vec<bool>,
    is_output: Vec<bool>,
    /// Live nodes that read each node; one that reads it twice is there twice.
    users: Vec<Vec<NodeId>>,
    /// Nodes that are part of a step already.
    covered: Vec<bool>,
    /// Normalisations in front of convolutions, with the nodes that they were.
    prologues: HashMap<NodeId, Prologue>,
    /// Factors per channel in front of convolutions: what is multiplied, and the gate.
    gates: HashMap<NodeId, [NodeId; 2]>,
    /// Nodes that are one pixel whatever the image.
    is_pixel: Vec<bool>,
    steps: Vec<Step>,
}

/// A normalisation that a convolution does to its input.
struct Prologue {
    input: NodeId,
    affine: Affine,
    fused: Vec<&'static str>,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, weights: &'a Weights, options: Options, single: Single, target: Target) -> Self {
        let (count, live) = (graph.nodes().len(), graph.live());
        let ids: Vec<NodeId> = graph.ids().collect();
        let mut users = vec![vec![]; count];
        for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| live[*i]) {
            read_by(node).iter().for_each(|input| users[input.index()].push(ids[i]));
        }
        // A size that the network cannot take is an error when it is run.
        let shapes = options.size.and_then(|(h, w)| graph.shapes(h, w).ok());
        let is_slight = slight::slight(graph, &live, shapes.as_deref(), single);
        let mut is_output = vec![false; count];
        graph.outputs().iter().for_each(|o| is_output[o.node.index()] = true);
        Self {
            graph,
            weights,
            isa: options.isa,
            precision: options.precision,
            is_slight,
            target,
            shapes,
            ids,
            live,
            is_output,
            users,
            covered: vec![false; count],
            prologues: HashMap::new(),
            gates: HashMap::new(),
            is_pixel: pixels(graph),
            steps: vec![],
        }
    }

    /// A tensor of a node.
    fn value(&self, node: &Node, suffix: &str) -> Result<&'a [f32], CompileError> {
        self.tensor(format!("{}.{suffix}", node.name))
    }

    fn tensor(&self, name: String) -> Result<&'a [f32], CompileError> {
        match self.weights.get(&name) {
            Some(tensor) => Ok(&tensor.values),
            None => Err(CompileError::Weights { network: self.graph.name(), tensor: name }),
        }
    }

    fn get(&self, id: NodeId) -> &'a Node {
        &self.graph.nodes()[id.index()]
    }

    /// The precision of a layer's factors.
    fn precision_of(&self, id: NodeId) -> Precision {
        if self.is_slight[id.index()] { Precision::F32 } else { self.precision }
    }

    /// The one node that reads this one, if nobody else sees it.
    fn only_user(&self, id: NodeId) -> Option<NodeId> {
        match &self.users[id.index()][..] {
            [user] if !self.is_output[id.index()] => Some(*user),
            _ => None,
        }
    }

    /// An activation of single values that alone reads `id`, or the dropouts after it.
    fn activation_after(&self, id: NodeId) -> Option<(NodeId, Activation)> {
        let user = self.only_user(id)?;
        match self.get(user).op {
            Op::Activation(activation) if activation != Activation::Softmax => Some((user, activation)),
            _ => None,
        }
    }

    fn push(&mut self, node: NodeId, op: StepOp, inputs: Vec<NodeId>, output: NodeId, fused: Vec<&'static str>) {
        self.covered[node.index()] = true;
        self.covered[output.index()] = true;
        self.steps.push(Step { node, op, inputs, output, fused });
    }

    /// The step of a node that nothing before took in.
    fn node(&mut self, id: NodeId, node: &Node) -> Result<(), CompileError> {
        match &node.op {
            Op::Conv(_) | Op::Linear { .. } => self.conv(id),
            Op::TransposedConv(conv) => self.transposed(id, node, *conv),
            Op::BatchNorm { .. } | Op::LayerScale { .. } => self.affine(id, node),
            Op::Crop(_) | Op::Concat | Op::SpreadLike | Op::Dropout { .. } => Ok(()),
            Op::Multiply if self.gate(id, node) => Ok(()),
            _ => self.plain(id, node),
        }
    }
}

/// The inputs whose values a node needs; of others it needs only the size.
pub(super) fn read_by(node: &Node) -> &[NodeId] {
    match node.op {
        Op::Crop(_) | Op::SpreadLike => &node.inputs[..1],
        _ => &node.inputs,
    }
}

/// For each node, whether it is one pixel whatever the image.
fn pixels(graph: &Graph) -> Vec<bool> {
    let mut is_pixel: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let all = !node.inputs.is_empty() && node.inputs.iter().all(|input| is_pixel[input.index()]);
        is_pixel.push(match &node.op {
            Op::GlobalAvgPool | Op::GlobalMaxPool | Op::Embedding { .. } => true,
            Op::Conv(conv) => all && conv.kernel == 1,
            Op::Linear { .. } | Op::BatchNorm { .. } | Op::LayerNorm { .. } | Op::LayerScale { .. } => all,
            Op::Activation(_) | Op::Add | Op::Multiply | Op::Concat | Op::Dropout { .. } => all,
            _ => false,
        });
    }
    is_pixel
}
