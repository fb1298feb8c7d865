//! A network as a list of operations, written once and used for everything.
//!
//! Owns: [`Graph`], its builder, [`Node`], [`Output`]. Must not know: how a graph is run, weights' values, networks.
//!
//! A network's file builds a graph in the words of its paper. The graph is then executed on tensors, compiled for
//! inference, counted and printed, so that none of these can disagree about what the network is.
//!
//! The builder never fails: it notes what it is told. [`Graph::shapes`] finds what does not fit and names the node.
//!
//! ```
//! use wsi_run::model::{Head, graph::{Conv, Graph}};
//! let mut g = Graph::new("toy", 3);
//! let x = g.input();
//! let x = g.conv("stem", x, Conv::new(8, 3).stride(2).pad(1).no_bias());
//! let x = g.batch_norm("stem_norm", x);
//! let x = g.relu(x);
//! let x = g.conv("head", x, Conv::new(2, 1));
//! g.output("mask", Head::Semantic, x);
//! assert_eq!(g.parameter_count(), 8 * 27 + 16 + 18);
//! assert_eq!(g.macs(64, 64).unwrap(), 32 * 32 * (8 * 27 + 2 * 8));
//! ```

mod count;
mod normalised;
mod op;
mod parameter;
mod shape;

pub use crate::kernels::{Activation, Pool, ResizeMode};
pub use normalised::{IDENTITY_VAR, NORM_SUFFIX, fold_batch_norm};
pub use op::{Conv, Crop, Op, Padding, TransposedConv};
pub use parameter::{Init, Parameter, ParameterKind};
pub use shape::{Shape, ShapeError};

use super::spec::Head;

/// One node of a [`Graph`]; only good for the graph that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// An operation and what it is applied to.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Prefix of its parameters in a checkpoint; empty for an operation without parameters.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it is applied to; always earlier nodes.
    pub inputs: Vec<NodeId>,
    /// Channels of its result.
    pub channels: usize,
}

/// A head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name as in the authors' code.
    pub name: &'static str,
    /// What it means once its logits are made probabilities.
    pub head: Head,
    /// Where it comes from.
    pub node: NodeId,
}

/// A network.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    name: &'static str,
    nodes: Vec<Node>,
    outputs: Vec<Output>,
}

impl Graph {
    /// A network that is only its input so far.
    pub fn new(name: &'static str, channels: usize) -> Self {
        let input = Node { name: String::new(), op: Op::Input { channels }, inputs: vec![], channels };
        Self { name, nodes: vec![input], outputs: vec![] }
    }

    /// Name of the network, as in [`zoo`](super::zoo).
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// All nodes; inputs come before their users, the image is the first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The id of each of [`Graph::nodes`].
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The heads, in the authors' order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The same network, in which what is computed twice from the same inputs is computed once. Nodes keep their ids; those
    /// that nobody reads any more are not live.
    pub fn without_repeats(&self) -> Self {
        let mut graph = self.clone();
        let mut first: Vec<NodeId> = self.ids().collect();
        for i in 1..graph.nodes.len() {
            graph.nodes[i].inputs.iter_mut().for_each(|input| *input = first[input.0]);
            // A node with a name has weights of its own.
            let node = &graph.nodes[i];
            if node.name.is_empty()
                && !matches!(node.op, Op::Dropout { .. })
                && let Some(same) = graph.nodes[..i].iter().position(|earlier| earlier == node)
            {
                first[i] = first[same];
            }
        }
        graph.outputs.iter_mut().for_each(|output| output.node = first[output.node.0]);
        graph
    }

    /// Channels of a node's result.
    pub fn channels(&self, node: NodeId) -> usize {
        self.nodes[node.0].channels
    }

    /// For each node, whether a head needs it. A network may own layers it does not use, as its checkpoints do.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        self.outputs.iter().for_each(|o| live[o.node.0] = true);
        for i in (0..self.nodes.len()).rev() {
            if live[i] {
                self.nodes[i].inputs.iter().for_each(|n| live[n.0] = true);
            }
        }
        live
    }

    /// The node's name, or its kind and position when it has none.
    pub fn label(&self, node: NodeId) -> String {
        let n = &self.nodes[node.0];
        if n.name.is_empty() { format!("{} #{}", n.op.kind(), node.0) } else { n.name.clone() }
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], channels: usize) -> NodeId {
        self.nodes.push(Node { name: name.to_owned(), op, inputs: inputs.to_vec(), channels });
        NodeId(self.nodes.len() - 1)
    }

    /// An operation with parameters that keeps the number of channels.
    fn push_same(&mut self, name: &str, op: Op, x: NodeId) -> NodeId {
        self.push(name, op, &[x], self.channels(x))
    }
}

