//! Connected components of a class map that arrives row by row.
//!
//! Owns: [`Components`], [`Component`]. Must not know: units, features, files.
//! Source: run-based two-row labelling with union-find (He, Chao and Suzuki 2008); components are handed out as soon
//! as a row passes without them, so memory holds the active ones only.

use super::{
    Run,
    run_lists::{RunList, RunLists},
    stretches::{NONE, NOT_COMPUTED, Stretch, scan},
};

/// Components of fewer runs are never coarsened: there is nothing to win.
const FEW_RUNS: usize = 8;
/// Cells are never coarser than `1 << MAX_SHIFT` px.
const MAX_SHIFT: u32 = 10;

/// What is known of a component. Sums are over pixels; the runs may be coarser.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component {
    /// Value of its pixels.
    pub(super) class: u8,
    /// Touches the edge of the map or a pixel that was not computed, along a pixel's edge.
    pub(super) truncated: bool,
    /// Its runs are on cells of `1 << shift` px.
    pub(super) shift: u32,
    /// Topmost, then leftmost pixel: `(y, x)`.
    pub(super) first: (u32, u32),
    /// Bounding box: x0, y0, x1, y1, half-open.
    pub(super) bbox: [u32; 4],
    /// Number of pixels.
    pub(super) area_px: u64,
    /// Sum of columns.
    pub(super) sum_x: u64,
    /// Sum of rows.
    pub(super) sum_y: u64,
    last_y: u32,
    runs: RunList,
}

/// Takes a component that ended: what is known of it, the sum of each plane's probabilities over it, its runs.
pub(super) type Finished<'a> = dyn FnMut(&Component, &[u64], Vec<Run>) + 'a;

/// Labels rows.
#[derive(Debug)]
pub(super) struct Components {
    width_px: u32,
    next_y: u32,
    previous: Vec<Stretch>,
    current: Vec<Stretch>,
    parent: Vec<u32>,
    components: Vec<Component>,
    /// `[components, planes]` sums of the probabilities given, 255 = 1.
    prob_sums: Vec<u64>,
    /// Planes of probabilities that come with each row.
    planes: usize,
    free_components: Vec<u32>,
    merged: Vec<u32>,
    finished: Vec<u32>,
    lists: RunLists,
    max_runs: usize,
    coarsen_at: usize,
}

impl Components {
    /// Rows of `width_px`; at most about `max_runs` runs are held before components are coarsened.
    pub(super) fn new(width_px: u32, max_runs: usize) -> Self {
        let mut new = Self {
            width_px,
            next_y: 0,
            previous: Vec::new(),
            current: Vec::new(),
            parent: Vec::new(),
            components: Vec::new(),
            prob_sums: Vec::new(),
            planes: 0,
            free_components: Vec::new(),
            merged: Vec::new(),
            finished: Vec::new(),
            lists: RunLists::default(),
            max_runs,
            coarsen_at: max_runs,
        };
        new.outside();
        new
    }

    /// Changes how many rows of probabilities come with a row; before the first.
    pub(super) fn expect_planes(&mut self, planes: usize) {
        self.planes = planes;
    }

    /// Changes how many runs are held.
    pub(super) fn set_max_runs(&mut self, max_runs: usize) {
        (self.max_runs, self.coarsen_at) = (max_runs, max_runs);
    }

    /// Labels row `y`; rows left out since the last one count as not computed.
    ///
    /// `finished` gets each component that ended above, by first pixel, the sums of each plane's probabilities over it,
    /// and its runs by row and column.
    pub(super) fn push_row(
        &mut self,
        y: u32,
        classes: &[u8],
        probs: &[&[u8]],
        min_area_px: u64,
        finished: &mut Finished<'_>,
    ) {
        assert_eq!(classes.len(), self.width_px as usize, "a row is as wide as the map");
        assert!(probs.len() == self.planes && probs.iter().all(|p| p.len() == classes.len()), "a row per plane");
        assert!(y >= self.next_y, "rows come in order");
        if y > self.next_y {
            self.close(min_area_px, finished);
        }
        self.next_y = y + 1;
        let mut current = std::mem::take(&mut self.current);
        scan(classes, &mut current);
        self.link(y, &mut current, probs);
        self.end_row(y, min_area_px, finished);
        if !self.merged.is_empty() {
            for stretch in &mut current {
                if stretch.component != NONE {
                    stretch.component = find(&mut self.parent, stretch.component);
                }
            }
            self.free_components.append(&mut self.merged);
        }
        self.current = std::mem::replace(&mut self.previous, current);
        if self.lists.held() > self.coarsen_at {
            self.coarsen_largest();
        }
    }

