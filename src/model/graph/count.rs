//! What a network costs.
//!
//! Owns: [`Graph::parameter_count`], [`Graph::macs`]. Must not know: how an operation is run.

use super::{Graph, Op, ParameterKind, ShapeError};

impl Graph {
    /// Learned values, the number papers print.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().filter(|p| p.kind == ParameterKind::Weight).map(|p| p.len()).sum()
    }

    /// Multiply-accumulates of one `h × w` image through convolutions, transposed convolutions, linear layers and
    /// attention that a head needs. Papers print this number as FLOPs; norms, activations and resizes are not in it.
    ///
    /// # Errors
    /// [`ShapeError`] when the network cannot take that size.
    pub fn macs(&self, h: usize, w: usize) -> Result<u64, ShapeError> {
        let (shapes, live) = (self.shapes(h, w)?, self.live());
        let mut all = 0;
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            let Some(x) = node.inputs.first().map(|n| shapes[n.0]) else { continue };
            let out = shapes[i];
            all += match &node.op {
                Op::Conv(conv) => out.h * out.w * out.c * (x.c / conv.groups) * conv.kernel * conv.kernel,
                Op::TransposedConv(conv) => x.h * x.w * x.c * out.c * conv.kernel * conv.kernel,
                Op::Attention { .. } => {
                    let seen = shapes[node.inputs[1].0];
                    2 * x.h * x.w * seen.h * seen.w * x.c
                }
                Op::WindowAttention { window_px, .. } => 2 * out.h * out.w * out.c * window_px * window_px,
                Op::Linear { .. } => out.h * out.w * x.c * out.c,
                _ => 0,
            } as u64;
        }
        Ok(all)
    }
}
