//! One step of Adam, in one pass over the values.
//!
//! Owns: [`adam`]. Must not know: networks. Source: PyTorch `Adam` without weight decay (Kingma 2015).

use rayon::prelude::*;

/// Values that one task changes.
const PIECE: usize = 1 << 14;
const BETA: [f64; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// Changes `values` by their gradient; `moments` are the means of gradients and of their squares so far, and `step` counts
/// from 1.
///
/// # Panics
/// If the lengths differ.
pub fn adam(values: &mut [f32], gradient: &[f32], moments: [&mut [f32]; 2], step: u32, learning_rate: f64) {
    let [first, second] = moments;
    assert!(gradient.len() == values.len() && first.len() == values.len() && second.len() == values.len());
    let rate = (learning_rate / (1.0 - BETA[0].powf(f64::from(step)))) as f32;
    let root = (1.0 - BETA[1].powf(f64::from(step))).sqrt() as f32;
    let (new, kept, squared) = ((1.0 - BETA[0]) as f32, BETA[1] as f32, (1.0 - BETA[1]) as f32);
    let pieces = values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
    let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
    pieces.zip(moments).for_each(|((values, gradient), (first, second))| {
        for (((w, g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            *m += new * (g - *m);
            *v = kept * *v + squared * g * g;
            *w -= rate * *m / (v.sqrt() / root + EPSILON);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_learning_rate_and_the_second_weighs_both() {
        let (mut w, mut m, mut v) = ([1.0, 2.0], [0.0; 2], [0.0; 2]);
        adam(&mut w, &[0.5, -3.0], [&mut m, &mut v], 1, 0.1);
        assert!((w[0] - 0.9).abs() < 1e-6 && (w[1] - 2.1).abs() < 1e-6);
        adam(&mut w, &[0.5, 3.0], [&mut m, &mut v], 2, 0.1);
        // torch: the means are 0.5 and 3 · (0.1 − 0.09) / 0.19, the roots of the mean squares 0.5 and 3.
        assert!((w[0] - 0.8).abs() < 1e-6 && (w[1] - (2.1 - 0.1 * 0.01 / 0.19)).abs() < 1e-6, "{w:?}");
    }
}
