//! Whose nucleus is it: the region's whose core holds its centroid; and is it whole?
//!
//! Owns: [`Sums`], [`touches_unknown`]. Must not know: how nuclei are found.
//!
//! In integers: the pixel a centroid falls in must not depend on the order of a sum.

use super::{instance::Run, mask_grid::MaskGrid};
use crate::{
    geometry::{Rect, Target},
    stitch::Region,
};

/// Exact sums over a nucleus' pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Number of pixels.
    pub(super) area_px: u64,
    /// Sum of `x`, counted at the pixels' left edges.
    x: u64,
    /// Sum of `y`.
    y: u64,
}

impl Sums {
    /// Adds a run's pixels.
    pub(super) fn add(&mut self, run: Run) {
        let n = u64::from(run.x1 - run.x0);
        self.area_px += n;
        self.x += n * (u64::from(run.x0) + u64::from(run.x1) - 1) / 2;
        self.y += n * u64::from(run.y);
    }

    /// Mean of the pixel centres.
    pub(super) fn centroid(&self) -> (f64, f64) {
        let n = self.area_px as f64;
        (self.x as f64 / n + 0.5, self.y as f64 / n + 0.5)
    }

    /// Whether the pixel that holds the centroid is in `core`. Cores that partition a slide so share its nuclei out.
    pub(super) fn centroid_is_in(&self, core: Rect<Target>) -> bool {
        // floor(sum / n + 1/2), exactly.
        let pixel = |sum: u64| ((2 * sum + self.area_px) / (2 * self.area_px)) as i64;
        core.contains(pixel(self.x), pixel(self.y))
    }
}

/// Whether the pixels lie at the slide's edge or beside pixels that were not computed.
pub(super) fn touches_unknown(runs: &[Run], region: &Region, masks: &MaskGrid, all_computed: bool) -> bool {
    let slide = masks.grid.size;
    runs.iter().any(|run| {
        let at_edge = run.y == 0 || run.y + 1 == slide.h || run.x0 == 0 || run.x1 == slide.w;
        at_edge || (!all_computed && !surroundings_are_computed(run, region, masks))
    })
}

/// Whether a run's pixels and all eight neighbours of each were computed.
fn surroundings_are_computed(run: &Run, region: &Region, masks: &MaskGrid) -> bool {
    let around =
        Rect::from_edges(i64::from(run.x0) - 1, i64::from(run.y) - 1, i64::from(run.x1) + 1, i64::from(run.y) + 2)
            .intersect(&masks.pixels_of(region.rect));
    (around.y..around.bottom()).all(|y| {
        let mut under = masks.under(region, y as u32, around.x as u32, around.right() as u32);
        under.all(|at| region.computed[at] != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centroid_between_two_cores_belongs_to_exactly_one() {
        // Pixels 3 and 4: the centroid is at 4.0, the first point of pixel 4.
        let mut sums = Sums::default();
        sums.add(Run { y: 0, x0: 3, x1: 5 });
        assert_eq!(sums.centroid(), (4.0, 0.5));
        assert!(!sums.centroid_is_in(Rect::new(0, 0, 4, 1)));
        assert!(sums.centroid_is_in(Rect::new(4, 0, 4, 1)));
    }
}
