//! The outline of tissue as polygons, for pictures.
//!
//! Owns: tracing cell edges. Must not know: who draws them.

use super::TissueMask;
use std::collections::BTreeMap;

/// Closed outlines along the edges of bitmap px, in level-0 px: tissue lies on the right-hand side when y points down
/// (outer edges run clockwise on screen, holes counter-clockwise). The first point is not repeated; points on a
/// straight edge are left out. Pieces that touch at a corner stay apart.
pub fn outlines(mask: &TissueMask) -> Vec<Vec<[f64; 2]>> {
    let (w, h) = (i64::from(mask.w), i64::from(mask.h));
    let set = |x: i64, y: i64| x >= 0 && y >= 0 && x < w && y < h && mask.bits[(y * w + x) as usize] != 0;
    // Directed edges by start `(y, x)`; at most two start at one corner. Directions: 0 right, 1 down, 2 left, 3 up.
    let mut edges: BTreeMap<(i64, i64), Vec<u8>> = BTreeMap::new();
    for y in 0..h {
        for x in (0..w).filter(|&x| set(x, y)) {
            let sides = [
                (!set(x, y - 1), y, x, 0),
                (!set(x + 1, y), y, x + 1, 1),
                (!set(x, y + 1), y + 1, x + 1, 2),
                (!set(x - 1, y), y + 1, x, 3),
            ];
            for (_, y, x, direction) in sides.into_iter().filter(|side| side.0) {
                edges.entry((y, x)).or_default().push(direction);
            }
        }
    }
    let mut all = Vec::new();
    while let Some((&start, _)) = edges.first_key_value() {
        let mut outline = Vec::new();
        let (mut at, mut last) = (start, None);
        while let Some(directions) = edges.get_mut(&at) {
            // Turning right first keeps pieces that touch at a corner apart.
            let right = last.map(|d: u8| (d + 1) % 4);
            let choice = directions.iter().position(|&d| Some(d) == right).unwrap_or(0);
            let direction = directions.swap_remove(choice);
            if directions.is_empty() {
                edges.remove(&at);
            }
            if last != Some(direction) {
                outline.push([at.1 as f64 * mask.step_x, at.0 as f64 * mask.step_y]);
            }
            last = Some(direction);
            let (dy, dx) = [(0, 1), (1, 0), (0, -1), (-1, 0)][direction as usize];
            at = (at.0 + dy, at.1 + dx);
            if at == start {
                break;
            }
        }
        all.push(outline);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(w: u32, bits: &[u8]) -> TissueMask {
        TissueMask { bits: bits.to_vec(), w, h: bits.len() as u32 / w, step_x: 10.0, step_y: 20.0 }
    }

    #[test]
    fn one_px_has_four_corners_in_level_0_px() {
        let all = outlines(&mask(3, &[0, 0, 0, 0, 1, 0, 0, 0, 0]));
        assert_eq!(all, [[[10.0, 20.0], [20.0, 20.0], [20.0, 40.0], [10.0, 40.0]]]);
        assert!(outlines(&mask(2, &[0, 0])).is_empty());
    }

    #[test]
    fn a_ring_has_two_outlines_and_corner_neighbours_stay_apart() {
        assert_eq!(outlines(&mask(3, &[1, 1, 1, 1, 0, 1, 1, 1, 1])).len(), 2);
        let all = outlines(&mask(2, &[1, 0, 0, 1]));
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
    }
}
