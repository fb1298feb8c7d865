//! Which pixels are nuclei at all: threshold, small holes filled, thin bits removed.
//!
//! Owns: [`Foreground`]. Must not know: which nucleus a pixel belongs to, regions' cores.
//!
//! A pixel depends on pixels within [`Reach::foreground_px`] of it and no others: a hole is filled only when its
//! bounding box is small too.

use super::watershed::Reach;

/// A mask and what its making needs, kept by the thread.
#[derive(Default)]
pub(super) struct Foreground {
    /// `[h, w]`, 1 where a nucleus is.
    pub(super) mask: Vec<u8>,
    other: Vec<u8>,
    runs: Vec<BackgroundRun>,
}

/// Background pixels `[x0, x1)` of row `y`; `parent` indexes the runs of its component's tree.
struct BackgroundRun {
    y: u32,
    x0: u32,
    x1: u32,
    parent: u32,
    hole: Hole,
}

/// What is known of a component of the background, at its root.
#[derive(Clone, Copy)]
struct Hole {
    area_px: u64,
    left: u32,
    right: u32,
    top: u32,
    bottom: u32,
    /// Touches the picture's edge or a pixel that was not computed.
    open: bool,
}

impl Foreground {
    /// Makes the mask of `prob ≥ at_least`, both in fixed point.
    ///
    /// # Shapes
    /// - `prob`, `computed`: `[h, w]`
    pub(super) fn make(&mut self, prob: &[i16], computed: &[u8], w: usize, at_least: i16, reach: &Reach) {
        self.mask.clear();
        self.mask.extend(prob.iter().zip(computed).map(|(&p, &c)| u8::from(p >= at_least) & c));
        if w == 0 || !self.mask.contains(&1) {
            return;
        }
        if reach.hole_area_px > 0 {
            self.fill_holes(computed, w, reach);
        }
        for _ in 0..reach.open_px {
            erode(&self.mask, w, &mut self.other);
            std::mem::swap(&mut self.mask, &mut self.other);
        }
        for _ in 0..reach.open_px {
            dilate(&self.mask, w, &mut self.other);
            std::mem::swap(&mut self.mask, &mut self.other);
        }
    }

    /// Fills components of the background (4-connected) that are small in area and in extent.
    fn fill_holes(&mut self, computed: &[u8], w: usize, reach: &Reach) {
        let all_computed = !computed.contains(&0);
        let h = self.mask.len() / w;
        self.runs.clear();
        let mut above = 0..0;
        for y in 0..h {
            let start = self.runs.len();
            let mut add = |x0: usize, x1: usize| {
                let edge = y == 0 || y == h - 1 || x0 == 0 || x1 == w;
                let open = edge || (!all_computed && computed[y * w + x0..y * w + x1].contains(&0));
                let (y, x0, x1) = (y as u32, x0 as u32, x1 as u32);
                let hole = Hole { area_px: u64::from(x1 - x0), left: x0, right: x1, top: y, bottom: y + 1, open };
                self.runs.push(BackgroundRun { y, x0, x1, parent: self.runs.len() as u32, hole });
            };
            let mut x = 0;
            for_each_run(&self.mask[y * w..][..w], |x0, x1| {
                if x0 > x {
                    add(x, x0);
                }
                x = x1;
            });
            if x < w {
                add(x, w);
            }
            join_rows(&mut self.runs, above, start);
            above = start..self.runs.len();
        }
        for i in 0..self.runs.len() {
            let hole = self.runs[root(&self.runs, i as u32) as usize].hole;
            let side = (hole.right - hole.left).max(hole.bottom - hole.top);
            if !hole.open && hole.area_px <= u64::from(reach.hole_area_px) && side <= reach.hole_side_px {
                let run = &self.runs[i];
                self.mask[run.y as usize * w..][run.x0 as usize..run.x1 as usize].fill(1);
            }
        }
    }
}

/// Calls `each(x0, x1)` for each run of ones in a row of zeros and ones.
#[inline(always)]
pub(super) fn for_each_run(row: &[u8], mut each: impl FnMut(usize, usize)) {
    let mut start = None;
    let mut toggle = |x: usize| match start.take() {
        Some(x0) => each(x0, x),
        None => start = Some(x),
    };
    let mut last = 0u64;
    let (chunks, tail) = row.as_chunks::<8>();
    for (i, chunk) in chunks.iter().enumerate() {
        let eight = u64::from_le_bytes(*chunk);
        // One bit per byte that differs from the byte before it.
        let mut changes = eight ^ (eight << 8 | last);
        last = eight >> 56;
        while changes != 0 {
            toggle(8 * i + changes.trailing_zeros() as usize / 8);
            changes &= changes - 1;
        }
    }
    for (i, &value) in tail.iter().enumerate() {
        if u64::from(value) != last {
            toggle(8 * chunks.len() + i);
            last = u64::from(value);
        }
    }
    if last == 1 {
        toggle(row.len());
    }
}

/// Joins the runs from `start` on with those of the row `above` that share a column.
fn join_rows(runs: &mut [BackgroundRun], above: std::ops::Range<usize>, start: usize) {
    let mut a = above.start;
    for b in start..runs.len() {
        while a < above.end && runs[a].x1 <= runs[b].x0 {
            a += 1;
        }
        let mut touching = a;
        while touching < above.end && runs[touching].x0 < runs[b].x1 {
            unite(runs, touching as u32, b as u32);
            touching += 1;
        }
    }
}