    /// Ends every component: the map ends here, or rows are missing.
    pub(super) fn close(&mut self, min_area_px: u64, finished: &mut Finished<'_>) {
        for stretch in &self.previous {
            if stretch.component != NONE {
                self.components[stretch.component as usize].truncated = true;
            }
        }
        self.end_row(NONE, min_area_px, finished);
        self.outside();
    }

    /// The row above the next one is not of the map.
    fn outside(&mut self) {
        self.previous.clear();
        self.previous.push(Stretch { x0: 0, x1: self.width_px, class: NOT_COMPUTED, component: NONE });
    }

    /// Gives each stretch of `current` its component.
    fn link(&mut self, y: u32, current: &mut [Stretch], probs: &[&[u8]]) {
        let previous = std::mem::take(&mut self.previous);
        let mut above = 0;
        // End and class of the stretch to the left; outside the map nothing was computed.
        let (mut left_x1, mut left_class, mut left_component) = (0, NOT_COMPUTED, NONE);
        for stretch in current.iter_mut() {
            let beside = left_x1 == stretch.x0;
            while above < previous.len() && previous[above].x1 <= stretch.x0 {
                above += 1;
            }
            let overlapping = previous[above..].iter().take_while(|p| p.x0 < stretch.x1);
            if stretch.class == NOT_COMPUTED {
                for p in overlapping.filter(|p| p.component != NONE) {
                    let root = find(&mut self.parent, p.component);
                    self.components[root as usize].truncated = true;
                }
                if beside && left_component != NONE {
                    self.components[find(&mut self.parent, left_component) as usize].truncated = true;
                }
            } else {
                let mut truncated = beside && left_class == NOT_COMPUTED || stretch.x1 == self.width_px;
                let mut component = NONE;
                for p in overlapping {
                    if p.class == stretch.class {
                        let root = find(&mut self.parent, p.component);
                        component = if component == NONE { root } else { self.union(component, root) };
                    } else {
                        truncated |= p.class == NOT_COMPUTED;
                    }
                }
                if component == NONE {
                    component = self.create(stretch, y);
                }
                stretch.component = component;
                self.add(y, stretch, truncated);
                let sums = &mut self.prob_sums[component as usize * self.planes..][..self.planes];
                for (sum, row) in sums.iter_mut().zip(probs) {
                    *sum += row[stretch.x0 as usize..stretch.x1 as usize].iter().map(|&p| u64::from(p)).sum::<u64>();
                }
            }
            (left_x1, left_class, left_component) = (stretch.x1, stretch.class, stretch.component);
        }
        self.previous = previous;
    }

    /// A new component that starts with `stretch`.
    fn create(&mut self, stretch: &Stretch, y: u32) -> u32 {
        let component = Component {
            class: stretch.class,
            truncated: false,
            shift: 0,
            first: (y, stretch.x0),
            bbox: [stretch.x0, y, stretch.x1, y + 1],
            area_px: 0,
            sum_x: 0,
            sum_y: 0,
            last_y: y,
            runs: RunList::default(),
        };
        if let Some(at) = self.free_components.pop() {
            self.parent[at as usize] = at;
            self.components[at as usize] = component;
            self.prob_sums[at as usize * self.planes..][..self.planes].fill(0);
            at
        } else {
            let at = self.components.len() as u32;
            self.parent.push(at);
            self.components.push(component);
            self.prob_sums.resize(self.components.len() * self.planes, 0);
            at
        }
    }

    /// Adds `stretch` to its component.
    fn add(&mut self, y: u32, stretch: &Stretch, truncated: bool) {
        let component = &mut self.components[stretch.component as usize];
        let n = u64::from(stretch.x1 - stretch.x0);
        component.area_px += n;
        component.sum_x += n * u64::from(stretch.x0 + stretch.x1 - 1) / 2;
        component.sum_y += n * u64::from(y);
        component.truncated |= truncated;
        component.last_y = y;
        component.bbox[0] = component.bbox[0].min(stretch.x0);
        component.bbox[2] = component.bbox[2].max(stretch.x1);
        component.bbox[3] = y + 1;
        let run = coarser(Run { y, x0: stretch.x0, x1: stretch.x1 }, component.shift);
        // On coarse cells, many runs fall into the same.
        if component.shift == 0 || !self.lists.widen_last(&component.runs, run) {
            self.lists.append(&mut component.runs, run);
        }
    }

