//! Functions of single values and single pixels.
//!
//! Owns: activations, sums, gates, copies, channel means, softmax, pixels to floats. Must not know: graphs.

use super::{
    isa::Isa,
    math,
    simd::{Kernel, Simd, dispatch},
    view::{View, ViewMut},
};
use crate::kernels::Activation;
use std::ops::Range;

/// The most inputs [`add`] takes.
pub const MAX_ADDENDS: usize = 8;

/// `activation(x)`; softmax is over the channels of a pixel.
///
/// # Panics
/// If the sizes differ.
pub fn activate(isa: Isa, x: View<'_>, activation: Activation, out: &mut ViewMut<'_>, rows: Range<usize>) {
    if activation == Activation::Softmax {
        out.check(x.size(), &rows);
        // SAFETY: sizes and rows are checked.
        return unsafe { dispatch(isa, Softmax { x, out, rows }) };
    }
    add(isa, &[x], Some(activation), out, rows);
}

/// A copy, into a slice of a larger buffer for instance.
///
/// # Panics
/// If the sizes differ.
pub fn copy(isa: Isa, x: View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    add(isa, &[x], None, out, rows);
}

/// `activation(Σ inputs)`, summed in order.
///
/// # Panics
/// If the sizes differ or there are more than [`MAX_ADDENDS`].
pub fn add(isa: Isa, inputs: &[View<'_>], activation: Option<Activation>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    assert!((1..=MAX_ADDENDS).contains(&inputs.len()), "{} addends", inputs.len());
    inputs.iter().for_each(|x| out.check(x.size(), &rows));
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, Add { inputs, activation, out, rows }) }
}

/// `activation(x · scale + shift)`, channel by channel: a batch norm, or what group norm comes down to.
///
/// # Panics
/// If the sizes differ.
pub fn affine(
    isa: Isa,
    x: View<'_>,
    (scale, shift): (&[f32], &[f32]),
    activation: Option<Activation>,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
) {
    out.check(x.size(), &rows);
    let c = x.size().2;
    assert!(scale.len() == c && shift.len() == c, "factors of {c} channels");
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, Affine { x, scale, shift, activation, out, rows }) }
}

/// `x · gate` for a gate `[1, 1, c]`, `[h, w, 1]` or `[h, w, c]`.
///
/// # Panics
/// If the sizes do not fit.
pub fn multiply(isa: Isa, x: View<'_>, gate: View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (h, w, c) = x.size();
    out.check((h, w, c), &rows);
    let gate = if (gate.size().0, gate.size().1) == (1, 1) && (h, w) != (1, 1) { gate.spread(h, w) } else { gate };
    assert!(gate.size() == (h, w, c) || gate.size() == (h, w, 1), "gate {:?} of {:?}", gate.size(), x.size());
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, Multiply { x, gate, out, rows }) }
}

/// Mean over the channels: `[h, w, 1]`.
///
/// # Panics
/// If the sizes do not fit.
pub fn channel_mean(isa: Isa, x: View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (h, w, _) = x.size();
    out.check((h, w, 1), &rows);
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, OverChannels { x, max: false, out, rows }) }
}

/// Largest value over the channels: `[h, w, 1]`.
///
/// # Panics
/// If the sizes do not fit.
pub fn channel_max(isa: Isa, x: View<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (h, w, _) = x.size();
    out.check((h, w, 1), &rows);
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, OverChannels { x, max: true, out, rows }) }
}

/// 8-bit RGB to floats: `pixel · scale + shift`, channel by channel.
///
/// # Shapes
/// - `pixels`: `[h, w, 3]`
/// - `out`: `[h, w, 3]`
///
/// # Panics
/// If the sizes differ.
pub fn from_rgb(pixels: &[u8], scale: [f32; 3], shift: [f32; 3], out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (h, w, _) = out.size();
    out.check((h, w, 3), &rows);
    assert_eq!(pixels.len(), h * w * 3, "bytes of {h}x{w} pixels");
    for y in rows {
        for (x, rgb) in pixels[y * w * 3..][..w * 3].chunks_exact(3).enumerate() {
            let to = out.pixel(y, x);
            for c in 0..3 {
                // SAFETY: sizes and rows are checked.
                unsafe { *to.add(c) = f32::from(rgb[c]) * scale[c] + shift[c] }
            }
        }
    }
}

/// Calls `each(offset, lanes)` for the vectors of `n` floats; the last may be in part.
///
/// # Safety
/// As `each`.
#[inline(always)]
pub(super) unsafe fn vectors<S: Simd>(n: usize, mut each: impl FnMut(usize, usize)) {
    // Called in one place only, so that it is inlined: a closure has the instructions of the function it ends up in.
    let mut i = 0;
    while i < n {
        let lanes = (n - i).min(S::LANES);
        each(i, lanes);
        i += lanes;
    }
}

