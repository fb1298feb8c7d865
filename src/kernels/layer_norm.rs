//! Layer normalisation over channels.
//!
//! Owns: [`layer_norm`]. Must not know: networks. Source: PyTorch `F.layer_norm`; written in candle operations whose
//! gradients are right, because candle's own layer norm has none.

use candle_core::{Result, Tensor};

/// `(x − mean) / √(var + eps) · weight + bias`, mean and (biased) variance over the channels of each pixel.
///
/// # Shapes
/// - `x`: `[N, C, h, w]`
/// - `weight`, `bias`: `[C]`
/// - returns `[N, C, h, w]`
///
/// # Errors
/// Candle's, for other shapes.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let spread = (1, weight.dim(0)?, 1, 1);
    let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(&weight.reshape(spread)?)?.broadcast_add(&bias.reshape(spread)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::finite_differences;
    use candle_core::Device;

    #[test]
    fn each_pixel_is_normalised_over_its_channels() {
        let dev = Device::Cpu;
        let x = Tensor::new(&[[[[1f64, 10.]], [[3., 30.]]]], &dev).unwrap();
        let (w, b) = (Tensor::new(&[1f64, 2.], &dev).unwrap(), Tensor::new(&[0f64, 1.], &dev).unwrap());
        let y = layer_norm(&x, &w, &b, 0.0).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(y, [-1., -1., 3., 3.]);
    }

    #[test]
    fn all_three_gradients_are_those_of_finite_differences() {
        finite_differences::check(&[&[2, 5, 3, 2], &[5], &[5]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-6));
    }
}
