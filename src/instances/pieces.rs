//! Pieces of a nucleus: a division may cut it in two.
//!
//! Owns: [`keep_largest_piece`]. Must not know: how nuclei are found.

use super::instance::Run;

/// Moves the runs of the largest 4-connected piece (of equals the first) to the front; returns how many.
pub(super) fn keep_largest_piece(runs: &mut [Run], pieces: &mut Vec<u32>) -> usize {
    let is_column = |pair: &[Run]| pair[1].y == pair[0].y + 1 && pair[0].x0 < pair[1].x1 && pair[1].x0 < pair[0].x1;
    if runs.windows(2).all(is_column) {
        return runs.len();
    }
    // Union by the first run: `pieces[i]` is the first run of run i's piece, or leads to it.
    pieces.clear();
    pieces.extend(0..runs.len() as u32);
    fn root(pieces: &[u32], mut i: u32) -> u32 {
        while pieces[i as usize] != i {
            i = pieces[i as usize];
        }
        i
    }
    let mut above = 0;
    for i in 0..runs.len() {
        while runs[above].y + 1 < runs[i].y {
            above += 1;
        }
        for j in (above..i).take_while(|&j| runs[j].y < runs[i].y) {
            if runs[j].x0 < runs[i].x1 && runs[i].x0 < runs[j].x1 {
                let (a, b) = (root(pieces, i as u32), root(pieces, j as u32));
                pieces[a.max(b) as usize] = a.min(b);
            }
        }
    }
    let mut areas = vec![0u64; runs.len()];
    for (i, run) in runs.iter().enumerate() {
        areas[root(pieces, i as u32) as usize] += u64::from(run.x1 - run.x0);
    }
    let largest = (0..areas.len()).max_by_key(|&i| (areas[i], std::cmp::Reverse(i))).unwrap_or(0) as u32;
    let mut kept = 0;
    for i in 0..runs.len() {
        if root(pieces, i as u32) == largest {
            runs[kept] = runs[i];
            kept += 1;
        }
    }
    kept
}
