use super::*;
use crate::kernels::{
    Pool, ResizeMode,
    cpu::{
        Aligned, ConvSpec, Isa, View, ViewMut,
        conv::tests::{difference, numbers},
    },
};

/// Settings with the size of their input: few and many channels, all steps, groups, dilation, odd rests.
const SPECS: [(ConvSpec, (usize, usize)); 11] = {
    const fn spec(
        cin: usize,
        cout: usize,
        k: usize,
        stride: usize,
        pad: usize,
        dilation: usize,
        groups: usize,
    ) -> ConvSpec {
        ConvSpec { cin, cout, kernel: (k, k), stride, pad: (pad, pad), dilation, groups }
    }
    [
        (spec(3, 20, 7, 2, 3, 1, 1), (18, 23)),
        (spec(40, 36, 3, 1, 1, 1, 1), (11, 13)),
        (spec(40, 8, 3, 2, 1, 1, 1), (10, 13)),
        (spec(17, 70, 1, 1, 0, 1, 1), (9, 120)),
        (spec(24, 33, 1, 2, 0, 1, 1), (9, 8)),
        (spec(16, 16, 3, 1, 2, 2, 1), (9, 11)),
        (spec(2, 1, 7, 1, 3, 1, 1), (8, 9)),
        (spec(21, 21, 3, 2, 1, 1, 21), (12, 11)),
        (spec(33, 33, 5, 1, 2, 1, 33), (7, 9)),
        (spec(24, 16, 3, 2, 1, 1, 4), (8, 10)),
        (spec(8, 8, 2, 3, 0, 1, 1), (10, 9)),
    ]
};

fn out_size(spec: &ConvSpec, (h, w): (usize, usize)) -> (usize, usize) {
    let side = |s: usize| (s + 2 * spec.pad.0 - spec.dilation * (spec.kernel.0 - 1) - 1) / spec.stride + 1;
    (side(h), side(w))
}

/// The definition: gradients of weights and input by plain loops in double precision.
fn reference(spec: &ConvSpec, x: &Maps<'_>, dy: &Maps<'_>, weights: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let ConvSpec { cin, cout, kernel: (kh, kw), stride, pad, dilation, groups } = *spec;
    let (each_in, each_out) = (cin / groups, cout / groups);
    let mut dw = vec![0.0_f64; weights.len()];
    let mut dx = vec![0.0_f64; x.n * x.h * x.w * cin];
    for (n, oy, ox, o) in (0..dy.n)
        .flat_map(|n| (0..dy.h).flat_map(move |y| (0..dy.w).flat_map(move |x| (0..cout).map(move |o| (n, y, x, o)))))
    {
        let g = f64::from(dy.view(n).at(oy, ox, o));
        for (ky, kx, i) in (0..kh).flat_map(|ky| (0..kw).flat_map(move |kx| (0..each_in).map(move |i| (ky, kx, i)))) {
            let at = |o: usize, k: usize, pad: usize, side: usize| {
                (o * stride + k * dilation).checked_sub(pad).filter(|v| *v < side)
            };
            let (Some(y), Some(v)) = (at(oy, ky, pad.0, x.h), at(ox, kx, pad.1, x.w)) else { continue };
            let c = o / each_out * each_in + i;
            let weight = ((o * each_in + i) * kh + ky) * kw + kx;
            dw[weight] += g * f64::from(x.view(n).at(y, v, c));
            dx[((n * x.h + y) * x.w + v) * cin + c] += g * f64::from(weights[weight]);
        }
    }
    let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect();
    (narrow(dw), narrow(dx))
}

#[test]
fn gradients_of_convolutions_are_as_defined_on_every_isa() {
    for (spec, (h, w)) in SPECS {
        let (n, (out_h, out_w)) = (3, out_size(&spec, (h, w)));
        let (x, dy) = (numbers(1, n * h * w * spec.cin), numbers(2, n * out_h * out_w * spec.cout));
        let (x, dy) = (Maps::new(&x, [n, h, w, spec.cin]), Maps::new(&dy, [n, out_h, out_w, spec.cout]));
        let weights = numbers(3, spec.weight_count());
        let (dw, dx) = reference(&spec, &x, &dy, &weights);
        for isa in Isa::ALL.into_iter().filter(|isa| *isa <= Isa::best()) {
            let found = match spec.groups {
                1 => weight_gradient(isa, &spec, x, dy),
                groups if groups == spec.cin => depthwise_weight_gradient(isa, &spec, x, dy),
                _ => vec![],
            };
            assert!(found.is_empty() || difference(&found, &dw) < 2e-6, "{isa:?} weights of {spec:?}");
            let op = DataGradient::new(spec, (h, w), &weights, isa, Aligned::default()).unwrap();
            let mut scratch = vec![0.0; op.scratch_floats(out_w)];
            for image in 0..n {
                let expected = &dx[image * h * w * spec.cin..][..h * w * spec.cin];
                let mut found = vec![7.0; expected.len()];
                let mut to = ViewMut::dense(&mut found, h, w, spec.cin);
                let half = (h / 2).next_multiple_of(op.row_step()).min(h);
                op.run(dy.view(image), None, &mut to, 0..half, &mut scratch);
                op.run(dy.view(image), None, &mut to, half..h, &mut scratch);
                assert!(difference(&found, expected) < 1e-5, "{isa:?} input of {spec:?}");
                let before = found.clone();
                let mut to = ViewMut::dense(&mut found, h, w, spec.cin);
                op.run(dy.view(image), Some(View::dense(&before, h, w, spec.cin)), &mut to, 0..h, &mut scratch);
                let twice: Vec<f32> = expected.iter().map(|v| 2.0 * v).collect();
                assert!(difference(&found, &twice) < 1e-5, "{isa:?} input of {spec:?}, added");
            }
        }
    }
}

