//! Convex hull of an instance on the pixel grid, as regionprops draws and measures it.
//!
//! Owns: [`convex_hull`], [`Hull`]. Must not know: units.
//! Source: scikit-image 0.26 `morphology/convex_hull.py` with `offset_coordinates` (each pixel is the diamond of its
//! edges' midpoints, borders belong to the hull) and `RegionProperties.feret_diameter_max` (farthest two points of the
//! 0.5 contour of that picture). Differs: exact integers in half pixels instead of Qhull.

use super::{Run, measure::Bounds};

/// What is measured of the hull.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hull {
    /// Pixels whose centre the hull covers: `area_convex`.
    pub(super) area_convex_px: u64,
    /// Farthest two midpoints of pixel edges on the outline of those pixels.
    pub(super) feret_diameter_max_px: f64,
}

/// First and last pixel of a row, relative to the bounding box; first > last where the row is empty.
type Extent = (i64, i64);
/// A point in half pixels.
type Point = (i64, i64);

/// Hull of `runs`.
pub(super) fn convex_hull(runs: &[Run], bounds: &Bounds) -> Hull {
    let mut rows: Vec<Extent> = vec![(i64::MAX, i64::MIN); bounds.height() as usize];
    for run in runs {
        let (first, last) = &mut rows[(run.y - bounds.y0) as usize];
        *first = (*first).min(i64::from(run.x0 - bounds.x0));
        *last = (*last).max(i64::from(run.x1 - bounds.x0) - 1);
    }
    let (mut left, mut right) = chains(&rows);
    fill(&left, &right, &mut rows);
    let area_convex_px = rows.iter().map(|(first, last)| (last - first + 1) as u64).sum();
    // The filled pixels are diamonds too, and their hull may be larger than the first.
    (left, right) = chains(&rows);
    left.extend(right.iter().rev());
    // Both chains may end in the same point at the top and at the bottom.
    left.dedup();
    if left.first() == left.last() {
        left.pop();
    }
    Hull { area_convex_px, feret_diameter_max_px: (diameter_squared(&left) as f64).sqrt() / 2.0 }
}

/// Left and right side of the hull of the diamonds, top to bottom, without collinear points.
fn chains(rows: &[Extent]) -> (Vec<Point>, Vec<Point>) {
    let mut left = Vec::with_capacity(2 * rows.len() + 1);
    let mut right = Vec::with_capacity(2 * rows.len() + 1);
    let mut above = (i64::MAX, i64::MIN);
    for (y, &(first, last)) in rows.iter().enumerate() {
        let level = 2 * y as i64;
        // Between two rows, the lower tips of one and the upper tips of the other.
        let (tip_first, tip_last) = (above.0.min(first), above.1.max(last));
        if tip_first <= tip_last {
            push(&mut left, (2 * tip_first, level - 1), -1);
            push(&mut right, (2 * tip_last, level - 1), 1);
        }
        if first <= last {
            push(&mut left, (2 * first - 1, level), -1);
            push(&mut right, (2 * last + 1, level), 1);
        }
        above = (first, last);
    }
    let level = 2 * rows.len() as i64 - 1;
    push(&mut left, (2 * above.0, level), -1);
    push(&mut right, (2 * above.1, level), 1);
    (left, right)
}

/// Appends to a chain that bulges to `side` (-1 left, 1 right).
fn push(chain: &mut Vec<Point>, point: Point, side: i64) {
    while let [.., a, b] = chain[..] {
        let cross = (b.0 - a.0) * (point.1 - a.1) - (b.1 - a.1) * (point.0 - a.0);
        if cross * side > 0 {
            break;
        }
        chain.pop();
    }
    chain.push(point);
}

/// The pixels of each row whose centre lies between the chains.
fn fill(left: &[Point], right: &[Point], rows: &mut [Extent]) {
    let (mut l, mut r) = (0, 0);
    for (y, row) in rows.iter_mut().enumerate() {
        let level = 2 * y as i64;
        while left[l + 1].1 < level {
            l += 1;
        }
        while right[r + 1].1 < level {
            r += 1;
        }
        let (p, q) = (left[l], left[l + 1]);
        let span = q.1 - p.1;
        // Ceiling of half the chain's x; an empty row between two pieces always has a pixel, the diamonds being
        // a pixel wide.
        row.0 = -(-(p.0 * span + (q.0 - p.0) * (level - p.1))).div_euclid(2 * span);
        let (p, q) = (right[r], right[r + 1]);
        let span = q.1 - p.1;
        row.1 = (p.0 * span + (q.0 - p.0) * (level - p.1)).div_euclid(2 * span);
    }
}

/// Largest squared distance between two vertices of a strictly convex polygon: rotating calipers.
fn diameter_squared(polygon: &[Point]) -> i64 {
    let n = polygon.len();
    let distance = |i: usize, j: usize| {
        let (dx, dy) = (polygon[i].0 - polygon[j].0, polygon[i].1 - polygon[j].1);
        dx * dx + dy * dy
    };
    let twice_area = |i: usize, j: usize, k: usize| {
        let (a, b, c) = (polygon[i], polygon[j], polygon[k]);
        ((b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)).abs()
    };
    let after = |i: usize| if i + 1 == n { 0 } else { i + 1 };
    let mut best = 0;
    let mut far = 1;
    for i in 0..n {
        let next = after(i);
        while twice_area(i, next, after(far)) > twice_area(i, next, far) {
            far = after(far);
        }
        best = best.max(distance(i, far)).max(distance(next, far));
        // An edge parallel to this one: its other end is as far from it.
        if twice_area(i, next, after(far)) == twice_area(i, next, far) {
            best = best.max(distance(i, after(far))).max(distance(next, after(far)));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::measure::bounds;
    use proptest::prelude::*;

    #[test]
    fn one_pixel_is_one_wide() {
        let runs = [Run { y: 7, x0: 3, x1: 4 }];
        let hull = convex_hull(&runs, &bounds(&runs));
        assert_eq!(hull, Hull { area_convex_px: 1, feret_diameter_max_px: 1.0 });
    }

    #[test]
    fn two_pixels_far_apart_are_joined_by_the_pixels_between() {
        let runs = [Run { y: 0, x0: 0, x1: 1 }, Run { y: 4, x0: 4, x1: 5 }];
        let hull = convex_hull(&runs, &bounds(&runs));
        assert_eq!(hull.area_convex_px, 5);
    }

    proptest! {
        #[test]
        fn calipers_find_the_farthest_vertices(
            widths in prop::collection::vec((0_i64..40, 0_i64..40), 1..40)
        ) {
            let rows: Vec<Extent> = widths.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
            let (left, right) = chains(&rows);
            let mut polygon = left;
            polygon.extend(right.iter().rev());
            polygon.dedup();
            if polygon.first() == polygon.last() {
                polygon.pop();
            }
            let mut best = 0;
            for a in &polygon {
                for b in &polygon {
                    best = best.max((a.0 - b.0).pow(2) + (a.1 - b.1).pow(2));
                }
            }
            prop_assert_eq!(diameter_squared(&polygon), best);
        }
    }
}
