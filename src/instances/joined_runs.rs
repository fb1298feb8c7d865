//! Runs of a mask joined into connected areas.
//!
//! Owns: [`JoinedRuns`], [`Area`]. Must not know: what the mask shows.
//! Source: union-find over the runs of neighbouring rows.

use super::instance::Run;
use std::ops::Range;

/// What is known of a connected area; half-open edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    /// Pixels.
    pub(super) px: u64,
    /// First column.
    pub(super) left: u32,
    /// First row.
    pub(super) top: u32,
    /// Column after the last.
    pub(super) right: u32,
    /// Row after the last.
    pub(super) bottom: u32,
}

impl Area {
    /// Longer side of the bounding box.
    pub(super) fn side_px(&self) -> u32 {
        (self.right - self.left).max(self.bottom - self.top)
    }
}

/// Runs in raster order and the area each belongs to.
#[derive(Default)]
pub(super) struct JoinedRuns {
    runs: Vec<Run>,
    /// While rows arrive, a run of the same area or the run itself; then the number of its area.
    parent: Vec<u32>,
    /// By run while rows arrive, then by area.
    areas: Vec<Area>,
    above: Range<usize>,
    above_y: u32,
}

impl JoinedRuns {
    /// Forgets all runs.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.parent.clear();
        self.areas.clear();
        self.above = 0..0;
    }

    /// Adds a run; runs come in raster order.
    #[inline]
    pub(super) fn push(&mut self, run: Run) {
        self.parent.push(self.runs.len() as u32);
        self.areas.push(Area {
            px: u64::from(run.x1 - run.x0),
            left: run.x0,
            top: run.y,
            right: run.x1,
            bottom: run.y + 1,
        });
        self.runs.push(run);
    }

    /// Ends row `y`: joins its runs to those above, also across corners if `diagonal`.
    pub(super) fn end_row(&mut self, y: u32, diagonal: bool) {
        let start = self.above.end;
        let reach = u32::from(diagonal);
        if self.above_y + 1 == y {
            let mut a = self.above.start;
            for b in start..self.runs.len() {
                let (x0, x1) = (self.runs[b].x0, self.runs[b].x1);
                while a < start && self.runs[a].x1 + reach <= x0 {
                    a += 1;
                }
                let mut touching = a;
                while touching < start && self.runs[touching].x0 < x1 + reach {
                    self.unite(touching as u32, b as u32);
                    touching += 1;
                }
            }
        }
        self.above = start..self.runs.len();
        self.above_y = y;
    }

    fn unite(&mut self, a: u32, b: u32) {
        let root = |parent: &[u32], mut i: u32| {
            while parent[i as usize] != i {
                i = parent[i as usize];
            }
            i
        };
        let (ra, rb) = (root(&self.parent, a), root(&self.parent, b));
        let (low, high) = (ra.min(rb), ra.max(rb));
        // Paths stay short: every run looked at points at a root from now on.
        self.parent[a as usize] = low;
        self.parent[b as usize] = low;
        self.parent[high as usize] = low;
        if low != high {
            let (other, area) = (self.areas[high as usize], &mut self.areas[low as usize]);
            area.px += other.px;
            area.left = area.left.min(other.left);
            area.top = area.top.min(other.top);
            area.right = area.right.max(other.right);
            area.bottom = area.bottom.max(other.bottom);
        }
    }

    /// Numbers the areas by their first run. No rows may follow.
    pub(super) fn number(&mut self) {
        let mut count = 0;
        for i in 0..self.runs.len() {
            // A run's parent comes before it, and so has its number already.
            let parent = self.parent[i] as usize;
            if parent == i {
                self.areas[count] = self.areas[i];
                self.parent[i] = count as u32;
                count += 1;
            } else {
                self.parent[i] = self.parent[parent];
            }
        }
        self.areas.truncate(count);
    }

    /// The areas, after [`JoinedRuns::number`].
    pub(super) fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// Each run with the number of its area, in raster order, after [`JoinedRuns::number`].
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Run)> + '_ {
        self.parent.iter().copied().zip(self.runs.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(picture: &[&str], diagonal: bool) -> Vec<(u64, u32)> {
        let mut joined = JoinedRuns::default();
        for (y, row) in picture.iter().enumerate() {
            for (x, c) in row.bytes().enumerate() {
                if c == b'#' && (x == 0 || row.as_bytes()[x - 1] != b'#') {
                    let n = row.bytes().skip(x).take_while(|c| *c == b'#').count();
                    joined.push(Run { y: y as u32, x0: x as u32, x1: (x + n) as u32 });
                }
            }
            joined.end_row(y as u32, diagonal);
        }
        joined.number();
        assert!(joined.iter().all(|(area, _)| (area as usize) < joined.areas().len()));
        joined.areas().iter().map(|a| (a.px, a.side_px())).collect()
    }

    #[test]
    fn runs_that_share_a_column_are_one_area_and_corners_join_when_asked() {
        let picture = ["#.#.#", "#.#..", "###.#", "...#.", ".....", "#...."];
        assert_eq!(areas(&picture, false), [(7, 3), (1, 1), (1, 1), (1, 1), (1, 1)]);
        assert_eq!(areas(&picture, true), [(9, 5), (1, 1), (1, 1)]);
    }
}
