//! Which of many overlapping predictions stay: the best of those that overlap, then the best of the rest.
//!
//! Owns: [`Suppression`]. Must not know: regions, pixels.
//!
//! The rule of `stardist` (`nms.py`, `lib/stardist2d.cpp`): from the most probable on, a polygon stays unless one that
//! stayed shares more than a given part of the smaller area of the two. Whether one stays may so hang on another far
//! away, through a chain of polygons each of which overlaps the next. Here it never does:
//! - with each decision goes how far from the polygon one has to see to come to it: for one that stays, as far as
//!   polygons can overlap it, and to all that has to be seen to know that the better ones overlapping it go; for one
//!   that goes, all that has to be seen to know that the other stays (of several, the least);
//! - what cannot be decided by seeing [`sight_px`] far is *open*. Of open polygons one stays when it overlaps no other
//!   open one that is before it in an order by position that looks random.
//!
//! So a polygon's fate depends on the map within [`reach_px`] of its centre, and where nothing is open it is exactly that
//! of `stardist`. Polygons of equal probability are ordered by position, as if at random in squares of 4 × 4 px, so
//! that chains are short on plateaus too.

use super::{
    star_overlap::{Slabs, shared_area_of_any_px, shared_area_px},
    star_polygon::{Star, Stars},
};

/// How far from a polygon's centre one may look to decide about it.
fn sight_px(max_radius_px: u32) -> u32 {
    3 * max_radius_px
}

/// How far from a polygon's centre the map matters for whether it stays.
pub(super) fn reach_px(max_radius_px: u32) -> u32 {
    // Open or not, and so all that overlap it.
    sight_px(max_radius_px) + 2 * max_radius_px
}

/// Side of a cell that polygons are looked up by.
const CELL_PX: i32 = 16;
/// Not known to go.
const UNKNOWN: i32 = i32::MAX;

/// What is known of a polygon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Goes if its sight is known.
    Undecided,
    Stays,
    Open,
}

/// Buffers of one region, kept by the thread.
#[derive(Default)]
pub(super) struct Suppression {
    /// Rank, then raster order; index.
    order: Vec<(u64, u32)>,
    /// The polygons by rank.
    stars: Vec<Star>,
    fates: Vec<Fate>,
    /// How far one has to see to know that it goes.
    sights: Vec<i32>,
    cells: Cells,
    slabs: Slabs,
    other: Slabs,
}

/// Polygons by the square that holds the centre.
#[derive(Default)]
struct Cells {
    left: i32,
    top: i32,
    columns: usize,
    /// Where each cell's members end; the cell before it ends where they start.
    ends: Vec<u32>,
    /// Ranks; ascending within a cell.
    members: Vec<u32>,
    /// Their bounds.
    bounds: Vec<[i32; 4]>,
    /// Farthest vertex of each cell's polygons.
    reach_px: Vec<i32>,
    /// Farthest of all.
    farthest_px: i32,
}

impl Suppression {
    /// Calls `emit` for each polygon that stays, best first.
    pub(super) fn run(&mut self, stars: &Stars, overlap: f32, max_radius_px: u32, mut emit: impl FnMut(&Star)) {
        self.sort(stars);
        self.cells.fill(&self.stars);
        self.fates.clear();
        self.fates.resize(self.stars.len(), Fate::Undecided);
        self.sights.clear();
        self.sights.resize(self.stars.len(), UNKNOWN);
        let Self { stars: list, fates, sights, cells, slabs, other, .. } = self;
        let mut pairs = Pairs { stars, list, overlap, slabs, other, held: 0 };
        let limit = sight_px(max_radius_px) as i32;
        let mut any_open = false;
        for rank in 0..list.len() {
            if sights[rank] <= limit {
                continue;
            }
            pairs.hold(rank);
            let sight = match sights[rank] {
                UNKNOWN => sight_to_stay(rank, &mut pairs, cells, fates, sights, max_radius_px as i32, limit),
                _ => None,
            };
            let Some(sight) = sight else {
                fates[rank] = Fate::Open;
                any_open = true;
                continue;
            };
            fates[rank] = Fate::Stays;
            cells.near(&list[rank], |worse| {
                let seen = list[rank].chessboard_px(&list[worse]) + sight;
                if worse > rank && seen < sights[worse] && pairs.overlap(worse) {
                    sights[worse] = seen;
                }
                true
            });
        }
        if any_open {
            settle_open(&mut pairs, cells, fates);
        }
        for (star, fate) in list.iter().zip(fates) {
            if *fate == Fate::Stays {
                emit(star);
            }
        }
    }

