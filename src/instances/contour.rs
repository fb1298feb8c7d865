//! Outline of an instance along the edges of its pixels.
//!
//! Owns: [`rings`]. Must not know: units, files.
//!
//! Runs are swept from row to row. Where the outline turns there is a corner; corners are linked to their successor and
//! the links then walked. Where two pixels of the instance touch by a corner only, the outline meets itself: there the
//! links are chosen by whether the two pixels are connected otherwise, so that no ring visits a point twice.

use super::Run;
use std::ops::Range;

/// The outline of `runs`: exact, so the area within equals the number of pixels.
///
/// Rings are in target px counted at pixel edges, closed (first point repeated), without collinear points. Exteriors
/// have positive area by the shoelace formula on the coordinates as they stand, holes negative (RFC 7946,
/// GeoParquet's `counterclockwise`); drawn with y down, an exterior runs clockwise. Each ring starts at its topmost
/// leftmost corner.
///
/// Pixels that touch by a corner only are not connected. A 4-connected instance, as every nucleus and lesion is, gives
/// one exterior, first, and then its holes: a valid polygon. Of several pieces, each exterior is followed by its own
/// holes, pieces by first pixel; an exterior is then told from a hole by the sign of its area.
///
/// # Shapes
/// - `runs`: sorted by row and then column, not overlapping; empty gives no ring
pub fn rings(runs: &[Run]) -> Vec<Vec<[f64; 2]>> {
    let mut sweep = Sweep::new(runs);
    sweep.all();
    let roots = (!sweep.touches.is_empty()).then(|| pieces(runs));
    if let Some(roots) = &roots {
        sweep.join_touches(roots);
    }
    let mut rings = sweep.walk();
    if rings.iter().filter(|ring| !ring.hole).count() > 1 {
        let roots = roots.unwrap_or_else(|| pieces(runs));
        rings.sort_by_key(|ring| (roots[ring.run as usize], ring.hole));
    }
    rings.into_iter().map(|ring| ring.points).collect()
}

/// A turn of the outline.
#[derive(Debug, Clone, Copy)]
struct Corner {
    x: u32,
    y: u32,
    /// The corner after this one.
    next: u32,
    /// The run whose vertical edge meets this corner.
    run: u32,
}

/// A closed walk over corners.
struct Ring {
    points: Vec<[f64; 2]>,
    hole: bool,
    run: u32,
}

/// No corner; a corner that was walked.
const NONE: u32 = u32::MAX;

/// Rows seen so far.
struct Sweep<'a> {
    runs: &'a [Run],
    corners: Vec<Corner>,
    /// For each run's left and right edge, the corner at its upper end.
    open: Vec<u32>,
    /// Pairs of corners at the same point: two pixels that touch by a corner.
    touches: Vec<(u32, u32)>,
}

impl<'a> Sweep<'a> {
    fn new(runs: &'a [Run]) -> Self {
        let corners = Vec::with_capacity((4 * runs.len() + 4).min(4096));
        Self { runs, corners, open: vec![NONE; 2 * runs.len()], touches: Vec::new() }
    }

    /// Every level between two rows.
    fn all(&mut self) {
        let mut above = 0..0;
        let mut start = 0;
        while start < self.runs.len() {
            let y = self.runs[start].y;
            let mut end = start + 1;
            while end < self.runs.len() && self.runs[end].y == y {
                end += 1;
            }
            if !above.is_empty() && self.runs[above.start].y + 1 != y {
                self.level(self.runs[above.start].y + 1, above, start..start);
                above = start..start;
            }
            self.level(y, above, start..end);
            above = start..end;
            start = end;
        }
        if !above.is_empty() {
            self.level(self.runs[above.start].y + 1, above, start..start);
        }
    }

    /// Column of edge `edge`: even is the left, odd the right edge of run `edge / 2`.
    #[inline]
    fn column(&self, edge: usize) -> u32 {
        let run = &self.runs[edge / 2];
        if edge.is_multiple_of(2) { run.x0 } else { run.x1 }
    }

    /// The next edge of a row and its column; runs that touch are one.
    #[inline]
    fn next_edge(&self, edge: &mut usize, end: usize) -> u32 {
        while *edge + 1 < end && *edge % 2 == 1 && self.column(*edge) == self.column(*edge + 1) {
            *edge += 2;
        }
        if *edge < end { self.column(*edge) } else { NONE }
    }

