//! Runs a graph on the processor in single precision, and back.
//!
//! Owns: [`forward`], [`Tape`]. Must not know: candle's gradients, how an operation is computed.
//!
//! Values are maps with the channels of a pixel side by side. A pass frees what nobody needs any more: without gradients
//! after the last use, with gradients what no backward step reads; the backward pass frees a node's value with its step.
//! A ReLU behind an operation that nobody else reads belongs to that operation's step.

mod convolution;
mod foreign;
mod memory;
mod norm;
mod pointwise;
mod spatial;
mod step;

pub(super) use memory::Home;

use self::{
    memory::Map,
    step::{Saved, Sink, Step},
};
use super::{Mode, Network};
use crate::{
    kernels::{Activation, cpu::Isa},
    model::graph::Op,
};
use candle_core::{Error, Result, Tensor};
use std::collections::HashMap;

/// The steps of a graph.
#[derive(Debug)]
struct Steps {
    /// Of a node: the activation that belongs to its step, and the node whose value the step gives; none for a node that
    /// is part of another's step, or that no head needs.
    of: Vec<Option<(Option<Activation>, usize)>>,
}

impl Steps {
    fn new(network: &Network) -> Self {
        let graph = network.graph();
        let (nodes, live) = (graph.nodes(), graph.live());
        let mut users = vec![vec![]; nodes.len()];
        for (i, node) in nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            node.inputs.iter().for_each(|n| users[n.index()].push(i));
        }
        let mut of: Vec<_> = live.iter().enumerate().map(|(i, live)| live.then_some((None, i))).collect();
        of[0] = None;
        for i in 1..nodes.len() {
            let can = matches!(
                nodes[i].op,
                Op::Conv(_)
                    | Op::Linear { .. }
                    | Op::TransposedConv(_)
                    | Op::BatchNorm { .. }
                    | Op::GroupNorm { .. }
                    | Op::Add
            );
            let [user] = users[i][..] else { continue };
            let is_head = graph.outputs().iter().any(|o| o.node.index() == i);
            if let Op::Activation(activation @ (Activation::Relu | Activation::Relu6)) = nodes[user].op
                && can
                && live[i]
                && !is_head
                && !step::is_foreign(&nodes[i], Some([1; 4]))
            {
                of[i] = Some((Some(activation), user));
                of[user] = None;
            }
        }
        Self { of }
    }
}

/// What a backward pass needs of a forward pass.
#[derive(Debug)]
pub(super) struct Tape {
    network: Network,
    mode: Mode,
    kinds: Vec<usize>,
    steps: Steps,
    sizes: Vec<[usize; 4]>,
    tracked: Vec<bool>,
    values: Vec<Option<Map>>,
    saved: Vec<Option<Saved>>,
}

/// Gradients of the parameters by name, and of the images.
pub(super) struct Gradients {
    pub weights: HashMap<String, Vec<f32>>,
    pub images: Option<Tensor>,
}

/// Runs the network: one `[N, C, h, w]` per head, with their shapes.
///
/// # Errors
/// As [`Network::forward`].
pub(super) fn forward(network: &Network, images: &Tensor, kinds: &[usize], mode: Mode) -> Result<(Vec<Tensor>, Tape)> {
    let graph = network.graph();
    let (n, _, h, w) = images.dims4()?;
    let shapes = graph.shapes(h, w).map_err(Error::wrap)?;
    let sizes: Vec<[usize; 4]> = shapes.iter().map(|s| [n, s.h, s.w, s.c]).collect();
    let count = graph.nodes().len();
    let mut tape = Tape {
        network: network.clone(),
        mode,
        kinds: kinds.to_vec(),
        steps: Steps::new(network),
        tracked: tracked(network, mode, images.track_op()),
        sizes,
        values: vec![None; count],
        saved: (0..count).map(|_| None).collect(),
    };
    let mut uses = tape.uses();
    tape.values[0] = Some(Map::from_planes(&network.home, images)?);
    for i in 0..count {
        let Some((_, result)) = tape.steps.of[i] else { continue };
        let inputs: Vec<Map> = graph.nodes()[i]
            .inputs
            .iter()
            .map(|n| tape.values[n.index()].clone().expect("inputs come first and live until their last use"))
            .collect();
        let (value, saved) = tape.step(i).forward(&inputs, tape.sizes[i])?;
        tape.values[result] = Some(value);
        if tape.tracked[i] {
            tape.saved[i] = Some(saved);
        }
        drop(inputs);
        for n in graph.nodes()[i].inputs.iter().map(|n| n.index()) {
            uses[n] -= 1;
            if uses[n] == 0 {
                tape.values[n] = None;
            }
        }
        if uses[result] == 0 {
            tape.values[result] = None;
        }
    }
    let heads = graph.outputs().iter();
    let heads = heads.map(|o| tape.values[o.node.index()].as_ref().expect("a head is never freed").tensor());
    let heads = heads.collect::<Result<Vec<_>>>()?;
    tape.drop_heads();
    Ok((heads, tape))
}