impl Graph {
    /// The same network, of which outputs that are probabilities give their logits: what losses are computed of.
    #[must_use]
    pub fn with_logits(mut self) -> Self {
        for output in &mut self.outputs {
            let node = &self.nodes[output.node.0];
            if matches!(node.op, Op::Activation(Activation::Sigmoid | Activation::Softmax)) {
                output.node = node.inputs[0];
            }
        }
        self
    }

    /// The same network with one output per head, the first: others are for training.
    #[must_use]
    pub fn for_use(mut self) -> Self {
        let mut seen = vec![];
        self.outputs.retain(|o| {
            !seen.contains(&o.head) && {
                seen.push(o.head);
                true
            }
        });
        self
    }
}

/// The builder: one method per operation, in the words of [`Op`].
impl Graph {
    /// The image.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// [`Op::Conv`] with parameters `<name>.weight` and `<name>.bias`.
    pub fn conv(&mut self, name: &str, x: NodeId, conv: Conv) -> NodeId {
        self.push(name, Op::Conv(conv), &[x], conv.out)
    }

    /// [`Op::TransposedConv`] with parameters `<name>.weight` and `<name>.bias`.
    pub fn transposed_conv(&mut self, name: &str, x: NodeId, conv: TransposedConv) -> NodeId {
        self.push(name, Op::TransposedConv(conv), &[x], conv.out)
    }

    /// [`Op::Linear`] to `out` channels, with parameters `<name>.weight` and `<name>.bias`.
    pub fn linear(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        self.push(name, Op::Linear { out, bias: true }, &[x], out)
    }

    /// [`Graph::linear`] without bias.
    pub fn linear_no_bias(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        self.push(name, Op::Linear { out, bias: false }, &[x], out)
    }

