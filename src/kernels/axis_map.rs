//! Linear maps that treat rows and columns alone: resizes and average pools.
//!
//! Owns: [`AxisMap`], [`apply`]. Must not know: which map it is.
//!
//! `y[r, c] = Σ_i Σ_j rows[r, i] · columns[c, j] · x[i, j]`. The gradient of a linear map is its transpose, so one pair
//! of loops is both directions of every such operation.

use super::on_floats::{OnFloats, unary};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType};
use std::sync::Arc;

/// A sparse matrix: for each output position, input positions and weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AxisMap {
    /// Length of the input axis.
    pub input: usize,
    /// For each output position.
    pub taps: Vec<Vec<(usize, f64)>>,
}

/// Maps rows and columns of `[N, C, h, w]`.
pub(super) fn apply(x: &Tensor, name: &'static str, rows: AxisMap, columns: AxisMap) -> Result<Tensor> {
    let map = Separable { name, rows: Arc::new(rows), columns: Arc::new(columns), is_transposed: false };
    x.contiguous()?.apply_op1(map)
}

#[derive(Clone)]
struct Separable {
    name: &'static str,
    rows: Arc<AxisMap>,
    columns: Arc<AxisMap>,
    is_transposed: bool,
}

impl Separable {
    fn transposed(&self) -> Self {
        Self { is_transposed: !self.is_transposed, ..self.clone() }
    }

    /// `(h, w)` in and out.
    fn sizes(&self) -> [(usize, usize); 2] {
        let small = (self.rows.input, self.columns.input);
        let large = (self.rows.taps.len(), self.columns.taps.len());
        if self.is_transposed { [large, small] } else { [small, large] }
    }
}

impl OnFloats for Separable {
    fn run<T: WithDType>(&self, inputs: &[&[T]]) -> Vec<T> {
        let [(h, w), (out_h, out_w)] = self.sizes();
        let planes = inputs[0].len() / (h * w).max(1);
        let mut y = vec![T::zero(); planes * out_h * out_w];
        let mut across = vec![T::zero(); h * out_w];
        for (x, y) in inputs[0].chunks_exact(h * w).zip(y.chunks_exact_mut(out_h * out_w)) {
            across.fill(T::zero());
            for (x, across) in x.chunks_exact(w).zip(across.chunks_exact_mut(out_w)) {
                for (c, taps) in self.columns.taps.iter().enumerate() {
                    for &(j, weight) in taps {
                        let (from, to) = if self.is_transposed { (c, j) } else { (j, c) };
                        across[to] += x[from] * T::from_f64(weight);
                    }
                }
            }
            for (r, taps) in self.rows.taps.iter().enumerate() {
                for &(i, weight) in taps {
                    let (from, to) = if self.is_transposed { (r, i) } else { (i, r) };
                    let weight = T::from_f64(weight);
                    let from = &across[from * out_w..][..out_w];
                    y[to * out_w..][..out_w].iter_mut().zip(from).for_each(|(y, &x)| *y += x * weight);
                }
            }
        }
        y
    }
}

impl CustomOp1 for Separable {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, _, _) = layout.shape().dims4()?;
        let [_, (h, w)] = self.sizes();
        Ok((unary(self.name, (storage, layout), self)?, Shape::from((n, c, h, w))))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, grad_res: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad_res.contiguous()?.apply_op1_no_bwd(&self.transposed())?))
    }
}
