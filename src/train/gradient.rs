//! What is done to gradients before a step.
//!
//! Owns: [`norm`], [`clip`]. Must not know: networks, optimisers.
//! Source: PyTorch `clip_grad_value_`, `clip_grad_norm_` (with its 1e-6).

use rayon::prelude::*;

/// Length of all gradients as one vector; not finite when one of them is not. The same on any number of threads.
pub fn norm(gradients: &[Vec<f32>]) -> f64 {
    let squares: Vec<f64> =
        gradients.par_iter().map(|g| g.iter().map(|&x| f64::from(x) * f64::from(x)).sum()).collect();
    squares.iter().sum::<f64>().sqrt()
}

/// Cuts values, then shortens the whole; gives the length before that.
pub fn clip(gradients: &mut [Vec<f32>], clip_value: Option<f64>, clip_norm: Option<f64>) -> f64 {
    let before = norm(gradients);
    if let Some(most) = clip_value.map(|most| most as f32) {
        gradients.par_iter_mut().for_each(|g| g.iter_mut().for_each(|x| *x = x.clamp(-most, most)));
    }
    if let Some(most) = clip_norm {
        let now = if clip_value.is_some() { norm(gradients) } else { before };
        let factor = (most / (now + 1e-6)) as f32;
        if factor < 1.0 {
            gradients.par_iter_mut().for_each(|g| g.iter_mut().for_each(|x| *x *= factor));
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gradient_is_shortened_and_a_short_one_is_kept() {
        let mut g = vec![vec![3.0, 0.0], vec![4.0]];
        assert_eq!(clip(&mut g, None, Some(10.0)), 5.0);
        assert_eq!(g, [vec![3.0, 0.0], vec![4.0]]);
        assert_eq!(clip(&mut g, None, Some(1.0)), 5.0);
        assert!((norm(&g) - 1.0).abs() < 1e-5 && (g[1][0] / g[0][0] - 4.0 / 3.0).abs() < 1e-6);
        let mut g = vec![vec![3.0, -0.2], vec![-4.0]];
        clip(&mut g, Some(0.5), None);
        assert_eq!(g, [vec![0.5, -0.2], vec![-0.5]]);
    }

    #[test]
    fn a_gradient_that_is_no_number_shows_in_the_norm() {
        assert!(norm(&[vec![1.0], vec![f32::NAN]]).is_nan());
        assert!(!norm(&[vec![f32::INFINITY]]).is_finite());
    }
}
