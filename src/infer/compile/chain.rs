//! Convolutions and what follows each of them.
//!
//! Owns: which nodes a convolution takes in. Must not know: how a kernel does it.

use super::{CompileError, Lowering, fold, fold::Folded, join::Layer};
use crate::{
    infer::{
        cpu::{ConvSpec, PackedConv, PackedTransposed, TransposedSpec},
        program::{Affine, ConvStep, RawWeights, StepOp, Target, TransposedStep},
    },
    model::graph::{Activation, Conv, Graph, Node, NodeId, Op, Padding, ResizeMode, TransposedConv},
};
use std::sync::Arc;

/// What follows a convolution.
struct Chain {
    /// The last node taken in.
    output: NodeId,
    fused: Vec<&'static str>,
    residual: Option<NodeId>,
    residual_factor: usize,
    residual_first: bool,
    norm: Option<Affine>,
    activation: Option<Activation>,
}

/// A convolution's or linear layer's settings; its padding is that of a size that the stride divides, and the plan makes
/// another's from what is given beside it.
pub(super) fn spec(graph: &Graph, node: &Node) -> (ConvSpec, Padding) {
    let cin = graph.channels(node.inputs[0]);
    let Op::Conv(conv) = &node.op else { return (ConvSpec::linear(cin, node.channels), Padding::Each(0)) };
    let (pad, _) = conv.padding.before_after(conv.stride << 16, conv.kernel, conv.stride);
    let Conv { out: cout, stride, dilation, groups, .. } = *conv;
    let spec = ConvSpec { cin, cout, kernel: (conv.kernel, conv.kernel), stride, pad: (pad, pad), dilation, groups };
    (spec, conv.padding)
}

