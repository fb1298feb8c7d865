//! Convolutions side by side that a 1×1 adds up, as one convolution.
//!
//! Owns: [`Layer`]: what a step computes before its chain. Must not know: what follows the layer.
//!
//! Where nothing comes in between, a 1×1 of the concatenation of convolutions of one input is itself a convolution of
//! that input, with the largest of the kernels. The modules of LightMuSeg (1×1, 3×3 and 5×5, then a 1×1 to a third of their
//! channels) become a 5×5 each: two thirds of the products, and no buffer of all channels.

use super::{CompileError, Lowering, chain::spec, fold::Folded};
use crate::{
    infer::cpu::ConvSpec,
    model::graph::{Conv, Node, NodeId, Op, Padding},
};
use rayon::prelude::*;

/// A convolution or linear layer, or several that are computed as one.
pub(super) struct Layer {
    /// The node that computes most, after which it is named.
    pub node: NodeId,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    pub folded: Folded,
    pub spec: ConvSpec,
    pub padding: Padding,
    /// Kinds of its nodes.
    pub fused: Vec<&'static str>,
}

impl Layer {
    /// That of a node.
    pub(super) fn of(lowering: &Lowering<'_>, id: NodeId) -> Result<Self, CompileError> {
        let node = lowering.get(id);
        if let Some(parts) = lowering.parts_of(id) {
            return Self::joined(lowering, parts, node);
        }
        let (spec, padding) = spec(lowering.graph, node);
        let folded = Folded::of(lowering, node)?;
        Ok(Self { node: id, inputs: node.inputs.clone(), folded, spec, padding, fused: vec![node.op.kind()] })
    }

    /// `sum`, a 1×1, of these convolutions side by side.
    fn joined(lowering: &Lowering<'_>, parts: &[NodeId], sum: &Node) -> Result<Self, CompileError> {
        let of_part = |id: &NodeId| {
            let node = lowering.get(*id);
            Ok((*id, spec(lowering.graph, node), Folded::of(lowering, node)?))
        };
        let parts: Vec<(NodeId, (ConvSpec, Padding), Folded)> = parts.iter().map(of_part).collect::<Result<_, _>>()?;
        let largest = parts.iter().max_by_key(|(_, (spec, _), _)| spec.kernel).expect("a concatenation has inputs");
        let (id, (spec, padding)) = (largest.0, largest.1);
        let spec = ConvSpec { cout: sum.channels, ..spec };
        let (by, mut weights) = (Folded::of(lowering, sum)?, vec![0.0; spec.weight_count()]);
        let factors = by.weights.len() / sum.channels;
        let rows = weights.par_chunks_exact_mut(spec.weight_count() / spec.cout);
        rows.zip(by.weights.par_chunks_exact(factors)).for_each(|(to, factors)| {
            let mut factors = factors.iter();
            let mut sums = vec![0.0; to.len()];
            parts.iter().for_each(|(_, (part, _), folded)| add(&mut sums, spec.kernel.0, part, folded, &mut factors));
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
        });
        let biases: Vec<f32> = parts.iter().flat_map(|(_, _, folded)| folded.biases()).collect();
        let bias = by.weights.chunks_exact(factors).zip(by.biases()).map(|(factors, bias)| {
            let sum: f64 = factors.iter().zip(&biases).map(|(&f, &b)| f64::from(f) * f64::from(b)).sum();
            (sum + f64::from(bias)) as f32
        });
        let folded = Folded::new(weights, Some(bias.collect()), sum.channels);
        let fused = vec!["conv", "concat", "conv"];
        Ok(Self { node: id, inputs: lowering.get(id).inputs.clone(), folded, spec, padding, fused })
    }
}

/// Adds a part's channels out, each times its factor, to the weights of one channel out, `[cin, kernel, kernel]`; its own
/// kernel lies around the same middle.
fn add(sums: &mut [f64], kernel: usize, part: &ConvSpec, folded: &Folded, factors: &mut std::slice::Iter<'_, f32>) {
    let k = part.kernel.0;
    let mut own = vec![0.0; part.cin * k * k];
    for (channel, &factor) in folded.weights.chunks_exact(own.len()).zip(factors) {
        own.iter_mut().zip(channel).for_each(|(to, &w)| *to += f64::from(factor) * f64::from(w));
    }
    let border = (kernel - k) / 2;
    for (at, value) in own.into_iter().enumerate() {
        let (channel, y, x) = (at / (k * k), at / k % k, at % k);
        sums[(channel * kernel + border + y) * kernel + border + x] += value;
    }
}

impl<'a> Lowering<'a> {
    /// Whether a convolution is computed as a part of the 1×1 that adds it up.
    pub(super) fn is_part(&self, id: NodeId) -> bool {
        let sum = self.only_user(id).and_then(|user| self.only_user(user));
        sum.and_then(|sum| self.parts_of(sum)).is_some_and(|parts| parts.contains(&id))
    }

    /// The convolutions that a 1×1 adds up, if one convolution does the work of all with no more products.
    fn parts_of(&self, sum: NodeId) -> Option<&'a [NodeId]> {
        let centred = |id: NodeId| match &self.get(id).op {
            Op::Conv(conv) => Some(conv).filter(|conv| is_centred(conv)),
            _ => None,
        };
        let whole = centred(sum).filter(|conv| conv.kernel == 1)?;
        let joint = self.get(sum).inputs[0];
        let ids = &self.get(joint).inputs;
        if self.get(joint).op != Op::Concat || self.only_user(joint).is_none() || ids.len() < 2 {
            return None;
        }
        let parts = ids.iter().map(|part| centred(*part).filter(|_| self.only_user(*part).is_some()));
        let parts: Vec<&Conv> = parts.collect::<Option<_>>()?;
        let x = &self.get(ids[0]).inputs;
        let (cin, kernel) = (self.graph.channels(x[0]), parts.iter().map(|conv| conv.kernel).max()?);
        let apart: usize = parts.iter().map(|conv| conv.out * (conv.kernel.pow(2) * cin + whole.out)).sum();
        let fits = ids.iter().all(|part| self.get(*part).inputs == *x) && kernel.pow(2) * cin * whole.out <= apart;
        fits.then_some(ids)
    }
}

/// Whether an output lies over the middle of its window, and windows are whole and side by side.
fn is_centred(conv: &Conv) -> bool {
    let plain = conv.stride == 1 && conv.dilation == 1 && conv.groups == 1;
    plain && conv.kernel % 2 == 1 && conv.padding == Padding::Each(conv.kernel / 2)
}
