//! Batch normalisation for training alone.
//!
//! Owns: [`Graph::with_batch_norms`], [`fold_batch_norm`], [`IDENTITY_VAR`]. Must not know: how a graph is run or trained.
//!
//! A network of plain convolutions learns faster with batch normalisation behind each of them. In use it is a factor and an
//! offset per channel, which the convolution can take: what is trained is another network than what is used, and gives
//! the same answers.

use super::{Activation, Graph, Node, NodeId, Op};

/// Added to the variance.
const EPS: f64 = 1e-5;
/// The variance with which a normalisation of mean 0, weight 1 and bias 0 changes nothing: one that is frozen before its
/// first step leaves its convolution as it is, to the bit.
pub const IDENTITY_VAR: f32 = (1.0 - EPS) as f32;
/// What is put behind the name of a convolution for that of its normalisation.
pub const NORM_SUFFIX: &str = ".norm";

impl Graph {
    /// The same network with a batch normalisation between each convolution with a bias and the ReLU that is its only
    /// reader, named as the convolution with [`NORM_SUFFIX`].
    #[must_use]
    pub fn with_batch_norms(&self) -> Self {
        let mut readers = vec![0_usize; self.nodes.len()];
        self.nodes.iter().flat_map(|n| &n.inputs).for_each(|n| readers[n.index()] += 1);
        self.outputs.iter().for_each(|o| readers[o.node.index()] += 1);
        let is_normed = |i: usize| {
            let reads = |n: &Node| n.op == Op::Activation(Activation::Relu) && n.inputs[0].index() == i;
            matches!(&self.nodes[i].op, Op::Conv(conv) if conv.bias) && readers[i] == 1 && self.nodes.iter().any(reads)
        };
        let mut graph = Self { name: self.name, nodes: vec![], outputs: vec![] };
        let mut now: Vec<NodeId> = vec![];
        for (i, node) in self.nodes.iter().enumerate() {
            let inputs = node.inputs.iter().map(|n| now[n.index()]).collect();
            graph.nodes.push(Node { inputs, ..node.clone() });
            let mut last = NodeId(graph.nodes.len() - 1);
            if is_normed(i) {
                last = graph.batch_norm_eps(&format!("{}{NORM_SUFFIX}", node.name), last, EPS);
            }
            now.push(last);
        }
        graph.outputs = self.outputs.iter().map(|o| super::Output { node: now[o.node.index()], ..o.clone() }).collect();
        graph
    }
}

/// Takes the normalisation `[weight, bias, mean, variance]` behind a convolution into its values.
///
/// # Shapes
/// - `weights`: `[C, …]`; all others `[C]`
pub fn fold_batch_norm(weights: &mut [f32], bias: &mut [f32], [gain, offset, mean, var]: [&[f32]; 4]) {
    let per_channel = weights.len() / bias.len().max(1);
    for (c, (weights, bias)) in weights.chunks_exact_mut(per_channel.max(1)).zip(bias).enumerate() {
        let scale = f64::from(gain[c]) / (f64::from(var[c]) + EPS).sqrt();
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
        *bias = ((f64::from(*bias) - f64::from(mean[c])) * scale + f64::from(offset[c])) as f32;
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Head, HoverNetMode, graph::*, hover_net, stardist_unet};

    #[test]
    fn a_normalisation_at_its_first_values_is_taken_in_without_a_trace() {
        let values: Vec<f32> = (1..4000).map(|i| (i as f32 * 0.37).sin() * 10.0_f32.powi(i % 7 - 3)).collect();
        let (mut weights, mut bias) = (values.clone(), vec![values[17]]);
        fold_batch_norm(&mut weights, &mut bias, [&[1.0], &[0.0], &[0.0], &[IDENTITY_VAR]]);
        assert!(weights == values && bias == [values[17]]);
    }

    #[test]
    fn a_network_of_plain_convolutions_gets_one_norm_each_and_keeps_its_shapes() {
        let plain = stardist_unet(32, Some(3));
        let normed = plain.with_batch_norms();
        let count = |g: &Graph| g.nodes().iter().filter(|n| matches!(n.op, Op::BatchNorm { .. })).count();
        assert_eq!((count(&plain), count(&normed)), (0, 18));
        assert!(normed.parameters().iter().any(|p| p.name == "grid_0.norm.running_var"));
        let sizes = |g: &Graph| {
            let shapes = g.shapes(64, 64).unwrap();
            g.outputs().iter().map(|o| (o.name, o.head, shapes[o.node.index()])).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&plain), sizes(&normed));
        assert_eq!(normed.outputs()[1].head, Head::StarDistance);
    }

    #[test]
    fn a_network_that_has_its_own_gets_none() {
        let net = hover_net(HoverNetMode::Fast, Some(3));
        assert_eq!(net.with_batch_norms().nodes().len(), net.nodes().len());
    }
}
