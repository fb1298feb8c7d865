//! A moving average of the weights.
//!
//! Owns: [`update`]. Must not know: networks.
//! Source: Tarvainen 2017; timm's warm-up of the decay, `(1 + t) / (10 + t)`.

/// Moves `average` towards `values`; `step` from 0.
pub fn update(average: &mut [f32], values: &[f32], decay: f64, step: u64) {
    let t = step as f64;
    let kept = decay.min((1.0 + t) / (10.0 + t));
    let moved = (1.0 - kept) as f32;
    average.iter_mut().zip(values).for_each(|(a, &v)| *a += moved * (v - *a));
}

#[cfg(test)]
mod tests {
    use super::update;

    #[test]
    fn the_average_follows_fast_at_first_and_slowly_later() {
        let mut a = [0.0];
        update(&mut a, &[1.0], 0.999, 0);
        assert!((a[0] - 0.9).abs() < 1e-6);
        let mut a = [0.0];
        update(&mut a, &[1.0], 0.999, 1_000_000);
        assert!((a[0] - 0.001).abs() < 1e-6);
    }
}
