//! Enlarging and shrinking by nearest and bilinear interpolation.
//!
//! Owns: [`resize_nearest`], [`resize_bilinear`]. Must not know: networks.
//!
//! Source: PyTorch `F.interpolate(size=…)`; bilinear with `align_corners` either way, without antialiasing.

use super::axis_map::{AxisMap, apply};
use candle_core::{Result, Tensor};

/// `y[r, c] = x[⌊r·h/out_h⌋, ⌊c·w/out_w⌋]`.
///
/// # Shapes
/// - `x`: `[N, C, h, w]` f32 or f64
/// - returns `[N, C, out_h, out_w]`
///
/// # Errors
/// Candle's, for another rank or type.
pub fn resize_nearest(x: &Tensor, (out_h, out_w): (usize, usize)) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let map = |input: usize, output: usize| AxisMap {
        input,
        taps: (0..output).map(|o| vec![(o * input / output, 1.0)]).collect(),
    };
    apply(x, "resize_nearest", map(h, out_h), map(w, out_w))
}

/// Bilinear interpolation: `corners` keeps the corner pixels' centres in place (`align_corners=True`), else the
/// image's outer edges.
///
/// # Shapes
/// - `x`: `[N, C, h, w]` f32 or f64
/// - returns `[N, C, out_h, out_w]`
///
/// # Errors
/// Candle's, for another rank or type.
pub fn resize_bilinear(x: &Tensor, (out_h, out_w): (usize, usize), corners: bool) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    apply(x, "resize_bilinear", bilinear(h, out_h, corners), bilinear(w, out_w, corners))
}

fn bilinear(input: usize, output: usize, corners: bool) -> AxisMap {
    let last = input - 1;
    let position = |o: usize| {
        if !corners {
            ((o as f64 + 0.5) * input as f64 / output as f64 - 0.5).max(0.0)
        } else if output > 1 {
            (o * last) as f64 / (output - 1) as f64
        } else {
            0.0
        }
    };
    let taps = (0..output)
        .map(|o| {
            let at = position(o);
            let left = (at as usize).min(last);
            let part = at - left as f64;
            if left == last { vec![(last, 1.0)] } else { vec![(left, 1.0 - part), (left + 1, part)] }
        })
        .collect();
    AxisMap { input, taps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::finite_differences;
    use candle_core::{Device, Var};

    fn row(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    }

    fn line(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, 1, 1, values.len()), &Device::Cpu).unwrap()
    }

    #[test]
    fn nearest_repeats_pixels_as_pytorch_does() {
        assert_eq!(row(&resize_nearest(&line(&[1., 2.]), (1, 4)).unwrap()), [1., 1., 2., 2.]);
        // torch.nn.functional.interpolate(torch.tensor([[[[1., 2., 3., 4.]]]]), size=(1, 9))
        let nine = row(&resize_nearest(&line(&[1., 2., 3., 4.]), (1, 9)).unwrap());
        assert_eq!(nine, [1., 1., 1., 2., 2., 3., 3., 4., 4.]);
    }

    #[test]
    fn bilinear_has_both_of_pytorchs_conventions() {
        let x = line(&[0., 1., 2., 3.]);
        let edges = row(&resize_bilinear(&x, (1, 8), false).unwrap());
        assert_eq!(edges, [0., 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.]);
        let corners = row(&resize_bilinear(&x, (1, 7), true).unwrap());
        assert_eq!(corners, [0., 0.5, 1., 1.5, 2., 2.5, 3.]);
        assert_eq!(row(&resize_bilinear(&x, (1, 1), true).unwrap()), [0.]);
    }

    #[test]
    fn one_pixel_spreads_over_everything() {
        for corners in [false, true] {
            let y = resize_bilinear(&line(&[5.]), (3, 3), corners).unwrap();
            assert_eq!(row(&y), [5.; 9]);
        }
    }

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        for size in [(8, 6), (9, 5), (2, 3), (4, 3)] {
            finite_differences::check(&[&[2, 2, 4, 3]], |t| resize_nearest(&t[0], size));
            for corners in [false, true] {
                finite_differences::check(&[&[2, 2, 4, 3]], |t| resize_bilinear(&t[0], size, corners));
            }
        }
    }

    #[test]
    fn an_input_used_twice_keeps_both_gradients() {
        let grad = |swap: bool| {
            let v = Var::new(&[[[[1f64, 2.], [3., 4.]]]], &Device::Cpu).unwrap();
            let x = (v.as_tensor() * 1.0).unwrap();
            let up = |x: &Tensor| resize_nearest(x, (4, 4)).unwrap().sum_all().unwrap();
            let sqr = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap();
            let loss = if swap { (up(&x) + sqr(&x)).unwrap() } else { (sqr(&x) + up(&x)).unwrap() };
            let grads = loss.backward().unwrap();
            grads.get(&v).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        assert_eq!(grad(false), [6., 8., 10., 12.]);
        assert_eq!(grad(true), [6., 8., 10., 12.]);
    }
}
