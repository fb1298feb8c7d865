//! Star-convex polygons: a centre and one distance per direction.
//!
//! Owns: [`Rays`], [`Star`], [`Stars`]. Must not know: regions, which polygon is a nucleus.
//!
//! Source: the `stardist` package (Schmidt 2018), `geometry/geom2d.py` and `lib/stardist2d.cpp`: direction `k` of `n` has
//! the angle `2πk/n`, row + d·sin, column + d·cos. For overlaps it cuts vertices off to whole pixels, and so do we;
//! for pixels it takes them as they are. Differs: cut off towards the upper left also outside the slide.

use super::instance::Run;
use crate::model::Head;

/// Unit vectors of the directions.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Rays {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rays {
    /// `n` directions, equally far apart, the first along x.
    pub(super) fn new(n: usize) -> Self {
        // 12 digits: the same on every machine, and whole where it should be.
        let round = |v: f64| ((v * 1e12).round() / 1e12) as f32;
        let angle = |k: usize| std::f64::consts::TAU * k as f64 / n as f64;
        Self {
            cos: (0..n).map(|k| round(angle(k).cos())).collect(),
            sin: (0..n).map(|k| round(angle(k).sin())).collect(),
        }
    }

    /// Number of directions.
    pub(super) fn len(&self) -> usize {
        self.cos.len()
    }
}

/// A polygon without its vertices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Star {
    /// Centre, in px of the slide.
    pub(super) x: i32,
    /// Centre, in px of the slide.
    pub(super) y: i32,
    /// Probability that there is an object, in fixed point.
    pub(super) prob: i16,
    /// Farthest vertex from the centre, along x or y.
    pub(super) reach_px: i32,
    /// Twice the area.
    pub(super) twice_area_px: i32,
    /// Left, top, right, bottom of the vertices.
    pub(super) bounds: [i32; 4],
    /// Where its vertices and distances are.
    slot: u32,
}

impl Star {
    /// Larger of the distances of the centres along x and y.
    pub(super) fn chessboard_px(&self, other: &Self) -> i32 {
        (self.x - other.x).abs().max((self.y - other.y).abs())
    }

    /// Area that the boxes around both share.
    pub(super) fn shared_box_px(&self, other: &Self) -> i32 {
        let [a, b] = [&self.bounds, &other.bounds];
        let w = a[2].min(b[2]) - a[0].max(b[0]);
        let h = a[3].min(b[3]) - a[1].max(b[1]);
        w.max(0) * h.max(0)
    }
}

/// Polygons and their vertices; kept by the thread.
#[derive(Debug, Default)]
pub(super) struct Stars {
    /// The directions.
    pub(super) rays: Rays,
    /// The polygons.
    pub(super) list: Vec<Star>,
    /// Per slot: x of each vertex from the centre, then y.
    vertices: Vec<i16>,
    /// Per slot: the distances, in fixed point.
    distances: Vec<i16>,
}

impl Stars {
    /// Drops all polygons; those to come have `n` directions.
    pub(super) fn clear(&mut self, n: usize) {
        if self.rays.len() != n {
            self.rays = Rays::new(n);
        }
        self.list.clear();
        self.vertices.clear();
        self.distances.clear();
    }

