//! Area that two star-convex polygons share.
//!
//! Owns: [`Slabs`], [`shared_area_px`], [`shared_area_of_any_px`]. Must not know: which polygon is better.
//!
//! With `w(x)` the winding number of a row, `∫ w·v dx = −½ ΣΣ s·t·|x − u|` over the edges `x` of one and `u` of the other
//! polygon that the row crosses, each with the sign of its direction: no edges need to be intersected, none sorted,
//! and edges that coincide (those of neighbouring predictions often do) are no special case. Vertices lie on whole
//! rows, so that between two rows all edges are straight and the integral is closed.
//!
//! Source: ours. `stardist` clips with Clipper, which moves the points where edges cross to whole pixels; ours is exact.

/// A polygon cut into slabs between whole rows.
#[derive(Debug, Default)]
pub(super) struct Slabs {
    /// First row, from the centre.
    top: i32,
    rows: usize,
    /// Edges upwards and downwards of a slab at most; 0: more than there is room for.
    layers: usize,
    /// Per layer: x at the slab's top and bottom of an edge upwards, and of one downwards.
    edges: [[Vec<f32>; 4]; LAYERS],
    /// Edges of each slab so far, upwards and downwards.
    counts: Vec<[u8; 2]>,
}

/// x and y of each vertex.
type Vertices<'a> = (&'a [i16], &'a [i16]);

/// Polygons with one notch have two; more than four are rare even when each distance is noise.
const LAYERS: usize = 4;

impl Slabs {
    /// Cuts the polygon with these vertices.
    pub(super) fn cut(&mut self, xs: &[i16], ys: &[i16]) {
        let (top, bottom) = ys.iter().fold((i16::MAX, i16::MIN), |(lo, hi), &y| (lo.min(y), hi.max(y)));
        self.top = i32::from(top);
        self.rows = (bottom - top) as usize;
        self.layers = 1;
        self.counts.clear();
        self.counts.resize(self.rows, [0; 2]);
        if self.edges[0][0].len() < self.rows {
            self.edges.iter_mut().flatten().for_each(|side| side.resize(self.rows, 0.0));
        }
        let last = xs.len() - 1;
        let mut from = (xs[last], ys[last]);
        for to in xs.iter().copied().zip(ys.iter().copied()) {
            if from.1 != to.1 && !self.add(from, to, top) {
                self.layers = 0;
                return;
            }
            from = to;
        }
    }

    /// Adds an edge; false when there is no room.
    #[inline]
    fn add(&mut self, from: (i16, i16), to: (i16, i16), top: i16) -> bool {
        let downwards = usize::from(to.1 > from.1);
        let (upper, lower) = if downwards == 1 { (from, to) } else { (to, from) };
        let slope = f32::from(lower.0 - upper.0) / f32::from(lower.1 - upper.1);
        let first = (upper.1 - top) as usize;
        let mut x = f32::from(upper.0);
        for row in 0..(lower.1 - upper.1) as usize {
            let layer = usize::from(self.counts[first + row][downwards]);
            if layer == LAYERS {
                return false;
            }
            if layer == self.layers {
                // Two edges at the same place are nothing.
                self.edges[layer].iter_mut().for_each(|side| side[..self.rows].fill(0.0));
                self.layers += 1;
            }
            let below = f32::from(upper.0) + slope * (row + 1) as f32;
            self.edges[layer][2 * downwards][first + row] = x;
            self.edges[layer][2 * downwards + 1][first + row] = below;
            self.counts[first + row][downwards] += 1;
            x = below;
        }
        true
    }

    /// The four sides of `layer` over the slabs `[from, from + n)`.
    fn sides(&self, layer: usize, from: usize, n: usize) -> [&[f32]; 4] {
        std::array::from_fn(|side| &self.edges[layer][side][from..from + n])
    }
}

/// Area that two polygons share; `(dx, dy)` leads from the centre of `a` to that of `b`. `None` when one has a notch
/// within a notch: see [`shared_area_of_any_px`].
pub(super) fn shared_area_px(a: &Slabs, b: &Slabs, (dx, dy): (i32, i32)) -> Option<f32> {
    if a.layers == 0 || b.layers == 0 {
        return None;
    }
    let top = a.top.max(b.top + dy);
    let bottom = (a.top + a.rows as i32).min(b.top + dy + b.rows as i32);
    if top >= bottom {
        return Some(0.0);
    }
    let n = (bottom - top) as usize;
    let mut area = 0.0;
    for layer in 0..a.layers {
        let a = a.sides(layer, (top - a.top) as usize, n);
        for other in 0..b.layers {
            area += shared_by_sides(a, b.sides(other, (top - b.top - dy) as usize, n), dx as f32);
        }
    }
    Some(area)
}

/// Slabs worked on together.
const LANES: usize = 8;

