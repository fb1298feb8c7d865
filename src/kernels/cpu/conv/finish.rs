//! What is done to sums that a tile's clamp cannot do.
//!
//! Owns: [`clamp`], [`finish`]. Must not know: how the sums were formed.

use super::Epilogue;
use crate::kernels::{
    Activation,
    cpu::{
        elementwise::{load, store, vectors},
        math,
        simd::Simd,
        view::ViewMut,
    },
};
use std::ops::Range;

/// The bounds that an activation comes down to; `None` if it needs more than that.
pub(super) fn clamp(activation: Option<Activation>) -> Option<Option<(f32, f32)>> {
    match activation {
        None => Some(None),
        Some(Activation::Relu) => Some(Some((0.0, f32::INFINITY))),
        Some(Activation::Relu6) => Some(Some((0.0, 6.0))),
        Some(_) => None,
    }
}

/// Scale, residual and activation of sums in the output.
///
/// # Safety
/// The epilogue fits the output; the rows may be written.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(e: &Epilogue<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (_, out_w, cout) = out.size();
    let f = e.residual_factor.max(1);
    for (y, x) in rows.flat_map(|y| (0..out_w).map(move |x| (y, x))) {
        let to = out.pixel(y, x);
        let residual = e.residual.map(|r| r.pixel(y / f, x / f));
        // SAFETY: `cout` floats from each pixel on lie inside the views and the scale.
        unsafe {
            vectors::<S>(cout, |i, n| {
                let mut v = load::<S>(to.add(i), n);
                if let Some(scale) = e.scale {
                    v = S::mul(v, load::<S>(scale.as_ptr().add(i), n));
                }
                let r = residual.map(|r| load::<S>(r.add(i), n));
                if let Some(r) = r.filter(|_| e.residual_before_activation) {
                    v = S::add(v, r);
                }
                v = math::activate::<S>(v, e.activation);
                if let Some(r) = r.filter(|_| !e.residual_before_activation) {
                    v = S::add(v, r);
                }
                store::<S>(to.add(i), v, n);
            });
        }
    }
}
