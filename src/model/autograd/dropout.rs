//! Dropout that a seed repeats.
//!
//! Owns: [`dropout`], [`Mask`]. Must not know: networks. Candle's own cannot be seeded on the CPU.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Sets values, or whole channels of an image, to zero with probability `prob`; divides the rest by `1 − prob`, so
/// that the expected value stays.
///
/// # Shapes
/// - `x`: `[N, C, h, w]`; the result too
///
/// # Errors
/// Candle's.
pub(super) fn dropout(x: &Tensor, prob: f64, whole_channels: bool, seed: u64, node: u64) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let shape = if whole_channels { (n, c, 1, 1) } else { (n, c, h, w) };
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let mask = Mask::new(prob, seed, node);
    let mask: Vec<f32> = (0..count as u64).into_par_iter().map(|i| mask.at(i)).collect();
    x.broadcast_mul(&Tensor::from_vec(mask, shape, x.device())?.to_dtype(x.dtype())?)
}

/// What each value is multiplied by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    key: u64,
    prob: f64,
    kept: f32,
}

impl Mask {
    pub(super) fn new(prob: f64, seed: u64, node: u64) -> Self {
        let kept = if prob < 1.0 { (1.0 / (1.0 - prob)) as f32 } else { 0.0 };
        Self { key: mix(seed ^ mix(node)), prob, kept }
    }

    /// That of value `i`, or of channel `i`, counted as in `[N, C, h, w]`.
    pub(super) fn at(self, i: u64) -> f32 {
        let u = (mix(self.key.wrapping_add(i)) >> 11) as f64 / (1_u64 << 53) as f64;
        if u >= self.prob { self.kept } else { 0.0 }
    }
}

/// splitmix64 (Steele 2014).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn dropped(whole_channels: bool, seed: u64) -> Vec<f32> {
        let x = Tensor::ones((4, 25, 10, 10), DType::F32, &Device::Cpu).unwrap();
        dropout(&x, 0.2, whole_channels, seed, 3).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_fifth_is_dropped_and_the_rest_makes_up_for_it() {
        let y = dropped(false, 1);
        assert!(y.iter().all(|&v| v == 0.0 || v == 1.25));
        let mean = y.iter().sum::<f32>() / y.len() as f32;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn whole_channels_go_together() {
        let y = dropped(true, 1);
        assert!(y.chunks(100).all(|c| c.iter().all(|&v| v == c[0])));
        assert!(y.contains(&0.0) && y.contains(&1.25));
    }

    #[test]
    fn a_seed_repeats_what_is_dropped() {
        assert_eq!(dropped(false, 7), dropped(false, 7));
        assert_ne!(dropped(false, 7), dropped(false, 8));
    }
}