fn root(runs: &[BackgroundRun], mut i: u32) -> u32 {
    while runs[i as usize].parent != i {
        i = runs[i as usize].parent;
    }
    i
}

fn unite(runs: &mut [BackgroundRun], a: u32, b: u32) {
    let (ra, rb) = (root(runs, a), root(runs, b));
    // Paths stay short: every run looked at points at a root from now on.
    let (low, high) = (ra.min(rb), ra.max(rb));
    runs[a as usize].parent = low;
    runs[b as usize].parent = low;
    runs[high as usize].parent = low;
    if low != high {
        let (other, hole) = (runs[high as usize].hole, &mut runs[low as usize].hole);
        hole.area_px += other.area_px;
        hole.left = hole.left.min(other.left);
        hole.right = hole.right.max(other.right);
        hole.top = hole.top.min(other.top);
        hole.bottom = hole.bottom.max(other.bottom);
        hole.open |= other.open;
    }
}

/// 1 where the pixel and its four neighbours are 1; outside the picture counts as 1.
fn erode(mask: &[u8], w: usize, out: &mut Vec<u8>) {
    cross(mask, w, 1, |a, b| a & b, out);
}

/// 1 where the pixel or one of its four neighbours is 1; outside the picture counts as 0.
fn dilate(mask: &[u8], w: usize, out: &mut Vec<u8>) {
    cross(mask, w, 0, |a, b| a | b, out);
}

/// Combines each pixel with its four neighbours.
#[inline(always)]
fn cross(mask: &[u8], w: usize, outside: u8, combine: impl Fn(u8, u8) -> u8, out: &mut Vec<u8>) {
    let h = mask.len() / w;
    out.clear();
    out.resize(mask.len(), 0);
    let beyond = vec![outside; w];
    for y in 0..h {
        let row = &mask[y * w..][..w];
        let above = if y > 0 { &mask[(y - 1) * w..][..w] } else { &beyond };
        let below = if y + 1 < h { &mask[(y + 1) * w..][..w] } else { &beyond };
        let to = &mut out[y * w..][..w];
        for (((to, &m), &a), &b) in to.iter_mut().zip(row).zip(above).zip(below) {
            *to = combine(m, combine(a, b));
        }
        for (to, &left) in to[1..].iter_mut().zip(row) {
            *to = combine(*to, left);
        }
        for (to, &right) in to.iter_mut().zip(&row[1..]) {
            *to = combine(*to, right);
        }
        to[0] = combine(to[0], outside);
        to[w - 1] = combine(to[w - 1], outside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(
        picture: &[&str],
        hole_area_px: u32,
        hole_side_px: u32,
        open_px: u32,
        missing: Option<usize>,
    ) -> Vec<String> {
        let w = picture[0].len();
        let prob: Vec<i16> = picture.concat().bytes().map(|b| i16::from(b == b'#') * 100).collect();
        let mut computed = vec![1; prob.len()];
        if let Some(at) = missing {
            computed[at] = 0;
        }
        let mut foreground = Foreground::default();
        let reach = Reach { hole_area_px, hole_side_px, open_px, ..Reach::default() };
        foreground.make(&prob, &computed, w, 50, &reach);
        let text = |row: &[u8]| row.iter().map(|&m| if m == 1 { '#' } else { '.' }).collect();
        foreground.mask.chunks(w).map(text).collect()
    }

    #[test]
    fn a_hole_is_filled_when_it_is_small_and_closed() {
        let ring = ["#######", "#.#...#", "#######", "###.###", "###.###"];
        assert_eq!(made(&ring, 1, 9, 0, None), ["#######", "###...#", "#######", "###.###", "###.###"]);
        assert_eq!(made(&ring, 3, 9, 0, None), ["#######", "#######", "#######", "###.###", "###.###"]);
        assert_eq!(made(&ring, 3, 2, 0, None), ["#######", "###...#", "#######", "###.###", "###.###"]);
    }

    #[test]
    fn a_hole_that_was_not_computed_stays_open() {
        let ring = ["###", "#.#", "###"];
        assert_eq!(made(&ring, 9, 9, 0, Some(4)), ring);
        assert_eq!(made(&ring, 9, 9, 0, None), ["###", "###", "###"]);
    }

    #[test]
    fn opening_removes_threads_and_keeps_bodies() {
        let picture = [".......", ".###...", ".######", ".###...", "......."];
        assert_eq!(made(&picture, 0, 0, 1, None), [".......", "..##...", ".####..", "..##...", "......."]);
    }

    #[test]
    fn runs_are_found_wherever_they_begin_and_end() {
        for end in 1..=40 {
            for x0 in 0..end {
                for x1 in x0 + 1..=end {
                    let mut row = vec![0; end];
                    row[x0..x1].fill(1);
                    row[end - 1] = 1;
                    let mut found = Vec::new();
                    for_each_run(&row, |a, b| found.push((a, b)));
                    let expected = if x1 + 1 >= end { vec![(x0, end)] } else { vec![(x0, x1), (end - 1, end)] };
                    assert_eq!(found, expected, "{row:?}");
                }
            }
        }
        for_each_run(&[], |_, _| panic!("nothing has no runs"));
    }
}
