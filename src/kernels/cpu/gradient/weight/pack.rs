//! Copies of a chunk's rows: the input padded, the result's gradient by blocks.
//!
//! Owns: [`pack_given`], [`pack_input`]. Must not know: sums.

use super::{BLOCK, Group, Job, TILE};
use crate::kernels::cpu::{elementwise::load, simd::Simd};

/// A block of channels of the result's gradient, pixel after pixel.
///
/// # Safety
/// `to` is good for all pixels.
#[inline(always)]
pub(super) unsafe fn pack_given<S: Simd>(
    job: &Job<'_>,
    groups: &[Group],
    (first, width): (usize, usize),
    mut to: *mut f32,
) {
    for group in groups {
        for y in group.rows.clone() {
            let from = job.dy.pixel(group.image, y, 0).wrapping_add(first);
            for x in 0..job.dy.w {
                let from = from.wrapping_add(x * job.dy.pixel_stride());
                for i in (0..width).step_by(S::LANES) {
                    let n = (job.spec.cout - first - i).min(S::LANES);
                    // SAFETY: `n` channels from here on are the pixel's.
                    unsafe { S::store(to.add(i), load::<S>(from.add(i), n)) }
                }
                to = to.wrapping_add(width);
            }
        }
    }
}

/// A block of the padded input, `[group, row, column, 16]`, or its rows as they are.
///
/// # Safety
/// `to` is good for the strip.
#[inline(always)]
pub(super) unsafe fn pack_input<S: Simd>(job: &Job<'_>, groups: &[Group], block: usize, mut to: *mut f32) {
    let (x, spec, row) = (job.x, job.spec, job.strip_row().0);
    let values = if job.by_rows { spec.cin } else { BLOCK };
    let columns = (job.dy.w - 1) * spec.stride + (spec.kernel.1 - 1) * spec.dilation + 1;
    let first = block * BLOCK;
    let inside = spec.pad.1.min(columns)..(spec.pad.1 + x.w).min(columns).max(spec.pad.1.min(columns));
    for group in groups {
        for r in 0..job.strip_rows(group.rows.len()) {
            let y = (group.rows.start * spec.stride + r).checked_sub(spec.pad.0).filter(|&y| y < x.h);
            // SAFETY: the row is one of the strip, pixels inside are the input's.
            unsafe {
                match y {
                    None => std::ptr::write_bytes(to, 0, row),
                    Some(y) => {
                        std::ptr::write_bytes(to, 0, inside.start * values);
                        std::ptr::write_bytes(to.add(inside.end * values), 0, row - inside.end * values);
                        let from = x.pixel(group.image, y, 0).wrapping_add(first);
                        for column in inside.clone() {
                            let (from, to) =
                                (from.wrapping_add((column - spec.pad.1) * x.pixel_stride()), to.add(column * values));
                            if job.by_rows {
                                (0..values).for_each(|i| *to.add(i) = *from.add(i));
                                continue;
                            }
                            for i in (0..BLOCK).step_by(S::LANES) {
                                let n = (spec.cin - first).saturating_sub(i).min(S::LANES);
                                S::store(to.add(i), load::<S>(from.wrapping_add(i), n));
                            }
                        }
                    }
                }
            }
            to = to.wrapping_add(row);
        }
    }
    // SAFETY: the strip ends with a tile more.
    unsafe { std::ptr::write_bytes(to, 0, TILE) }
}
