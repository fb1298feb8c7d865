//! What is done to sums that a tile's clamp cannot do.
//!
//! Owns: [`clamp`], [`finish`]. Must not know: how the sums were formed.

use super::Epilogue;
use crate::kernels::{
    Activation,
    cpu::{
        elementwise::{load, store},
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

/// Scale, residual, norm and activation of sums in the output.
///
/// # Safety
/// The epilogue fits the output; the rows may be written.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(e: &Epilogue<'_>, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let (_, out_w, cout) = out.size();
    let f = e.residual_factor.max(1);
    // Pixels without gaps are one long run: what has few channels still fills vectors.
    let gapless = out.layout().pixel_stride == cout
        && e.scale.is_none()
        && e.norm.is_none()
        && e.residual.is_none_or(|r| f == 1 && r.layout().pixel_stride == cout);
    let (runs, run) = if gapless { (1, out_w * cout) } else { (out_w, cout) };
    for (y, x) in rows.flat_map(|y| (0..runs).map(move |x| (y, x))) {
        let to = out.pixel(y, x);
        let residual = e.residual.map_or(std::ptr::null(), |r| r.pixel(y / f, x / f));
        let scale = e.scale.map_or(std::ptr::null(), <[f32]>::as_ptr);
        // SAFETY: `run` floats from each pixel on lie inside the views, `cout` inside the scale.
        unsafe { finish_run::<S>(e, (scale, residual), to, run) }
    }
}

/// [`finish`] of floats side by side.
///
/// # Safety
/// All are good for `run` floats, the scale and the residual unless they are null.
#[inline(always)]
unsafe fn finish_run<S: Simd>(e: &Epilogue<'_>, (scale, residual): (*const f32, *const f32), to: *mut f32, run: usize) {
    let mut i = 0;
    // A loop, not `vectors`: a closure this large is not inlined, and loses its instructions (a GELU takes ten times as long).
    while i < run {
        let n = (run - i).min(S::LANES);
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = load::<S>(to.add(i), n);
            if !scale.is_null() {
                v = S::mul(v, load::<S>(scale.add(i), n));
            }
            if !residual.is_null() && e.residual_before_activation {
                v = S::add(v, load::<S>(residual.add(i), n));
            }
            if let Some((scale, shift)) = e.norm {
                v = S::fma(v, load::<S>(scale.as_ptr().add(i), n), load::<S>(shift.as_ptr().add(i), n));
            }
            v = math::activate::<S>(v, e.activation);
            if !residual.is_null() && !e.residual_before_activation {
                v = S::add(v, load::<S>(residual.add(i), n));
            }
            store::<S>(to.add(i), v, n);
        }
        i += n;
    }
}
