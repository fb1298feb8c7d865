//! Mean of each window.
//!
//! Owns: [`avg_pool`]. Must not know: networks. Source: PyTorch `F.avg_pool2d` without padding.

use super::axis_map::{AxisMap, apply};
use candle_core::{Result, Tensor, bail};

/// Mean of `kernel × kernel` windows; a rest that no window fits in is left out.
///
/// # Shapes
/// - `x`: `[N, C, h, w]` f32 or f64
/// - returns `[N, C, (h − kernel) / stride + 1, (w − kernel) / stride + 1]`
///
/// # Errors
/// Candle's, for another rank or type, or an image smaller than the window.
pub fn avg_pool(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if h < kernel || w < kernel {
        bail!("avg_pool: image is `{h} × {w}`, expected at least `{kernel} × {kernel}`");
    }
    let map = |input: usize| AxisMap {
        input,
        taps: (0..(input - kernel) / stride + 1)
            .map(|o| (0..kernel).map(|k| (o * stride + k, 1.0 / kernel as f64)).collect())
            .collect(),
    };
    apply(x, "avg_pool", map(h), map(w))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::finite_differences;
    use candle_core::Device;

    #[test]
    fn an_odd_image_loses_its_last_row_and_column() {
        let x = Tensor::arange(0f32, 9., &Device::Cpu).unwrap().reshape((1, 1, 3, 3)).unwrap();
        let y = avg_pool(&x, 2, 2).unwrap();
        assert_eq!(y.dims(), [1, 1, 1, 1]);
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [2.0]);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for (h, w, kernel, stride) in [(4, 6, 2, 2), (9, 9, 2, 2), (7, 8, 3, 2), (5, 5, 5, 1)] {
            finite_differences::check(&[&[2, 2, h, w]], |t| avg_pool(&t[0], kernel, stride));
        }
    }

    #[test]
    fn an_image_smaller_than_the_window_is_an_error() {
        let x = Tensor::zeros((1, 1, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(avg_pool(&x, 2, 2).is_err());
    }
}
