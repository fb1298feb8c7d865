//! Largest value of each window.
//!
//! Owns: [`max_pool`], [`max_pool_reference`]. Must not know: networks.
//!
//! Source: PyTorch `F.max_pool2d`: padding never wins, of equal values the first in reading order wins and takes the
//! whole gradient.

use super::on_floats::{OnFloats, binary, unary};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

/// Largest value of `kernel × kernel` windows over an image with a ring of `pad` px that never wins.
///
/// # Shapes
/// - `x`: `[N, C, h, w]` f32 or f64
/// - returns `[N, C, (h + 2·pad − kernel) / stride + 1, (w + 2·pad − kernel) / stride + 1]`
///
/// # Errors
/// Candle's, for another rank or type, an image smaller than the window, or padding of more than half a window.
pub fn max_pool(x: &Tensor, kernel: usize, stride: usize, pad: usize) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if 2 * pad > kernel || h + 2 * pad < kernel || w + 2 * pad < kernel {
        bail!("max_pool: windows of `{kernel}` px, padding `{pad}`, do not fit an image of `{h} × {w}`");
    }
    x.contiguous()?.apply_op1(MaxPool { h, w, kernel, stride, pad })
}

#[derive(Clone, Copy)]
struct MaxPool {
    h: usize,
    w: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
}

impl MaxPool {
    fn out(&self) -> (usize, usize) {
        let side = |s: usize| (s + 2 * self.pad - self.kernel) / self.stride + 1;
        (side(self.h), side(self.w))
    }

    /// The pixels of window `o` on an axis of `side` px.
    fn window(&self, o: usize, side: usize) -> std::ops::Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.pad)..(start + self.kernel - self.pad).min(side)
    }
}

/// For each window of each plane, the position in its plane of the largest value; a NaN is larger than anything.
///
/// # Shapes
/// - `x`: `[planes, h, w]`
/// - returns `[planes, out_h, out_w]`
pub fn max_pool_reference<T: WithDType>(
    x: &[T],
    (h, w): (usize, usize),
    kernel: usize,
    stride: usize,
    pad: usize,
) -> Vec<usize> {
    let pool = MaxPool { h, w, kernel, stride, pad };
    let (out_h, out_w) = pool.out();
    let mut winners = Vec::with_capacity(x.len() / (h * w).max(1) * out_h * out_w);
    for plane in x.chunks_exact(h * w) {
        for r in 0..out_h {
            for c in 0..out_w {
                let columns = pool.window(c, w);
                let mut best = pool.window(r, h).start * w + columns.start;
                for i in pool.window(r, h) {
                    for at in columns.clone().map(|j| i * w + j) {
                        let (value, top) = (plane[at], plane[best]);
                        // `value != value`: only a NaN is unequal to itself.
                        #[expect(clippy::eq_op, reason = "this is how a NaN is told without a float trait")]
                        if value > top || (value != value && top == top) {
                            best = at;
                        }
                    }
                }
                winners.push(best);
            }
        }
    }
    winners
}

impl OnFloats for MaxPool {
    fn run<T: WithDType>(&self, inputs: &[&[T]]) -> Vec<T> {
        let (out_h, out_w) = self.out();
        let winners = max_pool_reference(inputs[0], (self.h, self.w), self.kernel, self.stride, self.pad);
        let planes = inputs[0].chunks_exact(self.h * self.w);
        planes.zip(winners.chunks_exact(out_h * out_w)).flat_map(|(x, at)| at.iter().map(|&i| x[i])).collect()
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, _, _) = layout.shape().dims4()?;
        let (h, w) = self.out();
        Ok((unary(CustomOp1::name(self), (storage, layout), self)?, Shape::from((n, c, h, w))))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad_res: &Tensor) -> Result<Option<Tensor>> {
        let gradient = MaxPoolGradient(*self);
        Ok(Some(arg.contiguous()?.apply_op2_no_bwd(&grad_res.contiguous()?, &gradient)?))
    }
}

/// Each window's gradient goes to its winner.
struct MaxPoolGradient(MaxPool);

impl OnFloats for MaxPoolGradient {
    fn run<T: WithDType>(&self, inputs: &[&[T]]) -> Vec<T> {
        let (pool, (out_h, out_w)) = (self.0, self.0.out());
        let winners = max_pool_reference(inputs[0], (pool.h, pool.w), pool.kernel, pool.stride, pool.pad);
        let mut grad = vec![T::zero(); inputs[0].len()];
        let windows = winners.chunks_exact(out_h * out_w).zip(inputs[1].chunks_exact(out_h * out_w));
        for (plane, (winners, given)) in grad.chunks_exact_mut(pool.h * pool.w).zip(windows) {
            winners.iter().zip(given).for_each(|(&at, &g)| plane[at] += g);
        }
        grad
    }
}

impl CustomOp2 for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max_pool_gradient"
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
    fn padding_never_wins() {
        let x = Tensor::full(-5f32, (1, 1, 3, 3), &Device::Cpu).unwrap();
        let y = max_pool(&x, 3, 2, 1).unwrap();
        assert_eq!(y.dims(), [1, 1, 2, 2]);
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [-5.; 4]);
    }

    #[test]
    fn of_equal_values_the_first_takes_the_gradient() {
        let x = Var::new(&[[[[1f64, 1.], [1., 1.]]]], &Device::Cpu).unwrap();
        let grads = max_pool(&x, 2, 2, 0).unwrap().sum_all().unwrap().backward().unwrap();
        let grad = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(grad, [1., 0., 0., 0.]);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for (h, w, kernel, stride, pad) in [(8, 8, 2, 2, 0), (9, 9, 2, 2, 0), (9, 8, 3, 2, 1), (5, 6, 3, 1, 1)] {
            finite_differences::check(&[&[2, 2, h, w]], |t| max_pool(&t[0], kernel, stride, pad));
        }
    }

    #[test]
    fn nan_wins_as_in_pytorch() {
        let x = Tensor::new(&[[[[1f32, f32::NAN], [9., 2.]]]], &Device::Cpu).unwrap();
        assert!(max_pool(&x, 2, 2, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
    }

    #[test]
    fn windows_that_do_not_fit_are_an_error() {
        let x = Tensor::zeros((1, 1, 2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(max_pool(&x, 3, 2, 0).is_err());
        assert!(max_pool(&x, 2, 2, 2).is_err());
    }
}
