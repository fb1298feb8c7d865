//! Shape and colour of one instance, from its runs.
//!
//! Owns: [`measure`], [`centroid`], [`RgbWindow`]. Must not know: how the instance was found, files.
//! Source: scikit-image 0.26 `measure/_regionprops.py`; every value equals `regionprops` of the same pixels.

use super::{Features, Run, colour::ColourSums, hull::convex_hull, moments::Moments, perimeter::perimeter_px};
use crate::{
    geometry::{Rect, Target},
    units::Mpp,
};
use std::{borrow::Cow, f64::consts::PI};

/// Pixels of the slide over a rectangle.
#[derive(Debug, Clone, Copy)]
pub struct RgbWindow<'a> {
    /// `[rect.h, rect.w, 3]`.
    pub rgb: &'a [u8],
    /// Where it lies, in its own pixels.
    pub rect: Rect<Target>,
    /// Pixels of an instance along one of these.
    pub factor: u32,
}

impl RgbWindow<'_> {
    /// The bytes under each pixel of `run`.
    fn bytes(&self, run: &Run) -> Cow<'_, [u8]> {
        let place = |x: u32| {
            let column = (i64::from(x / self.factor) - self.rect.x) as usize;
            let row = (i64::from(run.y / self.factor) - self.rect.y) as usize;
            (row * self.rect.w as usize + column) * 3
        };
        if self.factor == 1 {
            return Cow::Borrowed(&self.rgb[place(run.x0)..][..(run.x1 - run.x0) as usize * 3]);
        }
        (run.x0..run.x1).flat_map(|x| self.rgb[place(x)..][..3].iter().copied()).collect()
    }
}

/// Measures the shape of `runs` and, given pixels, their colour.
///
/// All sums are integers, so the result depends on the set of pixels alone: not on where it lies, nor on the order
/// of the runs' rows having been found. One pixel, one row, one column, rings and disconnected pieces are all defined.
///
/// Where `regionprops` leaves a value open:
/// - `circularity` is 0 where the perimeter is 0 (fewer than three pixels in a row: too small for the estimator);
/// - `orientation` is -π/4 where both axes are equally long (discs, squares, single pixels), as in scikit-image when
///   its rounding errors cancel;
/// - the colours are 0 without `rgb`.
///
/// # Shapes
/// - `runs`: sorted by row and then column, not empty, not overlapping
/// - `rgb`: covers all runs
///
/// # Units
/// `runs` are in target px at `input_mpp`, `rgb` in those or coarser ones; see [`Features`] for the results.
///
/// # Panics
/// If `runs` is empty or `rgb` does not cover it.
///
/// # Source
/// scikit-image 0.26 `regionprops`; optical densities are this project's, see `colour.rs`.
pub fn measure(runs: &[Run], input_mpp: Mpp, rgb: Option<RgbWindow<'_>>) -> Features {
    let um = input_mpp.um_per_px();
    let moments = Moments::of(runs);
    let bounds = bounds(runs);
    let hull = convex_hull(runs, &bounds);
    let area_px = moments.area_px();
    let perimeter_px = perimeter_px(runs, &bounds);
    let axes = moments.axes();
    let mut features = Features {
        area_um2: area_px * um * um,
        perimeter_um: perimeter_px * um,
        axis_major_length_um: axes.major_px * um,
        axis_minor_length_um: axes.minor_px * um,
        eccentricity: axes.eccentricity,
        solidity: area_px / hull.area_convex_px as f64,
        extent: area_px / (f64::from(bounds.width()) * f64::from(bounds.height())),
        circularity: if perimeter_px > 0.0 { 4.0 * PI * area_px / (perimeter_px * perimeter_px) } else { 0.0 },
        orientation: axes.orientation,
        equivalent_diameter_um: (4.0 * area_px / PI).sqrt() * um,
        feret_diameter_max_um: hull.feret_diameter_max_px * um,
        ..Features::default()
    };
    if let Some(window) = rgb {
        let mut sums = ColourSums::default();
        for run in runs {
            sums.add(&window.bytes(run));
        }
        sums.write(&mut features);
    }
    features
}

/// Mean of the pixel centres `(x, y)` in target px counted at pixel edges: the centre of pixel 0 is 0.5.
///
/// # Panics
/// If `runs` is empty.
pub fn centroid(runs: &[Run]) -> (f64, f64) {
    Moments::of(runs).centroid()
}

/// Bounding box of runs, half-open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) x0: u32,
    pub(super) y0: u32,
    pub(super) x1: u32,
    pub(super) y1: u32,
}

impl Bounds {
    pub(super) fn width(&self) -> u32 {
        self.x1 - self.x0
    }

    pub(super) fn height(&self) -> u32 {
        self.y1 - self.y0
    }
}

/// Bounding box of `runs` (sorted by row, not empty).
pub(super) fn bounds(runs: &[Run]) -> Bounds {
    let (mut x0, mut x1) = (u32::MAX, 0);
    for run in runs {
        x0 = x0.min(run.x0);
        x1 = x1.max(run.x1);
    }
    Bounds { x0, y0: runs[0].y, x1, y1: runs[runs.len() - 1].y + 1 }
}