/// For each node, whether a gradient of it leads to something trained.
fn tracked(network: &Network, mode: Mode, is_image_tracked: bool) -> Vec<bool> {
    let nodes = network.graph().nodes();
    let mut tracked = vec![false; nodes.len()];
    tracked[0] = mode.gradients && is_image_tracked;
    for (i, node) in nodes.iter().enumerate().skip(1) {
        let names = ["weight", "bias", "relative_position_bias_table"].map(|s| format!("{}.{s}", node.name));
        let own = names.iter().chain([&node.name]).any(|name| network.is_trained(name));
        tracked[i] = mode.gradients && (own || node.inputs.iter().any(|n| tracked[n.index()]));
    }
    tracked
}

impl Tape {
    fn step(&self, i: usize) -> Step<'_> {
        Step {
            network: &self.network,
            home: &self.network.home,
            isa: Isa::detect(),
            mode: Mode { gradients: self.tracked[i], ..self.mode },
            index: i,
            node: &self.network.graph().nodes()[i],
            activation: self.steps.of[i].and_then(|(activation, _)| activation),
            kinds: &self.kinds,
        }
    }

    /// What backward of a node's step needs: its inputs, its result.
    fn needs(&self, i: usize) -> (bool, bool) {
        let size = self.network.graph().nodes()[i].inputs.first().map(|n| self.sizes[n.index()]);
        if self.tracked[i] { self.step(i).needs(size) } else { (false, false) }
    }

    /// For each node, by how many its value is read: steps forward, heads, and one for any backward step.
    fn uses(&self) -> Vec<usize> {
        let graph = self.network.graph();
        let mut uses = vec![0; graph.nodes().len()];
        for (i, of) in self.steps.of.iter().enumerate() {
            let Some((_, result)) = *of else { continue };
            let (inputs, own) = self.needs(i);
            graph.nodes()[i].inputs.iter().for_each(|n| uses[n.index()] += 1 + usize::from(inputs));
            uses[result] += usize::from(own);
        }
        graph.outputs().iter().for_each(|o| uses[o.node.index()] += 1);
        uses
    }

    /// Frees the values of heads that no backward step reads.
    fn drop_heads(&mut self) {
        let graph = self.network.graph.clone();
        for head in graph.outputs().iter().map(|o| o.node.index()) {
            let read = (0..graph.nodes().len()).any(|i| {
                let Some((_, result)) = self.steps.of[i] else { return false };
                let (inputs, own) = self.needs(i);
                (own && result == head) || (inputs && graph.nodes()[i].inputs.iter().any(|n| n.index() == head))
            });
            if !read {
                self.values[head] = None;
            }
        }
    }

    /// Runs back from the heads' gradients.
    ///
    /// # Errors
    /// Candle's.
    pub(super) fn backward(mut self, heads: Vec<Option<Tensor>>) -> Result<Gradients> {
        let graph = self.network.graph.clone();
        let home = self.network.home.clone();
        let mut grads: Vec<Option<Map>> = vec![None; graph.nodes().len()];
        for (output, gradient) in graph.outputs().iter().zip(heads) {
            let Some(gradient) = gradient else { continue };
            let map = Map::from_planes(&home, &gradient)?;
            let at = &mut grads[output.node.index()];
            *at = Some(match at.take() {
                Some(before) => before.plus(map),
                None => map,
            });
        }
        let mut weights = HashMap::new();
        for i in (1..graph.nodes().len()).rev() {
            let Some((_, result)) = self.steps.of[i] else { continue };
            let (y, saved) = (self.values[result].take(), self.saved[i].take());
            let (Some(dy), Some(saved)) = (grads[result].take(), saved) else { continue };
            let inputs: Vec<usize> = graph.nodes()[i].inputs.iter().map(|n| n.index()).collect();
            let sizes: Vec<[usize; 4]> = inputs.iter().map(|&n| self.sizes[n]).collect();
            let kept: Vec<Option<Map>> = inputs.iter().map(|&n| self.values[n].clone()).collect();
            let mut sink = Sink {
                grads: &mut grads,
                tracked: &self.tracked,
                inputs,
                weights: &mut weights,
                network: &self.network,
            };
            self.step(i).backward((&kept, y, dy), &sizes, saved, &mut sink)?;
        }
        let images = grads[0].take().map(|map| map.tensor()).transpose()?;
        Ok(Gradients { weights, images })
    }
}