/// # Safety
/// `from` is good for `n` floats.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(from: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { S::load(from) } else { S::load_part(from, n) } }
}

/// # Safety
/// `to` is good for `n` floats.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(to: *mut f32, v: S::V, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { S::store(to, v) } else { S::store_part(to, v, n) } }
}

struct Add<'a, 'b> {
    inputs: &'a [View<'a>],
    activation: Option<Activation>,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for Add<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { inputs, activation, out, rows } = self;
        let (_, w, c) = out.size();
        let packed = out.layout().pixel_stride == c && inputs.iter().all(|x| x.layout().pixel_stride == c);
        // Pixels without gaps are one long run.
        let (runs, run) = if packed { (1, w * c) } else { (w, c) };
        for y in rows {
            for x in 0..runs {
                let mut from = [std::ptr::null(); MAX_ADDENDS];
                for (f, input) in from.iter_mut().zip(inputs) {
                    *f = input.pixel(y, x);
                }
                let (first, others) = (from[0], &from[1..inputs.len()]);
                let to = out.pixel(y, x);
                // SAFETY: `run` floats from each pixel on lie inside the views.
                unsafe {
                    vectors::<S>(run, |i, n| {
                        let mut v = load::<S>(first.add(i), n);
                        for o in others {
                            v = S::add(v, load::<S>(o.add(i), n));
                        }
                        store::<S>(to.add(i), math::activate::<S>(v, activation), n);
                    });
                }
            }
        }
    }
}

struct Affine<'a, 'b> {
    x: View<'a>,
    scale: &'a [f32],
    shift: &'a [f32],
    activation: Option<Activation>,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for Affine<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, scale, shift, activation, out, rows } = self;
        let (_, w, c) = out.size();
        for y in rows {
            for px in 0..w {
                let (from, to) = (x.pixel(y, px), out.pixel(y, px));
                // SAFETY: `c` floats from each pixel on lie inside the views and the factors.
                unsafe {
                    vectors::<S>(c, |i, n| {
                        let (a, b) = (load::<S>(scale.as_ptr().add(i), n), load::<S>(shift.as_ptr().add(i), n));
                        let v = S::fma(load::<S>(from.add(i), n), a, b);
                        store::<S>(to.add(i), math::activate::<S>(v, activation), n);
                    });
                }
            }
        }
    }
}

struct Multiply<'a, 'b> {
    x: View<'a>,
    gate: View<'a>,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for Multiply<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, gate, out, rows } = self;
        let (_, w, c) = out.size();
        let one = gate.size().2 == 1 && c != 1;
        for y in rows {
            for px in 0..w {
                let (from, by, to) = (x.pixel(y, px), gate.pixel(y, px), out.pixel(y, px));
                // SAFETY: `c` floats (of a narrow gate one) from each pixel on lie inside the views.
                unsafe {
                    let whole = S::splat(*by);
                    vectors::<S>(c, |i, n| {
                        let g = if one { whole } else { load::<S>(by.add(i), n) };
                        store::<S>(to.add(i), S::mul(load::<S>(from.add(i), n), g), n);
                    });
                }
            }
        }
    }
}

struct OverChannels<'a, 'b> {
    x: View<'a>,
    max: bool,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for OverChannels<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, max, out, rows } = self;
        let (_, w, c) = x.size();
        for y in rows {
            for px in 0..w {
                let from = x.pixel(y, px);
                // SAFETY: `c` floats from each pixel on lie inside the view.
                unsafe {
                    let value = if max { largest::<S>(from, c) } else { sum::<S>(from, c) / c as f32 };
                    *out.pixel(y, px) = value;
                }
            }
        }
    }
}

/// # Safety
/// `from` is good for `n` floats.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(from: *const f32, n: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut all = S::splat(0.0);
        vectors::<S>(n, |i, lanes| all = S::add(all, load::<S>(from.add(i), lanes)));
        total::<S>(all)
    }
}

/// The lanes added, by halves.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn total<S: Simd>(v: S::V) -> f32 {
    // SAFETY: the caller's promise.
    let mut lanes = unsafe { S::lanes(v) };
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// NaN where one is.
///
/// # Safety
/// `from` is good for `n` floats.
#[inline(always)]
pub(super) unsafe fn largest<S: Simd>(from: *const f32, n: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut all = S::splat(f32::NEG_INFINITY);
        let whole = n / S::LANES * S::LANES;
        vectors::<S>(whole, |i, _| all = S::larger(S::load(from.add(i)), all));
        let rest = std::slice::from_raw_parts(from.add(whole), n - whole);
        let (mut lanes, mut half) = (S::lanes(all), S::LANES / 2);
        while half > 0 {
            for i in 0..half {
                lanes[i] = math::larger(lanes[i], lanes[i + half]);
            }
            half /= 2;
        }
        rest.iter().fold(lanes[0], |a, &b| math::larger(a, b))
    }
}