/// The double sum over one edge up and one down of each, over all slabs.
fn shared_by_sides(a: [&[f32]; 4], b: [&[f32]; 4], dx: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let [mut a, mut b] = [a, b];
    let term = |a: [f32; 4], b: [f32; 4]| {
        let apart = |i: usize, j: usize| mean_absolute(a[i] - (b[j] + dx), a[i + 1] - (b[j + 1] + dx));
        (apart(0, 2) - apart(0, 0)) + (apart(2, 0) - apart(2, 2))
    };
    while a[0].len() >= LANES {
        let [a8, b8] = [&a, &b].map(|v| v.map(|side| -> &[f32; LANES] { side[..LANES].try_into().expect("eight") }));
        for i in 0..LANES {
            sums[i] += term(a8.map(|side| side[i]), b8.map(|side| side[i]));
        }
        [a, b] = [a.map(|side| &side[LANES..]), b.map(|side| &side[LANES..])];
    }
    for i in 0..a[0].len() {
        sums[i] += term(a.map(|side| side[i]), b.map(|side| side[i]));
    }
    0.5 * sums.iter().sum::<f32>()
}

/// `∫ |p + (q − p)·t| dt` over 0–1.
#[inline(always)]
fn mean_absolute(p: f32, q: f32) -> f32 {
    let sum = p.abs() + q.abs();
    let crossing = (p * p + q * q) / sum;
    0.5 * if p * q >= 0.0 { sum } else { crossing }
}

/// [`shared_area_px`] for polygons of any shape, edge by edge.
pub(super) fn shared_area_of_any_px(a: Vertices, b: Vertices, (dx, dy): (i32, i32)) -> f32 {
    let mut sum = 0.0;
    for (upper, lower, sign) in edges(a, (0, 0)) {
        for (other_upper, other_lower, other_sign) in edges(b, (dx, dy)) {
            let (top, bottom) = (upper.1.max(other_upper.1), lower.1.min(other_lower.1));
            if top < bottom {
                let at = |u: (i32, i32), l: (i32, i32), y: i32| {
                    u.0 as f32 + (l.0 - u.0) as f32 * (y - u.1) as f32 / (l.1 - u.1) as f32
                };
                let apart = |y| at(upper, lower, y) - at(other_upper, other_lower, y);
                sum -= sign * other_sign * (bottom - top) as f32 * mean_absolute(apart(top), apart(bottom));
            }
        }
    }
    0.5 * sum
}

/// Upper end, lower end and sign of each edge that is not level.
fn edges<'a>((xs, ys): Vertices<'a>, (dx, dy): (i32, i32)) -> impl Iterator<Item = ((i32, i32), (i32, i32), f32)> + 'a {
    let point = move |k: usize| (i32::from(xs[k]) + dx, i32::from(ys[k]) + dy);
    (0..xs.len()).map(move |k| (point(k), point((k + 1) % xs.len()))).filter(|(from, to)| from.1 != to.1).map(
        |(from, to)| {
            if from.1 < to.1 { (from, to, 1.0) } else { (to, from, -1.0) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shared(a: Vertices, b: Vertices, apart: (i32, i32)) -> Option<f32> {
        let mut slabs = [Slabs::default(), Slabs::default()];
        // Buffers keep what was there before.
        slabs[0].cut(&[-9, 9, 9, 0, -9], &[-9, -9, 9, 0, 9]);
        slabs[0].cut(a.0, a.1);
        slabs[1].cut(b.0, b.1);
        shared_area_px(&slabs[0], &slabs[1], apart)
    }

    #[test]
    fn squares_share_a_rectangle_and_crossing_bars_a_square() {
        let square: Vertices = (&[4, -4, -4, 4], &[4, 4, -4, -4]);
        assert_eq!(shared(square, square, (0, 0)), Some(64.0));
        assert_eq!(shared(square, square, (5, 2)), Some(18.0));
        assert_eq!(shared(square, square, (8, 0)), Some(0.0));
        assert_eq!(shared(square, square, (0, 9)), Some(0.0));
        let (flat, tall): (Vertices, Vertices) =
            ((&[9, -9, -9, 9], &[1, 1, -1, -1]), (&[1, -1, -1, 1], &[9, 9, -9, -9]));
        assert_eq!(shared(flat, tall, (3, -4)), Some(4.0));
        assert_eq!(shared_area_of_any_px(flat, tall, (3, -4)), 4.0);
        // A triangle over a square: its half.
        assert_eq!(shared((&[4, -4, -4], &[4, 4, -4]), square, (0, 0)), Some(32.0));
    }

    proptest! {
        #[test]
        fn slabs_and_edges_give_the_same_area(
            a in prop::collection::vec(1.0f32..20.0, 24), b in prop::collection::vec(1.0f32..20.0, 24),
            smooth in 0.0f32..1.0, dx in -20i32..20, dy in -20i32..20,
        ) {
            let star = |d: &[f32]| -> (Vec<i16>, Vec<i16>) {
                let at = |k: usize| 9.0 + (d[k] - 9.0) * smooth;
                let angle = |k: usize| std::f32::consts::TAU * k as f32 / 24.0;
                let along = |of: fn(f32) -> f32| (0..24).map(|k| (at(k) * of(angle(k))).floor() as i16).collect();
                (along(f32::cos), along(f32::sin))
            };
            let (a, b) = (star(&a), star(&b));
            let edges = shared_area_of_any_px((&a.0, &a.1), (&b.0, &b.1), (dx, dy));
            if let Some(slabs) = shared((&a.0, &a.1), (&b.0, &b.1), (dx, dy)) {
                prop_assert!((slabs - edges).abs() < 0.02 + 1e-4 * edges.abs(), "{slabs} {edges}");
            }
        }
    }
}