    /// Corners and edges at height `y`, between two rows of runs.
    fn level(&mut self, y: u32, above: Range<usize>, below: Range<usize>) {
        let (mut i, i_end) = (2 * above.start, 2 * above.end);
        let (mut j, j_end) = (2 * below.start, 2 * below.end);
        // Whether the pixels right of the last column are inside, above and below; the corner a horizontal edge left.
        let (mut inside_above, mut inside_below, mut pending) = (false, false, NONE);
        loop {
            let (xa, xb) = (self.next_edge(&mut i, i_end), self.next_edge(&mut j, j_end));
            if xa == NONE && xb == NONE {
                break;
            }
            let horizontal = inside_above != inside_below;
            if xa == xb && !horizontal {
                self.open[j] = self.open[i];
            } else if xa == xb {
                let (upper, lower) = (self.corner(xa, y, i / 2), self.corner(xa, y, j / 2));
                let (left, right) = if inside_above { (upper, lower) } else { (lower, upper) };
                self.link_horizontal(pending, left, inside_below);
                pending = right;
                self.link_vertical(i, upper);
                self.open[j] = lower;
                self.touches.push((upper, lower));
            } else {
                let corner = self.corner(xa.min(xb), y, if xa < xb { i / 2 } else { j / 2 });
                if horizontal {
                    self.link_horizontal(pending, corner, inside_below);
                } else {
                    pending = corner;
                }
                if xa < xb {
                    self.link_vertical(i, corner);
                } else {
                    self.open[j] = corner;
                }
            }
            if xa <= xb {
                inside_above = !inside_above;
                i += 1;
            }
            if xb <= xa {
                inside_below = !inside_below;
                j += 1;
            }
        }
    }

    #[inline]
    fn corner(&mut self, x: u32, y: u32, run: usize) -> u32 {
        self.corners.push(Corner { x, y, next: NONE, run: run as u32 });
        (self.corners.len() - 1) as u32
    }

    /// A horizontal edge: rightwards along the top of pixels, leftwards along their bottom.
    #[inline]
    fn link_horizontal(&mut self, left: u32, right: u32, top_of_pixels: bool) {
        let (from, to) = if top_of_pixels { (left, right) } else { (right, left) };
        self.corners[from as usize].next = to;
    }

    /// The vertical edge that ends at `lower`: upwards along the left of pixels, downwards along their right.
    #[inline]
    fn link_vertical(&mut self, edge: usize, lower: u32) {
        let upper = self.open[edge];
        let (from, to) = if edge.is_multiple_of(2) { (lower, upper) } else { (upper, lower) };
        self.corners[from as usize].next = to;
    }

    /// Lets the outline pass between two touching pixels of the same piece.
    ///
    /// Corners were linked so that each ring stays with its pixel. Where both pixels belong to one 4-connected piece,
    /// a path inside the piece and the touch close a curve that parts the pixels on its two sides. A ring that stayed
    /// with its pixel would come back to the point; two rings, one per side, meet there once.
    fn join_touches(&mut self, roots: &[u32]) {
        for &(a, b) in &self.touches {
            let (a, b) = (a as usize, b as usize);
            if roots[self.corners[a].run as usize] == roots[self.corners[b].run as usize] {
                let next = self.corners[a].next;
                self.corners[a].next = self.corners[b].next;
                self.corners[b].next = next;
            }
        }
    }

    /// All rings, by first corner.
    fn walk(mut self) -> Vec<Ring> {
        let mut rings = Vec::with_capacity(1);
        for start in 0..self.corners.len() {
            if self.corners[start].next == NONE {
                continue;
            }
            let first = self.corners[start];
            let mut points = Vec::with_capacity(if rings.is_empty() { self.corners.len() + 1 } else { 8 });
            let mut at = start;
            let mut twice_area = 0_i128;
            loop {
                let corner = self.corners[at];
                if corner.next == NONE {
                    break;
                }
                self.corners[at].next = NONE;
                points.push([f64::from(corner.x), f64::from(corner.y)]);
                let next = self.corners[corner.next as usize];
                // Only horizontal edges count: ∮ y dx.
                twice_area -= 2 * i128::from(corner.y) * (i128::from(next.x) - i128::from(corner.x));
                at = corner.next as usize;
            }
            points.push(points[0]);
            points.shrink_to_fit();
            rings.push(Ring { points, hole: twice_area < 0, run: first.run });
        }
        rings
    }
}

/// For each run, the first run of its 4-connected piece.
fn pieces(runs: &[Run]) -> Vec<u32> {
    let mut parent: Vec<u32> = (0..runs.len() as u32).collect();
    let find = |parent: &mut Vec<u32>, mut at: u32| {
        while parent[at as usize] != at {
            parent[at as usize] = parent[parent[at as usize] as usize];
            at = parent[at as usize];
        }
        at
    };
    let mut above = 0;
    for (at, run) in runs.iter().enumerate() {
        if at > 0 && runs[at - 1].y == run.y && runs[at - 1].x1 == run.x0 {
            let (a, b) = (find(&mut parent, at as u32 - 1), find(&mut parent, at as u32));
            parent[a.max(b) as usize] = a.min(b);
        }
        while above < at && (runs[above].y + 1 < run.y || (runs[above].y + 1 == run.y && runs[above].x1 <= run.x0)) {
            above += 1;
        }
        let mut other = above;
        while other < at && runs[other].y + 1 == run.y && runs[other].x0 < run.x1 {
            let (a, b) = (find(&mut parent, other as u32), find(&mut parent, at as u32));
            parent[a.max(b) as usize] = a.min(b);
            other += 1;
        }
    }
    (0..runs.len() as u32).map(|at| find(&mut parent, at)).collect()
}