struct Softmax<'a, 'b> {
    x: View<'a>,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for Softmax<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, out, rows } = self;
        let (_, w, c) = x.size();
        for y in rows {
            for px in 0..w {
                // SAFETY: `c` floats from each pixel on lie inside the views.
                unsafe { softmax::<S>(x.pixel(y, px), out.pixel(y, px), c) }
            }
        }
    }
}

/// `exp(x − max) / Σ exp(x − max)`.
///
/// # Safety
/// Both are good for `n` floats; they may be one.
#[inline(always)]
pub(super) unsafe fn softmax<S: Simd>(from: *const f32, to: *mut f32, n: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let top = S::splat(largest::<S>(from, n));
        // A loop, not `vectors`: this closure is too large to be inlined, and would lose its instructions.
        let mut i = 0;
        while i < n {
            let lanes = (n - i).min(S::LANES);
            let e = math::exp::<S>(S::sub(load::<S>(from.add(i), lanes), top));
            store::<S>(to.add(i), e, lanes);
            i += lanes;
        }
        let by = S::splat(1.0 / sum::<S>(to, n));
        vectors::<S>(n, |i, lanes| store::<S>(to.add(i), S::mul(load::<S>(to.add(i), lanes), by), lanes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::{
        conv::tests::{difference, numbers},
        reference,
    };

    const SIZES: [(usize, usize, usize); 4] = [(3, 5, 16), (2, 7, 37), (4, 4, 3), (1, 1, 100)];

    /// Runs `f` on every instruction set, in two bands, into a wider buffer; all must be `want(y, x, c)`.
    fn check(
        (h, w, c): (usize, usize, usize),
        tolerance: f32,
        want: impl Fn(usize, usize, usize) -> f32,
        f: impl Fn(Isa, &mut ViewMut<'_>, Range<usize>),
    ) {
        let want: Vec<f32> = (0..h * w * c).map(|i| want(i / (w * c), i / c % w, i % c)).collect();
        for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
            for stride in [c, c + 3] {
                let mut out = vec![5.0; h * w * stride];
                let (mut a, mut b) = ViewMut::new(&mut out, h, w, c, stride).split_at_row(h / 2);
                f(isa, &mut a, 0..h / 2);
                f(isa, &mut b, h / 2..h);
                let got: Vec<f32> = out.chunks(stride).flat_map(|px| px[..c].to_vec()).collect();
                let d = difference(&got, &want);
                assert!(d <= tolerance, "{isa:?} {h}x{w}x{c}: {d}");
                assert!(out.chunks(stride).all(|px| px[c..].iter().all(|&v| v == 5.0)), "{isa:?} wrote beside");
            }
        }
    }

    #[test]
    fn activations_are_their_formulas() {
        for (h, w, c) in SIZES {
            let x: Vec<f32> = numbers(1, h * w * c).iter().map(|v| v * 9.0).collect();
            let x = View::dense(&x, h, w, c);
            for a in [Activation::Relu, Activation::Relu6, Activation::Gelu, Activation::Silu, Activation::Sigmoid] {
                check(
                    (h, w, c),
                    1e-6,
                    |y, px, i| reference::activate(x.at(y, px, i), Some(a)),
                    |isa, out, rows| activate(isa, x, a, out, rows),
                );
            }
            let sum = |y, px| (0..c).map(|i| f64::from(x.at(y, px, i)).exp()).sum::<f64>();
            check(
                (h, w, c),
                1e-6,
                |y, px, i| (f64::from(x.at(y, px, i)).exp() / sum(y, px)) as f32,
                |isa, out, rows| activate(isa, x, Activation::Softmax, out, rows),
            );
        }
    }

    #[test]
    fn gelu_is_exact_to_a_millionth() {
        let x: Vec<f32> = (-8000..8000).map(|i| i as f32 * 1e-3).collect();
        let view = View::dense(&x, 1, x.len(), 1);
        for isa in Isa::ALL {
            let mut out = vec![0.0; x.len()];
            activate(isa, view, Activation::Gelu, &mut ViewMut::dense(&mut out, 1, x.len(), 1), 0..1);
            for (x, y) in x.iter().zip(&out) {
                let want = reference::activate(*x, Some(Activation::Gelu));
                assert!((y - want).abs() <= 1e-6 * x.abs().max(1.0), "{isa:?} gelu({x}) = {y}, not {want}");
            }
        }
    }

    #[test]
    fn extreme_values_stay_finite() {
        let x = [-1e30, -200.0, -88.5, -0.0, 88.5, 200.0, 1e30, 3e38];
        for isa in Isa::ALL {
            for a in [Activation::Gelu, Activation::Silu, Activation::Sigmoid, Activation::Softmax] {
                let mut out = vec![f32::NAN; x.len()];
                activate(isa, View::dense(&x, 1, 1, 8), a, &mut ViewMut::dense(&mut out, 1, 1, 8), 0..1);
                assert!(out.iter().all(|v| v.is_finite()), "{isa:?} {a:?}: {out:?}");
            }
        }
    }

    #[test]
    fn a_nan_stays_one_in_every_activation() {
        for (isa, c) in Isa::ALL.into_iter().flat_map(|isa| [1, 8, 16, 21, 40].map(|c| (isa, c))) {
            for a in [
                Activation::Relu,
                Activation::Relu6,
                Activation::Gelu,
                Activation::Silu,
                Activation::Sigmoid,
                Activation::Softmax,
            ] {
                for at in 0..c {
                    let mut x = numbers(1, c);
                    x[at] = f32::NAN;
                    let mut out = vec![0.0; c];
                    activate(isa, View::dense(&x, 1, 1, c), a, &mut ViewMut::dense(&mut out, 1, 1, c), 0..1);
                    let is_right = |i: usize| out[i].is_nan() == (i == at || a == Activation::Softmax);
                    assert!((0..c).all(is_right), "{isa:?} {a:?}: {out:?}");
                }
            }
        }
    }

    #[test]
    fn a_nan_is_the_largest_channel_and_the_mean() {
        for (isa, c) in Isa::ALL.into_iter().flat_map(|isa| [1, 8, 16, 21, 40].map(|c| (isa, c))) {
            for at in 0..c {
                let mut x = numbers(1, 2 * c);
                x[at] = f32::NAN;
                for f in [channel_max, channel_mean] {
                    let mut out = vec![0.0; 2];
                    f(isa, View::dense(&x, 1, 2, c), &mut ViewMut::dense(&mut out, 1, 2, 1), 0..1);
                    assert!(out[0].is_nan() && out[1].is_finite(), "{isa:?}, channel {at} of {c}: {out:?}");
                }
            }
        }
    }

    #[test]
    fn sums_gates_and_affine_maps_are_their_formulas() {
        for (h, w, c) in SIZES {
            let data: Vec<Vec<f32>> = (1..=3).map(|s| numbers(s, h * w * (c + 1))).collect();
            let [a, b, wide] =
                [View::dense(&data[0], h, w, c), View::dense(&data[1], h, w, c), View::new(&data[2], h, w, c, c + 1)];
            check(
                (h, w, c),
                1e-6,
                |y, x, i| (a.at(y, x, i) + b.at(y, x, i) + wide.at(y, x, i)).max(0.0),
                |isa, out, rows| add(isa, &[a, b, wide], Some(Activation::Relu), out, rows),
            );
            check((h, w, c), 0.0, |y, x, i| wide.at(y, x, i), |isa, out, rows| copy(isa, wide, out, rows));
            let (scale, shift) = (&data[1][..c], &data[2][..c]);
            check(
                (h, w, c),
                1e-6,
                |y, x, i| a.at(y, x, i) * scale[i] + shift[i],
                |isa, out, rows| affine(isa, a, (scale, shift), None, out, rows),
            );
            for gate in [View::dense(scale, 1, 1, c), View::dense(&data[1], h, w, 1), b] {
                let at = |y, x, i| match gate.size() {
                    (1, 1, _) if (h, w) != (1, 1) => gate.at(0, 0, i),
                    (_, _, 1) => gate.at(y, x, 0),
                    _ => gate.at(y, x, i),
                };
                check(
                    (h, w, c),
                    1e-6,
                    |y, x, i| wide.at(y, x, i) * at(y, x, i),
                    |isa, out, rows| {
                        multiply(isa, wide, gate, out, rows);
                    },
                );
            }
            let over = |y, x| (0..c).map(move |i| wide.at(y, x, i));
            check(
                (h, w, 1),
                1e-6,
                |y, x, _| over(y, x).sum::<f32>() / c as f32,
                |isa, out, rows| {
                    channel_mean(isa, wide, out, rows);
                },
            );
            check(
                (h, w, 1),
                0.0,
                |y, x, _| over(y, x).fold(f32::MIN, f32::max),
                |isa, out, rows| {
                    channel_max(isa, wide, out, rows);
                },
            );
        }
    }

    #[test]
    fn bytes_become_normalised_floats() {
        let pixels: Vec<u8> = (0..24).map(|v| v * 10).collect();
        let mut out = vec![0.0; 24];
        from_rgb(&pixels, [0.5, 1.0, 2.0], [1.0, 2.0, 3.0], &mut ViewMut::dense(&mut out, 2, 4, 3), 0..2);
        assert_eq!((out[0], out[4], out[23]), (1.0, 42.0, 463.0));
    }
}
