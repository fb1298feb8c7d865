//! Tidying a bitmap: smoothing, dropping specks, filling holes.
//!
//! Owns: operations on `[h, w]` bitmaps of 0 and 1. Must not know: µm; the caller converts areas to px.

use rayon::prelude::*;

/// 3×3 closing: gaps of one px close. Idempotent.
pub fn close(bits: &[u8], w: usize) -> Vec<u8> {
    erode(&dilate(bits, w, 1), w, 1)
}

/// 3×3 opening: specks and threads of one px vanish. Idempotent.
pub fn open(bits: &[u8], w: usize) -> Vec<u8> {
    dilate(&erode(bits, w, 1), w, 1)
}

/// 1 where any px within `radius` along x and y is 1.
pub(super) fn dilate(bits: &[u8], w: usize, radius: usize) -> Vec<u8> {
    windowed(bits, w, radius, |set, _| set > 0)
}

/// 1 where all px within `radius` along x and y are 1; what lies outside the bitmap does not count.
pub(super) fn erode(bits: &[u8], w: usize, radius: usize) -> Vec<u8> {
    windowed(bits, w, radius, |set, all| set == all)
}

/// A square window, as one pass along x and one along y.
fn windowed(bits: &[u8], w: usize, radius: usize, keep: impl Fn(u32, u32) -> bool + Sync) -> Vec<u8> {
    if w == 0 || bits.is_empty() {
        return Vec::new();
    }
    let h = bits.len() / w;
    let window = |i: usize, n: usize| (i.saturating_sub(radius), (i + radius + 1).min(n));
    let mut across = vec![0_u8; bits.len()];
    across.par_chunks_exact_mut(w).zip(bits.par_chunks_exact(w)).for_each_init(Vec::new, |sums, (out, row)| {
        sums.clear();
        sums.push(0_u32);
        sums.extend(row.iter().scan(0_u32, |sum, &bit| {
            *sum += u32::from(bit);
            Some(*sum)
        }));
        for (i, out) in out.iter_mut().enumerate() {
            let (from, to) = window(i, w);
            *out = u8::from(keep(sums[to] - sums[from], (to - from) as u32));
        }
    });
    // Along y whole rows are added and taken away: what lies beside each other in memory is worked on together.
    let row = |y: usize| across[y * w..][..w].iter().map(|&bit| u32::from(bit));
    let mut out = vec![0_u8; bits.len()];
    let mut sums = vec![0_u32; w];
    let mut last = (0, 0);
    for (y, out) in out.chunks_exact_mut(w).enumerate() {
        let (from, to) = window(y, h);
        (last.1..to).for_each(|y| sums.iter_mut().zip(row(y)).for_each(|(sum, bit)| *sum += bit));
        (last.0..from).for_each(|y| sums.iter_mut().zip(row(y)).for_each(|(sum, bit)| *sum -= bit));
        last = (from, to);
        let all = (to - from) as u32;
        out.iter_mut().zip(&sums).for_each(|(out, &set)| *out = u8::from(keep(set, all)));
    }
    out
}

/// Pieces of 1 (8-connected) with fewer than `min_px` become 0. Idempotent.
pub fn drop_small(bits: &mut [u8], w: usize, min_px: f64) {
    pieces(bits, w, 1, true, |piece, _at_edge, bits| {
        if (piece.len() as f64) < min_px {
            piece.iter().for_each(|&i| bits[i as usize] = 0);
        }
    });
}

/// Pieces of 0 (4-connected) with fewer than `max_px` that do not touch the edge become 1. Idempotent.
pub fn fill_holes(bits: &mut [u8], w: usize, max_px: f64) {
    pieces(bits, w, 0, false, |piece, at_edge, bits| {
        if !at_edge && (piece.len() as f64) < max_px {
            piece.iter().for_each(|&i| bits[i as usize] = 1);
        }
    });
}

/// Calls `visit` with the indices of each connected piece of `value`, and whether it touches the edge.
fn pieces(bits: &mut [u8], w: usize, value: u8, diagonal: bool, mut visit: impl FnMut(&[u32], bool, &mut [u8])) {
    let mut seen = vec![false; bits.len()];
    let mut piece = Vec::new();
    for start in 0..bits.len() {
        if seen[start] || bits[start] != value {
            continue;
        }
        piece.clear();
        piece.push(start as u32);
        seen[start] = true;
        let (mut next, mut at_edge) = (0, false);
        while next < piece.len() {
            at_edge |= neighbours(piece[next] as usize, w, bits.len(), diagonal, |i| {
                if !seen[i] && bits[i] == value {
                    seen[i] = true;
                    piece.push(i as u32);
                }
            });
            next += 1;
        }
        visit(&piece, at_edge, bits);
    }
}

/// Calls `visit` with the neighbours of px `i` inside the bitmap; whether some lie outside.
pub(super) fn neighbours(i: usize, w: usize, len: usize, diagonal: bool, mut visit: impl FnMut(usize)) -> bool {
    let (x, y, h) = (i % w, i / w, len / w);
    let mut outside = false;
    for (dy, dx) in [(0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)] {
        if !diagonal && dy != 0 && dx != 0 {
            break;
        }
        match (x.checked_add_signed(dx), y.checked_add_signed(dy)) {
            (Some(nx), Some(ny)) if nx < w && ny < h => visit(ny * w + nx),
            _ => outside = true,
        }
    }
    outside
}