impl Lowering<'_> {
    /// A convolution or linear layer.
    pub(super) fn conv(&mut self, id: NodeId) -> Result<(), CompileError> {
        self.covered[id.index()] = true;
        if self.is_part(id) {
            return Ok(());
        }
        let Layer { node: named, mut inputs, mut folded, spec, padding, fused } = Layer::of(self, id)?;
        let chain = self.follow(id, fused, &mut folded, true)?;
        let prologue = self.prologues.remove(&id);
        let gate = self.gates.remove(&id);
        let mut fused = chain.fused;
        if let Some(prologue) = &prologue {
            inputs = vec![prologue.input];
            fused.splice(0..0, prologue.fused.iter().copied());
        }
        if let Some([x, gate]) = gate {
            inputs = vec![x, gate];
            fused.insert(0, "multiply");
        }
        inputs.extend(chain.residual);
        let bias = folded.bias.as_deref();
        let (weights, isa, precision) = (&folded.weights, self.isa, self.precision_of(named));
        let packed = match self.shapes.as_ref().map(|shapes| shapes[id.index()]) {
            Some(out) => PackedConv::sized(spec, (out.h, out.w), (weights, bias), isa, precision),
            None => PackedConv::new(spec, weights, bias, isa, precision),
        };
        let step = ConvStep {
            packed: Arc::new(packed),
            raw: self.raw(folded),
            padding,
            prologue: prologue.map(|p| p.affine),
            is_gated: gate.is_some(),
            residual_factor: chain.residual.map(|_| chain.residual_factor),
            is_residual_first: chain.residual_first,
            norm: chain.norm,
            activation: chain.activation,
        };
        self.push(named, StepOp::Conv(Box::new(step)), inputs, chain.output, fused);
        Ok(())
    }

    /// A transposed convolution; of a crop after it only what is left is computed.
    pub(super) fn transposed(&mut self, id: NodeId, node: &Node, conv: TransposedConv) -> Result<(), CompileError> {
        let mut folded = Folded::of(self, node)?;
        let (mut last, mut fused) = (id, vec![node.op.kind()]);
        if let Some(user) = self.only_user(id).filter(|user| matches!(self.get(*user).op, Op::Crop(_))) {
            self.covered[user.index()] = true;
            fused.push("crop");
            last = user;
        }
        let cropped = last;
        let chain = self.follow(last, fused, &mut folded, false)?;
        let spec = TransposedSpec {
            cin: self.graph.channels(node.inputs[0]),
            cout: conv.out,
            kernel: conv.kernel,
            stride: conv.stride,
            crop: (0, 0),
        };
        let bias = folded.bias.as_deref();
        let packed = PackedTransposed::new(spec, &folded.weights, bias, self.isa, self.precision_of(id));
        let raw = self.raw(folded);
        let step = TransposedStep { packed: Arc::new(packed), raw, whole: id, cropped, activation: chain.activation };
        self.push(id, StepOp::Transposed(Box::new(step)), node.inputs.clone(), chain.output, chain.fused);
        Ok(())
    }

    /// What a GPU's kernels lay out their own way.
    fn raw(&self, folded: Folded) -> Option<RawWeights> {
        (self.target == Target::Cuda).then_some(RawWeights { weights: folded.weights, bias: folded.bias })
    }

    /// Goes from `id` to its only user and on, as long as the convolution can do what is found.
    fn follow(
        &mut self,
        id: NodeId,
        fused: Vec<&'static str>,
        folded: &mut Folded,
        takes_residual: bool,
    ) -> Result<Chain, CompileError> {
        let mut chain = Chain {
            output: id,
            fused,
            residual: None,
            residual_factor: 1,
            residual_first: false,
            norm: None,
            activation: None,
        };
        while let Some(user) = self.only_user(chain.output) {
            let node = self.get(user);
            let is_linear = chain.residual.is_none() && chain.activation.is_none();
            match &node.op {
                Op::BatchNorm { eps } if is_linear => {
                    let (scale, shift) = fold::batch_norm(self, node, *eps)?;
                    folded.then(&scale, Some(&shift));
                }
                // Of a sum with something else: what it is read by reads it anyway, and once less.
                Op::BatchNorm { eps } if self.takes_norm(&chain) => {
                    let (scale, shift) = fold::batch_norm(self, node, *eps)?;
                    (chain.norm, chain.residual_first) = (Some(Affine { scale, shift, relu: false }), true);
                }
                Op::LayerScale { .. } if is_linear => folded.then(self.tensor(node.name.clone())?, None),
                Op::Dropout { .. } => {}
                Op::Activation(found) if *found != Activation::Softmax && chain.activation.is_none() => {
                    chain.activation = Some(*found);
                    chain.residual_first = chain.residual.is_some();
                }
                Op::Add if takes_residual && chain.residual.is_none() => {
                    let Some(other) = self.residual(node, chain.output) else { break };
                    (chain.residual, chain.residual_factor) = (Some(other.0), other.1);
                }
                _ => break,
            }
            if !matches!(node.op, Op::Dropout { .. }) {
                chain.fused.push(node.op.kind());
            }
            self.covered[user.index()] = true;
            chain.output = user;
        }
        Ok(chain)
    }

    /// Whether a norm may be part of what is done to sums: nothing that comes before it is missing, nobody else sees
    /// what it reads, and the machine's kernels can.
    fn takes_norm(&self, chain: &Chain) -> bool {
        self.target == Target::Cpu && chain.residual.is_some() && chain.norm.is_none() && chain.activation.is_none()
    }

    /// The other term of a sum of two and its enlargement, unless the other is a convolution that comes later and takes
    /// the sum itself.
    fn residual(&mut self, add: &Node, mine: NodeId) -> Option<(NodeId, usize)> {
        let &[a, b] = &add.inputs[..] else { return None };
        let other = if a == mine { b } else { a };
        if other == mine || (other > mine && self.ends_conv(other)) {
            return None;
        }
        // An enlargement that nobody else needs is read as it is.
        let node = self.get(other);
        if let Op::Resize { factor, mode: ResizeMode::Nearest } = node.op
            && self.only_user(other).is_some()
        {
            self.unmake(other);
            return Some((node.inputs[0], factor));
        }
        Some((other, 1))
    }

    /// Whether a convolution will take in all up to `id`.
    fn ends_conv(&self, id: NodeId) -> bool {
        if self.only_user(id).is_none() {
            return false;
        }
        let node = self.get(id);
        match node.op {
            Op::Conv(_) | Op::Linear { .. } => true,
            Op::BatchNorm { .. } | Op::LayerScale { .. } | Op::Dropout { .. } => self.ends_conv(node.inputs[0]),
            _ => false,
        }
    }

    /// Forgets the step of a node, or that it needs one.
    pub(super) fn unmake(&mut self, id: NodeId) {
        self.covered[id.index()] = true;
        self.steps.retain(|step| step.output != id);
    }
}