#[test]
fn padding_beyond_the_kernel_is_refused() {
    let spec = ConvSpec { pad: (2, 2), ..ConvSpec::same(2, 2, 3) };
    let wide = ConvSpec { pad: (3, 3), ..spec };
    let new = |spec| DataGradient::new(spec, (9, 9), &[0.0; 36], Isa::Portable, Aligned::default());
    assert!(new(spec).is_some() && new(wide).is_none());
    assert!(new(ConvSpec { stride: 2, dilation: 2, ..spec }).is_none());
}

#[test]
fn moments_survive_a_large_mean() {
    let x: Vec<f32> = numbers(5, 2 * 40 * 30 * 5).into_iter().map(|v| 1000.0 + v).collect();
    let [means, squares] = moments(Isa::best(), Maps::new(&x, [2, 40, 30, 5]));
    for i in 0..10 {
        let values: Vec<f64> = x[i / 5 * 6000..][..6000].iter().skip(i % 5).step_by(5).map(|v| f64::from(*v)).collect();
        let mean = values.iter().sum::<f64>() / 1200.0;
        let square: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        assert!((means[i] - mean).abs() < 1e-5, "{} {mean}", means[i]);
        assert!((squares[i] / square - 1.0).abs() < 1e-4, "{} {square}", squares[i]);
    }
}

#[test]
fn winners_take_the_gradient_and_nan_wins() {
    let x = [1.0, 1.0, 0.5, f32::NAN, 9.0, 2.0];
    let (mut y, mut winners) = (vec![0.0; 3], vec![0; 3]);
    let pool = Pool { kernel: 2, stride: 2, pad: 0 };
    max_pool_winners(
        Isa::best(),
        Maps::new(&x, [1, 1, 6, 1]),
        Pool { kernel: 1, stride: 2, pad: 0 },
        (1, 3),
        (&mut y, &mut winners),
    );
    assert_eq!(y, [1.0, 0.5, 9.0]);
    let x = [1.0, 1.0, 0.5, f32::NAN, 1.0, 1.0, 9.0, 2.0];
    let (mut y, mut winners) = (vec![0.0; 2], vec![0; 2]);
    max_pool_winners(Isa::best(), Maps::new(&x, [1, 2, 4, 1]), pool, (1, 2), (&mut y, &mut winners));
    assert!(y[0] == 1.0 && y[1].is_nan());
    assert_eq!(winners, [0, 1]);
    let mut dx = vec![5.0; 8];
    max_pool_gradient(Isa::best(), Maps::new(&[3.0, 4.0], [1, 1, 2, 1]), &winners, pool, (2, 4), &mut dx);
    assert_eq!(dx, [3.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_resize_gives_back_what_it_took() {
    // The shares of an output add up to one, so the gradient of a sum adds up to the number of outputs.
    for mode in [ResizeMode::Nearest, ResizeMode::Bilinear, ResizeMode::BilinearCorners] {
        let axes = [AxisTaps::resize(mode, 5, 15), AxisTaps::resize(mode, 4, 12)];
        let mut dx = vec![0.0; 5 * 4 * 2];
        resize_gradient(Isa::best(), Maps::new(&[1.0; 15 * 12 * 2], [1, 15, 12, 2]), &axes[0], &axes[1], &mut dx);
        assert!((dx.iter().sum::<f32>() - 360.0).abs() < 1e-3, "{mode:?}");
    }
}

#[test]
fn a_nan_is_not_held_back_by_a_clamp() {
    for clamp in [Clamp::RELU, Clamp::RELU6] {
        let (y, mut g) = ([-1.0, 0.0, 0.5, f32::NAN, 6.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
        clamped(Isa::best(), &y, &mut g, clamp);
        assert_eq!(g, [0.0, 0.0, 3.0, 4.0, if clamp == Clamp::RELU { 5.0 } else { 0.0 }]);
    }
}
