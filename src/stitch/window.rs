//! Weights of overlapping predictions.
//!
//! Owns: [`hann`]. Must not know: tiles' positions. Weights are small integers, so that sums of weighted
//! predictions do not depend on their order.

/// Largest weight.
const TOP: f64 = 255.0;

/// A Hann window of `side` px as weights 1–255: smooth, symmetric, never zero, so that a pixel covered by one tile
/// alone still has a value.
pub fn hann(side: u32) -> Vec<u8> {
    (0..side)
        .map(|i| {
            // Mirrored, so that rounding cannot tell left from right.
            let phase = std::f64::consts::TAU * (f64::from(i.min(side - 1 - i)) + 0.5) / f64::from(side);
            (TOP * 0.5 * (1.0 - phase.cos())).round().max(1.0) as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_symmetric_and_never_zero() {
        for side in [1, 2, 7, 164, 1024] {
            let w = hann(side);
            assert!(w.iter().all(|&v| v > 0));
            assert!(w.iter().eq(w.iter().rev()));
        }
    }
}
