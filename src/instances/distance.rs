//! Distance to the background: exact, Euclidean, capped.
//!
//! Owns: [`squared_distance`]. Must not know: what the foreground is, nuclei.
//!
//! In integers, and of a pixel's value nothing farther than `cap_px` matters: what makes it local.
//! Source: the separable transform of Saito and Toriwaki 1994, cut at the cap.

/// Squared distance in px of each pixel to the nearest background pixel's centre, at most `cap_px²`; 0 on background.
///
/// What lies outside the picture is not background.
///
/// # Shapes
/// - `mask`: `[h, w]`, 1 foreground, 0 background
/// - `out`: `[h, w]`
pub(super) fn squared_distance(mask: &[u8], w: usize, cap_px: u8, scratch: &mut Vec<u8>, out: &mut Vec<i16>) {
    let h = mask.len() / w.max(1);
    out.clear();
    out.resize(mask.len(), 0);
    if w == 0 {
        return;
    }
    distance_along_columns(mask, w, cap_px, scratch);
    let cap = usize::from(cap_px);
    let mut squares = vec![i16::from(cap_px) * i16::from(cap_px); w + 2 * cap + LANES];
    for y in 0..h {
        let column = &scratch[y * w..][..w];
        squares[cap..cap + w].iter_mut().zip(column).for_each(|(s, &d)| *s = i16::from(d) * i16::from(d));
        for x0 in (0..w).step_by(LANES) {
            let x1 = (x0 + LANES).min(w);
            let farthest = column[x0..x1].iter().copied().max().unwrap_or(0);
            if farthest > 0 {
                let near = nearest_in_row(&squares[x0..], cap, usize::from(farthest));
                out[y * w + x0..y * w + x1].copy_from_slice(&near[..x1 - x0]);
            }
        }
    }
}

/// Pixels of a row worked on together.
const LANES: usize = 16;

/// `min over d of squares[x + d] + d²`, `d` up to `reach`, for [`LANES`] pixels that start `cap` into `squares`.
#[inline(always)]
fn nearest_in_row(squares: &[i16], cap: usize, reach: usize) -> [i16; LANES] {
    let mut best: [i16; LANES] = squares[cap..cap + LANES].try_into().expect("the row is padded");
    for d in 1..=reach.min(cap) {
        let left: &[i16; LANES] = squares[cap - d..cap - d + LANES].try_into().expect("the row is padded");
        let right: &[i16; LANES] = squares[cap + d..cap + d + LANES].try_into().expect("the row is padded");
        let square = (d * d) as i16;
        for i in 0..LANES {
            best[i] = best[i].min(left[i].min(right[i]) + square);
        }
    }
    best
}

/// Distance of each pixel to the nearest background pixel of its column, at most `cap_px`.
fn distance_along_columns(mask: &[u8], w: usize, cap_px: u8, out: &mut Vec<u8>) {
    let h = mask.len() / w;
    out.clear();
    out.resize(mask.len(), 0);
    let step = |previous: &[u8], mask: &[u8], to: &mut [u8]| {
        for ((to, &p), &m) in to.iter_mut().zip(previous).zip(mask) {
            // `m` is 0 or 1: 0 or all ones as a mask.
            *to = p.saturating_add(1).min(cap_px) & m.wrapping_neg();
        }
    };
    step(&vec![cap_px; w], &mask[..w], &mut out[..w]);
    for y in 1..h {
        let (above, here) = out.split_at_mut(y * w);
        step(&above[(y - 1) * w..], &mask[y * w..(y + 1) * w], &mut here[..w]);
    }
    for y in (0..h.saturating_sub(1)).rev() {
        let (here, below) = out.split_at_mut((y + 1) * w);
        for (to, &below) in here[y * w..].iter_mut().zip(&below[..w]) {
            *to = (*to).min(below.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute(mask: &[u8], w: usize, cap: u8) -> Vec<i16> {
        let at = |i: usize| ((i % w) as i32, (i / w) as i32);
        let squared = |i: usize, j: usize| (at(i).0 - at(j).0).pow(2) + (at(i).1 - at(j).1).pow(2);
        (0..mask.len())
            .map(|i| {
                let nearest = (0..mask.len()).filter(|&j| mask[j] == 0).map(|j| squared(i, j)).min();
                nearest.unwrap_or(i32::MAX).min(i32::from(cap).pow(2)) as i16
            })
            .collect()
    }

    proptest! {
        #[test]
        fn distances_equal_the_brute_force(
            w in 1usize..40, h in 1usize..30, cap in 1u8..20, seed in any::<u64>(), share in 1u64..40,
        ) {
            let mut state = seed | 1;
            let mask: Vec<u8> = (0..w * h)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    u8::from((state >> 33) % 40 >= share.min(6))
                })
                .collect();
            let mut out = Vec::new();
            squared_distance(&mask, w, cap, &mut Vec::new(), &mut out);
            prop_assert_eq!(out, brute(&mask, w, cap));
        }
    }
}
