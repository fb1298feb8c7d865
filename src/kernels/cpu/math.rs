//! Functions of vectors, and of single floats beside them.
//!
//! Owns: [`exp`], [`erf`], [`activate`], [`relu`]. Must not know: kernels.
//!
//! A NaN stays one in all of them, as in PyTorch: a network that went wrong must say so in its outputs.

use super::simd::Simd;
use crate::kernels::Activation;

/// `exp(x)` with a relative error below 2e-7; below −87 it is `exp(−87)`, above 88 `exp(88)`.
///
/// Source: Cephes `expf`.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::clamp(x, S::splat(-87.0), S::splat(88.0));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first exact for every n.
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = S::fma(p, r, S::splat(c));
        }
        let p = S::add(S::fma(S::mul(p, r), r, r), S::splat(1.0));
        S::scale(p, n)
    }
}

/// The error function with an error below 1e-6.
///
/// Source: Eigen's `generic_fast_erf`, a rational function on −4 to 4.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = S::clamp(x, S::splat(-4.0), S::splat(4.0));
        let x2 = S::mul(x, x);
        let mut p = S::splat(-2.726_142_4e-10);
        for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2] {
            p = S::fma(p, x2, S::splat(c));
        }
        let mut q = S::splat(-1.456_607_2e-5);
        for c in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
            q = S::fma(q, x2, S::splat(c));
        }
        S::div(S::mul(x, p), q)
    }
}

/// `max(x, 0)` of one float; not `f32::max`, which drops a NaN.
#[inline(always)]
pub(super) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// The larger of two floats; NaN where either is one, which `f32::max` drops.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// A function of every lane; softmax and none leave it.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(v: S::V, activation: Option<Activation>) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::splat(1.0);
        match activation {
            None | Some(Activation::Softmax) => v,
            Some(Activation::Relu) => S::relu(v),
            Some(Activation::Relu6) => S::clamp(v, S::splat(0.0), S::splat(6.0)),
            Some(Activation::Gelu) => {
                let phi = S::add(erf::<S>(S::mul(v, S::splat(std::f32::consts::FRAC_1_SQRT_2))), one);
                S::mul(S::mul(v, S::splat(0.5)), phi)
            }
            Some(Activation::Silu) => S::div(v, S::add(one, exp::<S>(S::sub(S::splat(0.0), v)))),
            Some(Activation::Sigmoid) => S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), v)))),
        }
    }
}