    /// Sorts by probability, then position.
    fn sort(&mut self, stars: &Stars) {
        self.order.clear();
        self.order.extend(stars.list.iter().enumerate().map(|(i, star)| (rank_key(star), i as u32)));
        // Of equal ranks the index decides: raster order.
        self.order.sort_unstable();
        self.stars.clear();
        self.stars.extend(self.order.iter().map(|(_, i)| stars.list[*i as usize]));
    }
}

/// How far one has to see to know that nothing better overlaps the held polygon and stays; `None`: too far.
fn sight_to_stay(
    rank: usize,
    pairs: &mut Pairs,
    cells: &Cells,
    fates: &[Fate],
    sights: &[i32],
    max_radius_px: i32,
    limit: i32,
) -> Option<i32> {
    let star = pairs.list[rank];
    let mut sight = star.reach_px + max_radius_px;
    cells.near(&star, |better| {
        if better < rank {
            let seen = match fates[better] {
                // Had it overlapped, this one would go.
                Fate::Stays => 0,
                Fate::Undecided => star.chessboard_px(&pairs.list[better]) + sights[better],
                Fate::Open => UNKNOWN,
            };
            if seen > sight && pairs.overlap(better) {
                sight = seen;
            }
        }
        sight <= limit
    });
    (sight <= limit).then_some(sight)
}

/// Lets each open polygon stay that is first among the open ones that overlap it.
fn settle_open(pairs: &mut Pairs, cells: &Cells, fates: &mut [Fate]) {
    let open: Vec<usize> = (0..fates.len()).filter(|&rank| fates[rank] == Fate::Open).collect();
    let position = |star: &Star| (scatter(star.x, star.y), star.y, star.x);
    let mut staying = Vec::new();
    for rank in open {
        pairs.hold(rank);
        let star = pairs.list[rank];
        let mut first = true;
        cells.near(&star, |near| {
            let before = fates[near] == Fate::Open && position(&pairs.list[near]) < position(&star);
            first = !(before && pairs.overlap(near));
            first
        });
        if first {
            staying.push(rank);
        }
    }
    staying.into_iter().for_each(|rank| fates[rank] = Fate::Stays);
}

/// Small for the better polygon.
fn rank_key(star: &Star) -> u64 {
    let by_prob = (i32::from(i16::MAX) - i32::from(star.prob)) as u64;
    by_prob << 32 | u64::from(scatter(star.x >> 2, star.y >> 2))
}

/// A number that looks random, from a position.
fn scatter(x: i32, y: i32) -> u32 {
    // The finaliser of MurmurHash3, over both.
    let mut v = (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77).rotate_left(16);
    v = (v ^ (v >> 16)).wrapping_mul(0x85eb_ca6b);
    v = (v ^ (v >> 13)).wrapping_mul(0xc2b2_ae35);
    v ^ (v >> 16)
}

/// Tells whether two polygons overlap; one is held, to be compared with many.
struct Pairs<'a> {
    stars: &'a Stars,
    list: &'a [Star],
    overlap: f32,
    slabs: &'a mut Slabs,
    other: &'a mut Slabs,
    held: usize,
}