    /// [`Op::BatchNorm`] with PyTorch's eps of 1e-5.
    pub fn batch_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        self.batch_norm_eps(name, x, 1e-5)
    }

    /// [`Op::BatchNorm`] with another eps.
    pub fn batch_norm_eps(&mut self, name: &str, x: NodeId, eps: f64) -> NodeId {
        self.push_same(name, Op::BatchNorm { eps }, x)
    }

    /// [`Op::GroupNorm`] with PyTorch's eps of 1e-5.
    pub fn group_norm(&mut self, name: &str, x: NodeId, groups: usize) -> NodeId {
        self.push_same(name, Op::GroupNorm { groups, eps: 1e-5 }, x)
    }

    /// [`Op::LayerNorm`].
    pub fn layer_norm(&mut self, name: &str, x: NodeId, eps: f64) -> NodeId {
        self.push_same(name, Op::LayerNorm { eps }, x)
    }

    /// [`Op::GlobalResponseNorm`].
    pub fn global_response_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        self.push_same(name, Op::GlobalResponseNorm, x)
    }

    /// [`Op::LayerScale`]; `name` is the parameter's whole name.
    pub fn layer_scale(&mut self, name: &str, x: NodeId, init: f64) -> NodeId {
        self.push_same(name, Op::LayerScale { init }, x)
    }

    /// [`Op::Attention`] of `queries` to `keys_values`.
    pub fn attention(&mut self, queries: NodeId, keys_values: NodeId, heads: usize) -> NodeId {
        self.push("", Op::Attention { heads }, &[queries, keys_values], self.channels(queries))
    }

    /// [`Op::WindowAttention`] of queries, keys and values, with parameter `<name>.relative_position_bias_table`.
    pub fn window_attention(
        &mut self,
        name: &str,
        x: NodeId,
        heads: usize,
        window_px: usize,
        shift_px: usize,
    ) -> NodeId {
        self.push(name, Op::WindowAttention { heads, window_px, shift_px }, &[x], self.channels(x) / 3)
    }

    /// [`Op::Embedding`] of this many channels, with parameter `<name>.weight`.
    pub fn embedding(&mut self, name: &str, kinds: usize, channels: usize) -> NodeId {
        self.push(name, Op::Embedding { kinds }, &[], channels)
    }

    /// [`Activation::Relu`].
    pub fn relu(&mut self, x: NodeId) -> NodeId {
        self.activation(x, Activation::Relu)
    }

    /// [`Activation::Sigmoid`].
    pub fn sigmoid(&mut self, x: NodeId) -> NodeId {
        self.activation(x, Activation::Sigmoid)
    }

    /// Any [`Activation`].
    pub fn activation(&mut self, x: NodeId, activation: Activation) -> NodeId {
        self.push_same("", Op::Activation(activation), x)
    }

    /// [`Op::Add`].
    pub fn add(&mut self, inputs: &[NodeId]) -> NodeId {
        self.push("", Op::Add, inputs, self.channels(inputs[0]))
    }

    /// [`Op::Multiply`]: `x` times a gate.
    pub fn multiply(&mut self, x: NodeId, gate: NodeId) -> NodeId {
        self.push("", Op::Multiply, &[x, gate], self.channels(x))
    }

    /// [`Op::Concat`].
    pub fn concat(&mut self, inputs: &[NodeId]) -> NodeId {
        let channels = inputs.iter().map(|&n| self.channels(n)).sum();
        self.push("", Op::Concat, inputs, channels)
    }

    /// [`Op::MaxPool`].
    pub fn max_pool(&mut self, x: NodeId, pool: Pool) -> NodeId {
        self.push_same("", Op::MaxPool(pool), x)
    }

    /// [`Op::AvgPool`].
    pub fn avg_pool(&mut self, x: NodeId, pool: Pool) -> NodeId {
        self.push_same("", Op::AvgPool(pool), x)
    }

    /// [`Op::SpaceToDepth`].
    pub fn space_to_depth(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::SpaceToDepth, &[x], 4 * self.channels(x))
    }

    /// [`Op::GlobalAvgPool`].
    pub fn global_avg_pool(&mut self, x: NodeId) -> NodeId {
        self.push_same("", Op::GlobalAvgPool, x)
    }

    /// [`Op::GlobalMaxPool`].
    pub fn global_max_pool(&mut self, x: NodeId) -> NodeId {
        self.push_same("", Op::GlobalMaxPool, x)
    }

    /// [`Op::SpreadLike`]: over the size of `like`.
    pub fn spread_like(&mut self, x: NodeId, like: NodeId) -> NodeId {
        self.push("", Op::SpreadLike, &[x, like], self.channels(x))
    }

    /// [`Op::ChannelMean`].
    pub fn channel_mean(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::ChannelMean, &[x], 1)
    }

    /// [`Op::ChannelMax`].
    pub fn channel_max(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::ChannelMax, &[x], 1)
    }

    /// [`Op::Resize`] by a whole factor.
    pub fn resize(&mut self, x: NodeId, factor: usize, mode: ResizeMode) -> NodeId {
        self.push_same("", Op::Resize { factor, mode }, x)
    }

    /// [`Crop::By`]: `px` less in all on each axis.
    pub fn crop_by(&mut self, x: NodeId, px: usize) -> NodeId {
        self.push_same("", Op::Crop(Crop::By(px)), x)
    }

    /// [`Crop::To`]: to `px × px`.
    pub fn crop_to(&mut self, x: NodeId, px: usize) -> NodeId {
        self.push_same("", Op::Crop(Crop::To(px)), x)
    }

    /// [`Crop::Like`]: to the size of `like`.
    pub fn crop_like(&mut self, x: NodeId, like: NodeId) -> NodeId {
        self.push("", Op::Crop(Crop::Like), &[x, like], self.channels(x))
    }

    /// [`Op::Dropout`] of single values.
    pub fn dropout(&mut self, x: NodeId, prob: f64) -> NodeId {
        self.push_same("", Op::Dropout { prob, whole_channels: false }, x)
    }

    /// [`Op::Dropout`] of whole channels.
    pub fn dropout_channels(&mut self, x: NodeId, prob: f64) -> NodeId {
        self.push_same("", Op::Dropout { prob, whole_channels: true }, x)
    }

    /// Declares a head.
    pub fn output(&mut self, name: &'static str, head: Head, node: NodeId) {
        self.outputs.push(Output { name, head, node });
    }
}
