//! Which layers stay in single precision where factors are rounded.
//!
//! Owns: [`slight`]. Must not know: weights, kernels.
//!
//! The smallest do: every layer of rounded factors adds about the same to the error of the heads, however little it
//! computes, and most layers compute little. How many do, [`rounding`](crate::infer) measures. With the first or the last
//! layers alone, or those that add to a residual, the error of some networks stayed above a hundredth. Convolutions by
//! Winograd's way are what rounding makes fastest: they are rounded or not by themselves.

use super::{chain::spec, read_by};
use crate::{
    infer::{cpu::PackedConv, rounding::Single},
    model::graph::{Graph, Op, Shape},
};

/// For each node, whether it is one of the smallest layers that together form so many tenths of all products that
/// rounding concerns; of an image of unknown size, of those of one pixel of each layer.
pub(super) fn slight(graph: &Graph, live: &[bool], shapes: Option<&[Shape]>, single: Single) -> Vec<bool> {
    let Single { tenths, winograd } = single;
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
            let out = shapes.map(|shapes| (shapes[i].h, shapes[i].w));
            let rounds = match &node.op {
                Op::Conv(_) => PackedConv::rounds(&spec(graph, node).0, out),
                _ => true,
            };
            let pixels = out.map_or(1, |(h, w)| h * w);
            if live[i] && rounds { (per_pixel * pixels) as u64 } else { 0 }
        })
        .collect();
    let all: u64 = products.iter().sum();
    let mut order: Vec<usize> = (0..products.len()).collect();
    order.sort_by_key(|&i| products[i]);
    let (mut is_slight, mut sum) = (vec![false; products.len()], 0);
    for i in order {
        sum += products[i];
        is_slight[i] = if products[i] > 0 { sum * 10 <= all * tenths } else { winograd };
    }
    is_slight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::zoo::zoo;

    #[test]
    fn the_smallest_layers_are_slight_and_the_largest_are_not() {
        for entry in zoo() {
            let graph = (entry.build)();
            let (live, shapes) = (graph.live(), graph.shapes(entry.input_px, entry.input_px).unwrap());
            let is_slight = slight(&graph, &live, Some(&shapes), Single { tenths: 4, winograd: false });
            let is_layer = |op: &Op| matches!(op, Op::Conv(_) | Op::Linear { .. } | Op::TransposedConv(_));
            let layers: Vec<usize> = (0..live.len()).filter(|&i| live[i] && is_layer(&graph.nodes()[i].op)).collect();
            assert!(layers.iter().any(|&i| is_slight[i]), "{}", entry.name);
            assert!(layers.iter().any(|&i| !is_slight[i]), "{}", entry.name);
        }
    }
}