impl Pairs<'_> {
    /// Takes the polygon to compare with.
    fn hold(&mut self, rank: usize) {
        self.held = rank;
        let (xs, ys) = self.stars.vertices(&self.list[rank]);
        self.slabs.cut(xs, ys);
    }

    /// Whether it and the held one share more than allowed.
    fn overlap(&mut self, rank: usize) -> bool {
        let (a, b) = (&self.list[self.held], &self.list[rank]);
        let allowed = self.overlap * 0.5 * a.twice_area_px.min(b.twice_area_px) as f32;
        if a.shared_box_px(b) as f32 <= allowed {
            return false;
        }
        let (xs, ys) = self.stars.vertices(b);
        self.other.cut(xs, ys);
        let apart = (b.x - a.x, b.y - a.y);
        let shared = shared_area_px(self.slabs, self.other, apart)
            .unwrap_or_else(|| shared_area_of_any_px(self.stars.vertices(a), (xs, ys), apart));
        shared > allowed
    }
}

impl Cells {
    /// Sorts the polygons, given by rank, into cells.
    fn fill(&mut self, stars: &[Star]) {
        let edges = |of: fn(&Star) -> i32| {
            stars.iter().map(of).fold((i32::MAX, i32::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)))
        };
        let ((left, right), (top, bottom)) = (edges(|s| s.x), edges(|s| s.y));
        self.ends.clear();
        self.reach_px.clear();
        self.members.clear();
        self.bounds.clear();
        self.farthest_px = 0;
        if stars.is_empty() {
            self.columns = 0;
            return;
        }
        (self.left, self.top) = (left, top);
        self.columns = ((right - left) / CELL_PX + 1) as usize;
        let cells = self.columns * ((bottom - top) / CELL_PX + 1) as usize;
        self.ends.resize(cells, 0);
        self.reach_px.resize(cells, 0);
        for star in stars {
            let at = self.cell(star);
            self.ends[at] += 1;
            self.reach_px[at] = self.reach_px[at].max(star.reach_px);
            self.farthest_px = self.farthest_px.max(star.reach_px);
        }
        let mut total = 0;
        for end in &mut self.ends {
            total += std::mem::replace(end, total);
        }
        self.members.resize(stars.len(), 0);
        self.bounds.resize(stars.len(), [0; 4]);
        for (rank, star) in stars.iter().enumerate() {
            let at = self.cell(star);
            self.members[self.ends[at] as usize] = rank as u32;
            self.bounds[self.ends[at] as usize] = star.bounds;
            self.ends[at] += 1;
        }
    }

    fn cell(&self, star: &Star) -> usize {
        ((star.y - self.top) / CELL_PX) as usize * self.columns + ((star.x - self.left) / CELL_PX) as usize
    }

    /// Calls `visit` for each polygon (`star` is one of them) whose box shares area with that of `star`, in an order
    /// without meaning, until it returns false.
    fn near(&self, star: &Star, mut visit: impl FnMut(usize) -> bool) {
        let [left, top, right, bottom] = star.bounds;
        let rows = (self.ends.len() / self.columns) as i32;
        let range = |from: i32, to: i32, origin: i32, count: i32| {
            let first = (from - self.farthest_px - origin).max(0) / CELL_PX;
            first..=((to + self.farthest_px - origin).max(0) / CELL_PX).min(count - 1)
        };
        for row in range(top, bottom, self.top, rows) {
            for column in range(left, right, self.left, self.columns as i32) {
                let cell = row as usize * self.columns + column as usize;
                let (x, y, reach) = (self.left + column * CELL_PX, self.top + row * CELL_PX, self.reach_px[cell]);
                let within = x - reach < right && x + CELL_PX + reach > left;
                if !within || y - reach >= bottom || y + CELL_PX + reach <= top {
                    continue;
                }
                let start = if cell == 0 { 0 } else { self.ends[cell - 1] as usize };
                for at in start..self.ends[cell] as usize {
                    let other = &self.bounds[at];
                    let meets = other[0] < right && other[2] > left && other[1] < bottom && other[3] > top;
                    if meets && !visit(self.members[at] as usize) {
                        return;
                    }
                }
            }
        }
    }
}
