//! Operations that losses are made of, each with its exact gradient.
//!
//! Owns: [`pointwise`], [`dot`], [`nll_of`]. Must not know: losses, targets.
//!
//! Sums are in f64 and in a fixed order: a loss is the same number on any number of threads. Tensors are f32 on the CPU.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// `f` of every value; `slope` is its derivative.
///
/// # Errors
/// Candle's, for a tensor that is not f32 on the CPU.
pub fn pointwise<F, D>(x: &Tensor, f: F, slope: D) -> Result<Tensor>
where
    F: Fn(f64) -> f64 + Copy + Send + Sync + 'static,
    D: Fn(f64) -> f64 + Copy + Send + Sync + 'static,
{
    x.contiguous()?.apply_op1(Pointwise { f, slope })
}

/// `Σ x·w` over all values, a number.
///
/// # Errors
/// Another number of weights than of values; candle's, for a tensor that is not f32 on the CPU.
pub fn dot(x: &Tensor, w: Arc<[f32]>) -> Result<Tensor> {
    if x.elem_count() != w.len() {
        bail!("`{}` weights for `{}` values", w.len(), x.elem_count());
    }
    x.contiguous()?.apply_op1(Dot { w })
}

/// `−log Σ_{c ∈ S} softmax(x)_c` of each px, where `S` are the channels of its bit mask; 0 where the mask is 0.
///
/// # Shapes
/// - `x`: `[N, C, h, w]` logits
/// - `masks`: `[N, h, w]`
/// - returns `[N, 1, h, w]`
///
/// # Errors
/// Another number of masks than of px; candle's, for a tensor that is not f32 on the CPU.
pub fn nll_of(x: &Tensor, masks: Arc<[u32]>) -> Result<Tensor> {
    let (n, _, h, w) = x.dims4()?;
    if masks.len() != n * h * w {
        bail!("`{}` labels for `{}` px", masks.len(), n * h * w);
    }
    x.contiguous()?.apply_op1(Nll { masks })
}

/// The values of a contiguous tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = storage else { bail!("losses are computed in f32") };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("losses need a contiguous tensor"),
    }
}

struct Pointwise<F, D> {
    f: F,
    slope: D,
}

impl<F, D> CustomOp1 for Pointwise<F, D>
where
    F: Fn(f64) -> f64 + Copy + Send + Sync + 'static,
    D: Fn(f64) -> f64 + Copy + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "pointwise"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = slice(storage, layout)?.iter().map(|&x| (self.f)(f64::from(x)) as f32).collect();
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(arg.apply_op2_no_bwd(&grad.contiguous()?, &PointwiseGradient { slope: self.slope })?))
    }
}

struct PointwiseGradient<D> {
    slope: D,
}

impl<D: Fn(f64) -> f64 + Send + Sync> CustomOp2 for PointwiseGradient<D> {
    fn name(&self) -> &'static str {
        "pointwise_gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (slice(s1, l1)?, slice(s2, l2)?);
        let values = x.iter().zip(grad).map(|(&x, &g)| ((self.slope)(f64::from(x)) * f64::from(g)) as f32).collect();
        Ok((CpuStorage::F32(values), l1.shape().clone()))
    }
}

struct Dot {
    w: Arc<[f32]>,
}

impl CustomOp1 for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let sum: f64 =
            x.iter().zip(&*self.w).map(|(&x, &w)| if w == 0.0 { 0.0 } else { f64::from(x) * f64::from(w) }).sum();
        Ok((CpuStorage::F32(vec![sum as f32]), Shape::from(())))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let by = grad.to_scalar::<f32>()?;
        let values: Vec<f32> = self.w.iter().map(|&w| w * by).collect();
        Ok(Some(Tensor::from_vec(values, arg.shape(), arg.device())?))
    }
}

struct Nll {
    masks: Arc<[u32]>,
}

/// Calls `each` with every px: its index in the masks, and the logits of its channels.
fn each_px(x: &[f32], masks: &[u32], channels: usize, px: usize, mut each: impl FnMut(usize, u32, &[f64])) {
    let mut logits = vec![0.0; channels];
    for (i, &mask) in masks.iter().enumerate() {
        let first = i / px * channels * px + i % px;
        logits.iter_mut().enumerate().for_each(|(c, to)| *to = f64::from(x[first + c * px]));
        each(i, mask, &logits);
    }
}

/// `log Σ exp` of the channels of a mask.
fn log_sum(logits: &[f64], mask: u32) -> f64 {
    let chosen = || logits.iter().enumerate().filter(|(c, _)| mask >> c & 1 == 1).map(|(_, &x)| x);
    let most = chosen().fold(f64::NEG_INFINITY, f64::max);
    if chosen().any(f64::is_nan) {
        return f64::NAN;
    }
    most + chosen().map(|x| (x - most).exp()).sum::<f64>().ln()
}

impl CustomOp1 for Nll {
    fn name(&self) -> &'static str {
        "negative_log_likelihood"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, channels, h, w) = layout.shape().dims4()?;
        let mut values = vec![0.0; n * h * w];
        each_px(slice(storage, layout)?, &self.masks, channels, h * w, |i, mask, logits| {
            if mask != 0 {
                values[i] = (log_sum(logits, u32::MAX) - log_sum(logits, mask)) as f32;
            }
        });
        Ok((CpuStorage::F32(values), Shape::from((n, 1, h, w))))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = NllGradient { masks: self.masks.clone() };
        Ok(Some(arg.apply_op2_no_bwd(&grad.contiguous()?, &op)?))
    }
}

struct NllGradient {
    masks: Arc<[u32]>,
}

impl CustomOp2 for NllGradient {
    fn name(&self) -> &'static str {
        "negative_log_likelihood_gradient"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, channels, h, w) = l1.shape().dims4()?;
        let (grad, px) = (slice(s2, l2)?, h * w);
        let mut values = vec![0.0; n * channels * px];
        each_px(slice(s1, l1)?, &self.masks, channels, px, |i, mask, logits| {
            if mask == 0 {
                return;
            }
            let (all, chosen) = (log_sum(logits, u32::MAX), log_sum(logits, mask));
            let first = i / px * channels * px + i % px;
            for (c, &x) in logits.iter().enumerate() {
                let of_chosen = if mask >> c & 1 == 1 { (x - chosen).exp() } else { 0.0 };
                values[first + c * px] = (((x - all).exp() - of_chosen) * f64::from(grad[i])) as f32;
            }
        });
        Ok((CpuStorage::F32(values), l1.shape().clone()))
    }
}
