//! Lesions: connected areas of one class in a semantic map of a whole slide.
//!
//! Owns: [`LesionFinder`], [`Lesion`]. Must not know: how the map was made, files.

use super::{
    Instance, Run,
    components::{Component, Components},
    measure::measure,
    rings,
};
use crate::units::Mpp;
use std::f64::consts::PI;

/// Runs held for unfinished lesions before the largest are simplified. A run costs 16 bytes while it waits and up to
/// ten times that while its lesion's outline is traced.
const MAX_RUNS: usize = 2_000_000;

/// A lesion, and how finely it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesion {
    /// The lesion.
    pub instance: Instance,
    /// 1: exact. More: the lesion had too many runs to hold (see [`LesionFinder`]) and was put on cells of this many
    /// pixels; see there for what that means.
    pub cell_px: u32,
}

/// Finds lesions in rows of a semantic map, top to bottom, whatever the height.
///
/// A lesion is a 4-connected set of pixels of one class (so one exterior outlines it). It is handed out once the first
/// row without it has been seen; of several that end in the same row, by topmost and then leftmost pixel. The order and
/// the result depend on the map alone.
///
/// It is `truncated` when one of its pixels shares an edge with the slide's border or with a pixel that was not
/// computed.
///
/// # Memory
/// Lesions that are not finished, 16 bytes per run, and the list of runs of two rows. Above `max_runs` the lesions with
/// the most runs are put on a grid of 2, 4, … 1024 px cells (a cell is part when any of its pixels is), each no coarser
/// than it takes to halve its runs. Such a lesion has `cell_px` > 1: class, probability, area, centroid, bounding box
/// (hence `extent`), equivalent diameter, `truncated` are still exact; outline and other features are those of its
/// cells, cut at its bounding box, `solidity` and `circularity` the exact area over the cells' hull and perimeter; its
/// `runs` are left empty.
#[derive(Debug)]
pub struct LesionFinder {
    components: Components,
    shape: Shape,
    min_area_px: u64,
}

/// What a component becomes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    input_mpp: Mpp,
    class_count: usize,
}

impl LesionFinder {
    /// For a map of `width_px` columns with classes 1 to `class_count`; lesions below `min_area_um2` are dropped.
    pub fn new(width_px: u32, class_count: u8, input_mpp: Mpp, min_area_um2: f64) -> Self {
        let um = input_mpp.um_per_px();
        // Whole pixels; a hair less than one more is that one, not rounding noise of the mpp.
        let min_area_px = (min_area_um2 / (um * um) - 1e-6).ceil().max(1.0) as u64;
        let shape = Shape { input_mpp, class_count: usize::from(class_count) };
        Self { components: Components::new(width_px, MAX_RUNS), shape, min_area_px }
    }

    /// Holds at most about `max_runs` runs of unfinished lesions (default 2,000,000).
    #[must_use]
    pub fn with_max_runs(mut self, max_runs: usize) -> Self {
        self.components.set_max_runs(max_runs);
        self
    }

    /// Rows come with the probabilities of every class, and a lesion's `class_probs` are their means over it. Without,
    /// they are 1 for its class and 0 for the others.
    #[must_use]
    pub fn with_probs(mut self) -> Self {
        self.components.expect_planes(self.shape.class_count);
        self
    }

    /// Takes row `y` and hands out the lesions that ended above it.
    ///
    /// Rows left out since the last one count as not computed.
    ///
    /// # Shapes
    /// - `classes`: `[width_px]`; 0 background, 255 not computed
    /// - `probs`: none; or, after [`LesionFinder::with_probs`], `[width_px]` probabilities of each class, 255 = 1
    ///
    /// # Panics
    /// If a row is not `width_px` wide or comes out of order, or not with as many probabilities as there are classes.
    pub fn push_row(&mut self, y: u32, classes: &[u8], probs: &[&[u8]], emit: &mut dyn FnMut(Lesion)) {
        let shape = self.shape;
        self.components.push_row(y, classes, probs, self.min_area_px, &mut |component, sums, runs| {
            emit(shape.lesion(component, sums, runs));
        });
    }

    /// Hands out the lesions of the last row.
    pub fn finish(mut self, emit: &mut dyn FnMut(Lesion)) {
        let shape = self.shape;
        self.components.close(self.min_area_px, &mut |component, sums, runs| emit(shape.lesion(component, sums, runs)));
    }
}

impl Shape {
    /// The lesion of a finished component. Without sums of probabilities, its class is certain.
    fn lesion(&self, component: &Component, prob_sums: &[u64], mut runs: Vec<Run>) -> Lesion {
        let area_px = component.area_px as f64;
        let mut class_probs: Vec<f32> = prob_sums.iter().map(|&sum| (sum as f64 / (255.0 * area_px)) as f32).collect();
        if prob_sums.is_empty() {
            class_probs.resize(self.class_count.max(usize::from(component.class)), 0.0);
            class_probs[usize::from(component.class) - 1] = 1.0;
        }
        let cell_px = 1_u32 << component.shift;
        let cell_mpp = Mpp::new(self.input_mpp.um_per_px() * f64::from(cell_px)).expect("a multiple of an mpp is one");
        let mut features = measure(&runs, cell_mpp, None);
        let mut rings = rings(&runs);
        if cell_px > 1 {
            let [x0, y0, x1, y1] = component.bbox.map(f64::from);
            for point in rings.iter_mut().flatten() {
                point[0] = (point[0] * f64::from(cell_px)).clamp(x0, x1);
                point[1] = (point[1] * f64::from(cell_px)).clamp(y0, y1);
            }
            let um = self.input_mpp.um_per_px();
            let exact = area_px * um * um;
            features.solidity *= exact / features.area_um2;
            features.circularity *= exact / features.area_um2;
            features.area_um2 = exact;
            features.extent = area_px / ((x1 - x0) * (y1 - y0));
            features.equivalent_diameter_um = (4.0 * area_px / PI).sqrt() * um;
            runs = Vec::new();
        }
        let mean = |sum: u64| (2 * u128::from(sum) + u128::from(component.area_px)) as f64 / (2.0 * area_px);
        let instance = Instance {
            class: component.class,
            class_probs,
            runs,
            centroid: (mean(component.sum_x), mean(component.sum_y)),
            rings,
            truncated: component.truncated,
            features,
        };
        Lesion { instance, cell_px }
    }
}
