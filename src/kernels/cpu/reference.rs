//! The convolutions as they are defined: plain loops.
//!
//! Owns: the specification of the heavy kernels. Must not know: how to be fast.

use super::{
    conv::{ConvSpec, Epilogue, Prologue},
    math::relu,
    transposed::TransposedSpec,
    view::{View, ViewMut},
};
use crate::kernels::Activation;
use std::ops::Range;

/// A function of one value; softmax is none.
pub fn activate(value: f32, activation: Option<Activation>) -> f32 {
    match activation {
        None | Some(Activation::Softmax) => value,
        Some(Activation::Relu) => relu(value),
        Some(Activation::Relu6) => value.clamp(0.0, 6.0),
        Some(Activation::Gelu) => value * 0.5 * (1.0 + erf(f64::from(value) * std::f64::consts::FRAC_1_SQRT_2) as f32),
        Some(Activation::Silu) => value / (1.0 + (-value).exp()),
        Some(Activation::Sigmoid) => 1.0 / (1.0 + (-value).exp()),
    }
}

/// The error function to about 1e-15, by its series and its continued fraction.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..60 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let mut f = 0.0;
        for n in (1..60).rev() {
            f = f64::from(n) / 2.0 / (a + f);
        }
        1.0 - (-a * a).exp() / ((a + f) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

fn finish(sum: f32, epilogue: &Epilogue<'_>, (y, x, c): (usize, usize, usize)) -> f32 {
    let sum = epilogue.scale.map_or(sum, |scale| sum * scale[c]);
    let f = epilogue.residual_factor.max(1);
    let residual = epilogue.residual.map_or(0.0, |r| r.at(y / f, x / f, c));
    let norm = |v: f32| epilogue.norm.map_or(v, |(scale, shift)| v * scale[c] + shift[c]);
    if epilogue.residual_before_activation {
        activate(norm(sum + residual), epilogue.activation)
    } else {
        activate(norm(sum), epilogue.activation) + residual
    }
}

fn prepared(value: f32, prologue: Option<Prologue<'_>>, channel: usize) -> f32 {
    prologue.map_or(value, |p| {
        let v = value * p.scale[channel] + p.shift[channel];
        if p.relu { relu(v) } else { v }
    })
}

/// `y[r, c, o] = Σ w[o, i, kr, kc] · x[r·stride + kr·dilation − top, c·stride + kc·dilation − left, i]`.
///
/// # Shapes
/// - `weights`: `[cout, cin / groups, kh, kw]`
pub fn conv(
    (spec, weights, bias): (&ConvSpec, &[f32], Option<&[f32]>),
    x: View<'_>,
    prologue: Option<Prologue<'_>>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
) {
    let (h, w, _) = x.size();
    let (_, out_w, _) = out.size();
    let (kh, kw) = spec.kernel;
    let (cin, cout) = (spec.cin / spec.groups, spec.cout / spec.groups);
    for (oy, ox, o) in each(rows, out_w, spec.cout) {
        let first = o / cout * cin;
        let mut sum = bias.map_or(0.0, |b| f64::from(b[o]));
        for ky in 0..kh {
            let Some(iy) = inside(oy * spec.stride + ky * spec.dilation, spec.pad.0, h) else { continue };
            for kx in 0..kw {
                let Some(ix) = inside(ox * spec.stride + kx * spec.dilation, spec.pad.1, w) else { continue };
                for i in 0..cin {
                    let weight = weights[((o * cin + i) * kh + ky) * kw + kx];
                    sum += f64::from(weight) * f64::from(prepared(x.at(iy, ix, first + i), prologue, first + i));
                }
            }
        }
        put(out, (oy, ox, o), finish(sum as f32, epilogue, (oy, ox, o)));
    }
}

/// `y[r·stride + kr − top, c·stride + kc − left, o] += w[i, o, kr, kc] · x[r, c, i]`.
///
/// # Shapes
/// - `weights`: `[cin, cout, k, k]`
pub fn transposed_conv(
    (spec, weights, bias): (&TransposedSpec, &[f32], Option<&[f32]>),
    x: View<'_>,
    epilogue: &Epilogue<'_>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
) {
    let (h, w, _) = x.size();
    let (_, out_w, _) = out.size();
    let k = spec.kernel;
    for (oy, ox, o) in each(rows, out_w, spec.cout) {
        let mut sum = bias.map_or(0.0, |b| f64::from(b[o]));
        for ky in 0..k {
            let Some(iy) = whole(oy + spec.crop.0, ky, spec.stride, h) else { continue };
            for kx in 0..k {
                let Some(ix) = whole(ox + spec.crop.1, kx, spec.stride, w) else { continue };
                for i in 0..spec.cin {
                    let weight = weights[((i * spec.cout + o) * k + ky) * k + kx];
                    sum += f64::from(weight) * f64::from(x.at(iy, ix, i));
                }
            }
        }
        put(out, (oy, ox, o), finish(sum as f32, epilogue, (oy, ox, o)));
    }
}

fn each(rows: Range<usize>, w: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    rows.flat_map(move |y| (0..w).flat_map(move |x| (0..c).map(move |c| (y, x, c))))
}

/// `at − pad` where that is inside.
fn inside(at: usize, pad: usize, size: usize) -> Option<usize> {
    at.checked_sub(pad).filter(|&i| i < size)
}

/// The `i` with `i · stride + k = at`.
fn whole(at: usize, k: usize, stride: usize, size: usize) -> Option<usize> {
    at.checked_sub(k).filter(|d| d.is_multiple_of(stride)).map(|d| d / stride).filter(|&i| i < size)
}

fn put(out: &mut ViewMut<'_>, (y, x, c): (usize, usize, usize), value: f32) {
    // SAFETY: the callers' loops stay inside the output's size, and `rows` was checked against what may be written.
    unsafe { *out.pixel(y, x).add(c) = value }
}
