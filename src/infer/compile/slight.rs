//! Which layers stay in single precision where bfloat16 is asked for.
//!
//! Owns: [`slight`]. Must not know: weights, kernels.
//!
//! Every layer of rounded factors adds about the same to the error of the heads, however little it computes, and most
//! layers compute little. So the smallest layers, which together make up a quarter of all products, stay single: of 144
//! convolutions of a HoVer-Net 118, among them its heads. The error falls from 1.6 to 0.7 hundredths of the largest value
//! (HoVer-Net, 198 px), of CLIN-SegNet from 2 to below 0.01, of DeepLabV3+ from 1 to 0.7; without the last three layers
//! alone, or the first, or those that add to a residual, it did not fall everywhere.

use super::read_by;
use crate::model::graph::{Graph, Op, Shape};

/// One of this many products may be formed in single precision.
const SINGLE: u64 = 4;

/// For each node, whether it is one of the smallest layers that together form a quarter of all products; of an image of
/// unknown size, of all products of a pixel at every layer.
pub(super) fn slight(graph: &Graph, live: &[bool], shapes: Option<&[Shape]>) -> Vec<bool> {
    let products: Vec<u64> = graph
        .nodes()
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let channels_in = read_by(node).first().map_or(0, |input| graph.channels(*input));
            let per_pixel = match &node.op {
                Op::Conv(conv) => conv.kernel.pow(2) * (channels_in / conv.groups) * node.channels,
                Op::TransposedConv(conv) => conv.kernel.pow(2) * channels_in * node.channels / conv.stride.pow(2),
                Op::Linear { .. } => channels_in * node.channels,
                _ => 0,
            };
            let pixels = shapes.map_or(1, |shapes| shapes[i].h * shapes[i].w);
            if live[i] { (per_pixel * pixels) as u64 } else { 0 }
        })
        .collect();
    let all: u64 = products.iter().sum();
    let mut order: Vec<usize> = (0..products.len()).collect();
    order.sort_by_key(|&i| products[i]);
    let (mut is_slight, mut sum) = (vec![false; products.len()], 0);
    for i in order {
        sum += products[i];
        is_slight[i] = sum * SINGLE <= all;
    }
    is_slight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::zoo::zoo;

    #[test]
    fn the_smallest_layers_are_slight_and_make_up_a_quarter_at_most() {
        for entry in zoo() {
            let graph = (entry.build)();
            let (live, shapes) = (graph.live(), graph.shapes(entry.input_px, entry.input_px).unwrap());
            let is_slight = slight(&graph, &live, Some(&shapes));
            let convs: Vec<usize> =
                (0..live.len()).filter(|&i| live[i] && matches!(graph.nodes()[i].op, Op::Conv(_))).collect();
            assert!(convs.iter().any(|&i| is_slight[i]), "{}", entry.name);
            assert!(convs.iter().any(|&i| !is_slight[i]), "{}", entry.name);
        }
    }
}
