//! Runs a graph on candle tensors: training, explanation, and the reference that faster executions are held to.
//!
//! Owns: [`Network`], [`Mode`]. Must not know: which network it runs, slides.
//!
//! There are two executions. [`operation`] says each operation in candle's words, for any device and type: it is the
//! definition, and what gradients are checked with in double precision. [`tape`] is for training on a processor in single
//! precision: operations and gradients of our own, as one operation of candle's ([`hook`]). They agree within rounding.

mod batch_norm;
mod dropout;
mod hook;
mod operation;
mod tape;
mod timing;
mod window_attention;

pub use timing::{StepTimes, time_steps};

use super::{
    graph::{Graph, Node, Op, ParameterKind},
    weights::Weights,
};
use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore, bail};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// How a forward pass treats what differs between training and use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Whether gradients can be asked for; without, memory is freed as the pass goes on.
    pub gradients: bool,
    /// Whether batch normalisation uses the batch's statistics and updates its own.
    pub batch_statistics: bool,
    /// Whether dropout drops, and the seed of what it drops; change it with every pass.
    pub dropout_seed: Option<u64>,
}

impl Mode {
    /// Inference.
    pub const INFER: Self = Self { gradients: false, batch_statistics: false, dropout_seed: None };

    /// A training step.
    pub fn train(seed: u64) -> Self {
        Self { gradients: true, batch_statistics: true, dropout_seed: Some(seed) }
    }
}

/// A graph with values.
///
/// A clone is the same network: it shares the values.
#[derive(Debug, Clone)]
pub struct Network {
    graph: Arc<Graph>,
    values: Arc<HashMap<String, Var>>,
    /// Learned values that gradients are not asked for.
    frozen: Arc<HashSet<String>>,
    /// Weights of batch normalisations that work as in inference.
    held: Arc<HashSet<String>>,
    learned: Arc<HashSet<String>>,
    home: Arc<tape::Home>,
}

impl Network {
    /// A graph with these values on a device.
    ///
    /// # Errors
    /// Candle's, when the device has no room; or a tensor of `graph` that `weights` lacks.
    pub fn new(graph: Graph, weights: &Weights, dtype: DType, device: &Device) -> Result<Self> {
        let (mut values, mut learned) = (HashMap::new(), HashSet::new());
        for p in graph.parameters().into_iter().filter(|p| p.kind != ParameterKind::Counter) {
            if p.kind == ParameterKind::Weight {
                learned.insert(p.name.clone());
            }
            let Some(tensor) = weights.get(&p.name) else { bail!("weights lack `{}` of `{}`", p.name, graph.name()) };
            let value = Tensor::from_slice(&tensor.values, p.shape, device)?.to_dtype(dtype)?;
            values.insert(p.name, Var::from_tensor(&value)?);
        }
        Ok(Self {
            graph: Arc::new(graph),
            values: Arc::new(values),
            frozen: Arc::default(),
            held: Arc::default(),
            learned: Arc::new(learned),
            home: Arc::default(),
        })
    }

    /// Leaves learned values of these names out of the gradients, and only those: what nobody trains costs nothing in a
    /// backward pass.
    pub fn freeze(&mut self, is_frozen: impl Fn(&str) -> bool) {
        self.frozen = Arc::new(self.learned.iter().filter(|name| is_frozen(name)).cloned().collect());
    }

    /// Has the batch normalisations whose weights have these names work as in inference, and only those: their statistics
    /// stay.
    pub fn hold_statistics(&mut self, is_held: impl Fn(&str) -> bool) {
        self.held = Arc::new(self.learned.iter().filter(|name| is_held(name)).cloned().collect());
    }

    /// Whether a batch normalisation takes the batch's statistics, and moves its own.
    fn takes_batch_statistics(&self, norm: &Node, mode: Mode) -> bool {
        mode.batch_statistics && !self.held.contains(&format!("{}.weight", norm.name))
    }

    /// Whether gradients are asked for a value.
    fn is_trained(&self, name: &str) -> bool {
        self.learned.contains(name) && !self.frozen.contains(name)
    }

    /// Most bytes of activations and their gradients that were in use at once, as far as this crate holds them.
    pub fn peak_bytes(&self) -> usize {
        self.home.peak_bytes()
    }

    /// What is run.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The learned values by name, frozen or not: what an optimiser changes. Batch normalisation's statistics are not among them.
    pub fn weights(&self) -> Vec<(String, Var)> {
        let learned = self.graph.parameters().into_iter().filter(|p| p.kind == ParameterKind::Weight);
        learned
            .map(|p| {
                let var = self.values[&p.name].clone();
                (p.name, var)
            })
            .collect()
    }

    /// All values by name, batch normalisation's statistics among them: what a checkpoint holds.
    pub fn values(&self) -> Vec<(String, Var)> {
        let kept = self.graph.parameters().into_iter().filter(|p| p.kind != ParameterKind::Counter);
        kept.map(|p| (p.name.clone(), self.values[&p.name].clone())).collect()
    }