    /// Adds the polygon at `(x, y)` with the distance `distance(k)` along direction `k`, in fixed point; distances are
    /// cut at `max_radius_px`. One without area is left out.
    pub(super) fn push(&mut self, (x, y): (i32, i32), prob: i16, max_radius_px: u32, distance: impl Fn(usize) -> i16) {
        let n = self.rays.len();
        let slot = self.distances.len() / n;
        let scale = Head::StarDistance.scale();
        let largest = (max_radius_px as f32 * scale).min(f32::from(i16::MAX)) as i16;
        self.distances.extend((0..n).map(|k| distance(k).clamp(0, largest)));
        let distances = &self.distances[slot * n..];
        for unit in [&self.rays.cos, &self.rays.sin] {
            self.vertices.extend(distances.iter().zip(unit).map(|(&d, u)| floor(f32::from(d) / scale * u)));
        }
        let (xs, ys) = self.vertices[slot * 2 * n..].split_at(n);
        let range = |v: &[i16]| v.iter().fold((i16::MAX, i16::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        let ((left, right), (top, bottom)) = (range(xs), range(ys));
        let twice_area_px = twice_area(xs, ys);
        if twice_area_px == 0 {
            self.distances.truncate(slot * n);
            self.vertices.truncate(slot * 2 * n);
            return;
        }
        let farthest = left.unsigned_abs().max(right.unsigned_abs()).max(top.unsigned_abs()).max(bottom.unsigned_abs());
        self.list.push(Star {
            x,
            y,
            prob,
            reach_px: i32::from(farthest),
            twice_area_px,
            bounds: [x + i32::from(left), y + i32::from(top), x + i32::from(right), y + i32::from(bottom)],
            slot: slot as u32,
        });
    }

    /// x and y of each vertex from the centre, whole px.
    pub(super) fn vertices(&self, star: &Star) -> (&[i16], &[i16]) {
        let n = self.rays.len();
        self.vertices[star.slot as usize * 2 * n..][..2 * n].split_at(n)
    }

    /// The pixels whose centre lies in the polygon or on its edge, in raster order: rows and columns of the slide in px of
    /// which `factor` are along one of the polygon's; may be negative.
    ///
    /// A vertex at distance 0 lies at the centre of the centre's pixel.
    pub(super) fn pixels(&self, star: &Star, factor: u32, outline: &mut Outline, mut emit: impl FnMut(i32, i32, i32)) {
        let n = self.rays.len();
        let distances = &self.distances[star.slot as usize * n..][..n];
        let scale = Head::StarDistance.scale() / factor as f32;
        // From the centre of the first fine pixel in the centre's pixel to the centre of that.
        let middle = (factor - 1) as f32 / 2.0;
        let (left, top) = (star.x * factor as i32, star.y * factor as i32);
        outline.points.clear();
        outline.points.extend((0..n).map(|k| {
            let d = f32::from(distances[k]) / scale;
            [d * self.rays.cos[k] + middle, d * self.rays.sin[k] + middle]
        }));
        outline.scan();
        let mut crossings = &outline.crossings[..];
        while let Some(&(row, _)) = crossings.first() {
            let here = crossings.partition_point(|c| c.0 == row);
            // Pixels [from, to) of the row that are done.
            let (mut from, mut to) = (i32::MIN, i32::MIN);
            for pair in crossings[..here].chunks_exact(2) {
                let (x0, x1) = (pair[0].1.ceil() as i32, pair[1].1.floor() as i32 + 1);
                if x0 <= to {
                    to = to.max(x1);
                } else {
                    if from < to {
                        emit(top + row, left + from, left + to);
                    }
                    (from, to) = (x0, x1);
                }
            }
            if from < to {
                emit(top + row, left + from, left + to);
            }
            crossings = &crossings[here..];
        }
    }
}

/// Buffers of [`Stars::pixels`].
#[derive(Debug, Default)]
pub(super) struct Outline {
    points: Vec<[f32; 2]>,
    /// Row and column of each crossing of the outline with a row of pixel centres, sorted.
    crossings: Vec<(i32, f32)>,
}

impl Outline {
    /// Finds the crossings. Of each edge the upper end counts, not the lower one, so each row has an even number.
    fn scan(&mut self) {
        self.crossings.clear();
        let last = self.points[self.points.len() - 1];
        let mut lowest = last;
        let mut from = last;
        for &to in &self.points {
            let (upper, lower) = if from[1] <= to[1] { (from, to) } else { (to, from) };
            for row in upper[1].ceil() as i32..lower[1].ceil() as i32 {
                let share = (row as f32 - upper[1]) / (lower[1] - upper[1]);
                self.crossings.push((row, upper[0] + share * (lower[0] - upper[0])));
            }
            if to[1] > lowest[1] {
                lowest = to;
            }
            from = to;
        }
        // The lowest vertex, when it is on a row.
        if lowest[1] == lowest[1].floor() {
            self.crossings.extend([(lowest[1] as i32, lowest[0]); 2]);
        }
        self.crossings.sort_unstable_by(|a, b| (a.0, a.1).partial_cmp(&(b.0, b.1)).expect("distances are finite"));
    }
}

/// Keeps what lies in `[left, right)` and is free; takes it.
pub(super) fn take_free(free: &mut [u8], left: u32, run: Run, mut emit: impl FnMut(Run)) {
    let mut x = run.x0;
    while x < run.x1 {
        let start = x;
        let is_free = free[(x - left) as usize];
        while x < run.x1 && free[(x - left) as usize] == is_free {
            x += 1;
        }
        if is_free != 0 {
            free[(start - left) as usize..(x - left) as usize].fill(0);
            emit(Run { y: run.y, x0: start, x1: x });
        }
    }
}

/// Largest whole number not above `v`.
#[inline(always)]
fn floor(v: f32) -> i16 {
    let cut = v as i16;
    cut - i16::from(f32::from(cut) > v)
}

/// Twice the area inside the outline.
fn twice_area(xs: &[i16], ys: &[i16]) -> i32 {
    let cross = |a: usize, b: usize| i32::from(xs[a]) * i32::from(ys[b]) - i32::from(ys[a]) * i32::from(xs[b]);
    let closing = cross(xs.len() - 1, 0);
    ((1..xs.len()).map(|k| cross(k - 1, k)).sum::<i32>() + closing).abs()
}