    /// Makes one component of two roots; the one with the earlier first pixel stays.
    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b {
            return a;
        }
        let shift = self.components[a as usize].shift.max(self.components[b as usize].shift);
        for root in [a, b] {
            if self.components[root as usize].shift < shift {
                self.coarsen(root, shift);
            }
        }
        let (keep, gone) =
            if self.components[a as usize].first < self.components[b as usize].first { (a, b) } else { (b, a) };
        self.parent[gone as usize] = keep;
        self.merged.push(gone);
        for plane in 0..self.planes {
            self.prob_sums[keep as usize * self.planes + plane] += self.prob_sums[gone as usize * self.planes + plane];
        }
        let other = self.components[gone as usize];
        let kept = &mut self.components[keep as usize];
        kept.truncated |= other.truncated;
        kept.area_px += other.area_px;
        kept.sum_x += other.sum_x;
        kept.sum_y += other.sum_y;
        kept.last_y = kept.last_y.max(other.last_y);
        for side in 0..2 {
            kept.bbox[side] = kept.bbox[side].min(other.bbox[side]);
            kept.bbox[side + 2] = kept.bbox[side + 2].max(other.bbox[side + 2]);
        }
        self.lists.join(&mut kept.runs, other.runs);
        keep
    }

    /// Hands out the components of the row above that have no pixel in row `y`.
    fn end_row(&mut self, y: u32, min_area_px: u64, finished: &mut Finished<'_>) {
        let mut ended = std::mem::take(&mut self.finished);
        for stretch in self.previous.iter().filter(|s| s.component != NONE) {
            // A component that was merged away lives on in this row.
            let at = stretch.component;
            if self.parent[at as usize] == at && self.components[at as usize].last_y != y {
                self.components[at as usize].last_y = y;
                ended.push(at);
            }
        }
        if ended.len() > 1 {
            ended.sort_unstable_by_key(|&at| self.components[at as usize].first);
        }
        for &at in &ended {
            let component = self.components[at as usize];
            let runs = (component.area_px >= min_area_px).then(|| self.sorted_runs(&component));
            self.lists.release(&mut self.components[at as usize].runs);
            if let Some(runs) = runs {
                finished(&component, &self.prob_sums[at as usize * self.planes..][..self.planes], runs);
            }
            self.free_components.push(at);
        }
        ended.clear();
        self.finished = ended;
    }

    /// A component's runs by row and column.
    fn sorted_runs(&self, component: &Component) -> Vec<Run> {
        let mut runs = self.lists.collect(&component.runs);
        if !runs.is_sorted() {
            runs.sort_unstable();
        }
        if component.shift > 0 {
            unite(&mut runs);
        }
        runs
    }

    /// Puts a component's runs on cells of `1 << shift` px; a cell is part of it when any of its pixels is.
    fn coarsen(&mut self, at: u32, shift: u32) {
        let component = self.components[at as usize];
        let mut runs = self.sorted_runs(&component);
        for run in &mut runs {
            *run = coarser(*run, shift - component.shift);
        }
        runs.sort_unstable();
        unite(&mut runs);
        let component = &mut self.components[at as usize];
        self.lists.release(&mut component.runs);
        component.shift = shift;
        for run in runs {
            self.lists.append(&mut component.runs, run);
        }
    }

    /// Coarsens the components with the most runs until half of `max_runs` is left, each by no more than needed.
    fn coarsen_largest(&mut self) {
        let mut active: Vec<u32> = self.previous.iter().map(|s| s.component).filter(|&at| at != NONE).collect();
        active.sort_unstable();
        active.dedup();
        active.sort_by_key(|&at| {
            (std::cmp::Reverse(self.components[at as usize].runs.len()), self.components[at as usize].first)
        });
        for at in active {
            let few = self.components[at as usize].runs.len() < FEW_RUNS;
            if few || self.lists.held() <= self.max_runs / 2 {
                break;
            }
            let half = self.components[at as usize].runs.len() / 2;
            while self.components[at as usize].runs.len() > half && self.components[at as usize].shift < MAX_SHIFT {
                self.coarsen(at, self.components[at as usize].shift + 1);
            }
        }
        self.coarsen_at = self.max_runs.max(2 * self.lists.held());
    }
}

/// The root of `at`.
#[inline]
fn find(parent: &mut [u32], mut at: u32) -> u32 {
    while parent[at as usize] != at {
        parent[at as usize] = parent[parent[at as usize] as usize];
        at = parent[at as usize];
    }
    at
}

/// `run` on cells `1 << shift` times as large.
fn coarser(run: Run, shift: u32) -> Run {
    Run { y: run.y >> shift, x0: run.x0 >> shift, x1: ((run.x1 - 1) >> shift) + 1 }
}

/// Unites sorted runs that overlap or touch.
fn unite(runs: &mut Vec<Run>) {
    runs.dedup_by(|run, kept| {
        let same = run.y == kept.y && run.x0 <= kept.x1;
        if same {
            kept.x1 = kept.x1.max(run.x1);
        }
        same
    });
}