    /// Runs the network on images of which nothing is known but their pixels.
    ///
    /// # Shapes
    /// - `images`: `[N, C, h, w]`, normalised as the weights want it
    /// - returns one `[N, C, h, w]` per head, in the order of [`Graph::outputs`]
    ///
    /// On a processor in single precision, a result leads back once: a second `backward` needs a second `forward`.
    ///
    /// # Errors
    /// The node that does not fit the images' size; candle's own errors.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        self.forward_of_kinds(images, &vec![0; images.dim(0)?], mode)
    }

    /// [`Network::forward`] on images of known kinds.
    ///
    /// # Shapes
    /// - `kinds`: one per image, the row of every [`Op::Embedding`]; 0 where nothing is known. A network without an
    ///   embedding does not look at them.
    ///
    /// # Errors
    /// As [`Network::forward`]; another number of kinds than of images; a kind that an embedding has no row for.
    pub fn forward_of_kinds(&self, images: &Tensor, kinds: &[usize], mode: Mode) -> Result<Vec<Tensor>> {
        let (count, channels, h, w) = images.dims4()?;
        if kinds.len() != count {
            bail!("`{}`: `{}` kinds for `{count}` images", self.graph.name(), kinds.len());
        }
        if channels != self.graph.channels(self.graph.input()) {
            bail!("`{}`: images have `{channels}` channels", self.graph.name());
        }
        self.graph.shapes(h, w).map_err(candle_core::Error::wrap)?;
        if images.device().is_cpu() && images.dtype() == DType::F32 {
            return self.forward_on_tape(images, kinds, mode);
        }
        self.forward_in_candle(images, kinds, mode)
    }

    /// `loss.backward()` for a loss of results of [`Network::forward`]: the same gradients, sooner, since those of the
    /// parameters are not added to zeros first.
    ///
    /// # Errors
    /// Candle's.
    pub fn backward(loss: &Tensor) -> Result<GradStore> {
        hook::backward(loss)
    }

    fn forward_on_tape(&self, images: &Tensor, kinds: &[usize], mode: Mode) -> Result<Vec<Tensor>> {
        let (heads, tape) = tape::forward(self, images, kinds, mode)?;
        if !mode.gradients {
            return Ok(heads);
        }
        let trained = self.weights().into_iter().filter(|(name, _)| self.is_trained(name));
        hook::hook(heads, tape, images, trained.collect())
    }

    /// [`Network::forward_of_kinds`] operation by operation.
    fn forward_in_candle(&self, images: &Tensor, kinds: &[usize], mode: Mode) -> Result<Vec<Tensor>> {
        let (nodes, live) = (self.graph.nodes(), self.graph.live());
        let mut uses_left = vec![0_usize; nodes.len()];
        for node in nodes.iter().zip(&live).filter(|(_, live)| **live).map(|(n, _)| n) {
            node.inputs.iter().for_each(|n| uses_left[n.index()] += 1);
        }
        self.graph.outputs().iter().for_each(|o| uses_left[o.node.index()] += 1);
        let mut done: Vec<Option<Tensor>> = vec![None; nodes.len()];
        done[0] = Some(images.clone());
        for (i, node) in nodes.iter().enumerate().skip(1).filter(|(i, _)| live[*i]) {
            let inputs: Vec<Tensor> = node
                .inputs
                .iter()
                .map(|n| done[n.index()].clone().expect("inputs come first and live until their last use"))
                .collect();
            done[i] = Some(match &node.op {
                Op::Embedding { kinds: rows } => self.embed(node, *rows, kinds, mode)?,
                _ => self.run(i, node, &inputs, mode)?,
            });
            for n in &node.inputs {
                uses_left[n.index()] -= 1;
                if uses_left[n.index()] == 0 {
                    done[n.index()] = None;
                }
            }
        }
        let heads = self.graph.outputs().iter();
        Ok(heads.map(|o| done[o.node.index()].clone().expect("a head is never freed")).collect())
    }

    /// The row of each image's kind, `[N, C, 1, 1]`.
    fn embed(&self, node: &Node, rows: usize, kinds: &[usize], mode: Mode) -> Result<Tensor> {
        if let Some(kind) = kinds.iter().find(|kind| **kind >= rows) {
            bail!("`{}`: kind `{kind}`, expected less than `{rows}`", node.name);
        }
        let weight = self.value(&format!("{}.weight", node.name), mode);
        let kinds = Tensor::from_iter(kinds.iter().map(|&kind| kind as u32), weight.device())?;
        weight.index_select(&kinds, 0)?.unsqueeze(2)?.unsqueeze(3)
    }

    /// A parameter, cut from the gradients' graph when nobody will ask for them.
    fn value(&self, name: &str, mode: Mode) -> Tensor {
        let var = &self.values[name];
        if mode.gradients && !self.frozen.contains(name) { var.as_tensor().clone() } else { var.as_detached_tensor() }
    }
}

#[cfg(test)]
mod tests;
