//! Operations of the tape in candle's words: what is rare in training on a processor.
//!
//! Owns: the way to candle and back. Must not know: which operations they are.

use super::{
    memory::Map,
    step::{Saved, Sink, Step},
};
use crate::model::graph::Op;
use candle_core::{Result, Tensor, Var};

/// Runs the operation on candle's tensors.
pub(super) fn forward(step: &Step<'_>, inputs: &[Map]) -> Result<(Map, Saved)> {
    let mut vars = vec![];
    let mut tensors = vec![];
    for x in inputs {
        let tensor = x.tensor()?;
        let var = step.mode.gradients.then(|| Var::from_tensor(&tensor)).transpose()?;
        tensors.push(var.as_ref().map_or(tensor, |var| var.as_tensor().clone()));
        vars.push(var);
    }
    let y = match &step.node.op {
        Op::Embedding { kinds } => step.network.embed(step.node, *kinds, step.kinds, step.mode)?,
        _ => step.network.run(step.index, step.node, &tensors, step.mode)?,
    };
    let map = Map::from_planes(step.home, &y)?;
    Ok((map, if step.mode.gradients { Saved::Foreign(vars, y) } else { Saved::Nothing }))
}

/// Candle's gradients.
pub(super) fn backward(
    step: &Step<'_>,
    (vars, result): (&[Option<Var>], &Tensor),
    dy: &Map,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let gradients = result.mul(&dy.tensor()?)?.sum_all()?.backward()?;
    for (i, var) in vars.iter().enumerate() {
        if let Some(gradient) = var.as_ref().and_then(|var| gradients.get(var)).filter(|_| sink.wants(i)) {
            sink.add(i, Map::from_planes(step.home, gradient)?);
        }
    }
    let names = ["weight", "bias", "relative_position_bias_table"].map(|suffix| step.parameter(suffix));
    for name in names.into_iter().chain([step.node.name.clone()]) {
        if let Some(gradient) = step.network.values.get(&name).and_then(|var| gradients.get(var)) {
            sink.weight(name, gradient.flatten_all()?.to_vec1()?);
        }
    }
    Ok(())
}
