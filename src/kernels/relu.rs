//! `max(x, 0)`, whose derivative at 0 is 0.
//!
//! Owns: [`relu`]. Source: PyTorch `threshold_backward`. Differs from candle's own, whose derivative at 0 is 1: after
//! a padded or dropped-out region most values are exactly 0, so this is no rare case.

use super::on_floats::{OnFloats, binary, unary};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};

/// `max(x, 0)`; a NaN stays one.
///
/// # Errors
/// Candle's, for a type other than `f32` and `f64`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Relu)
}

struct Relu;

impl OnFloats for Relu {
    fn run<T: WithDType>(&self, inputs: &[&[T]]) -> Vec<T> {
        inputs[0].iter().map(|&v| if v < T::zero() { T::zero() } else { v }).collect()
    }
}

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((unary(CustomOp1::name(self), (storage, layout), self)?, layout.shape().clone()))
    }

    fn bwd(&self, _arg: &Tensor, res: &Tensor, grad_res: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(res.apply_op2_no_bwd(&grad_res.contiguous()?, &ReluGradient)?))
    }
}

/// `grad`, 0 where `result <= 0`.
struct ReluGradient;

impl OnFloats for ReluGradient {
    fn run<T: WithDType>(&self, inputs: &[&[T]]) -> Vec<T> {
        inputs[0].iter().zip(inputs[1]).map(|(&r, &g)| if r <= T::zero() { T::zero() } else { g }).collect()
    }
}

impl CustomOp2 for ReluGradient {
    fn name(&self) -> &'static str {
        "relu_gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((binary(CustomOp2::name(self), (s1, l1), (s2, l2), self)?, l1.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::finite_differences;
    use candle_core::{Device, Var};

    #[test]
    fn negative_values_become_zero_and_nan_stays() {
        let x = Tensor::new(&[-1f32, -0.0, 0.0, 2.0, f32::NAN], &Device::Cpu).unwrap();
        let y = relu(&x).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(y[..4], [0.0, 0.0, 0.0, 2.0]);
        assert!(y[4].is_nan());
    }

    #[test]
    fn the_derivative_at_zero_is_zero() {
        let x = Var::new(&[-1f64, 0.0, 3.0], &Device::Cpu).unwrap();
        let grads = relu(&x).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec1::<f64>().unwrap(), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        finite_differences::check(&[&[2, 3, 4, 5]], |t| relu(&t[0]));
    }

    #[test]
    fn a_transposed_input_is_read_in_its_own_order() {
        let x = Tensor::new(&[[1f32, -2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        assert_eq!(relu(&x.t().unwrap()).unwrap().to_vec2::<f32>().unwrap(), [[1.0, 3.0], [0.0, 4.0]]);
    }
}
