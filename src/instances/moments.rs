//! Sums over the pixels of an instance, and the ellipse that has the same.
//!
//! Owns: [`Moments`]. Must not know: units, colours. Source: scikit-image 0.26 `measure/_moments.py`
//! (`inertia_tensor`, `inertia_tensor_eigvals`) and `RegionProperties.orientation`.

use super::Run;
use std::f64::consts::FRAC_PI_4;

/// Zeroth to second moments about the first run's corner, exact.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    origin: (u32, u32),
    n: i128,
    x: i128,
    y: i128,
    xx: i128,
    xy: i128,
    yy: i128,
}

/// The ellipse with the same second moments, in px.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axes {
    pub(super) major_px: f64,
    pub(super) minor_px: f64,
    pub(super) eccentricity: f64,
    pub(super) orientation: f64,
}

impl Moments {
    /// Of `runs`, which are not empty.
    pub(super) fn of(runs: &[Run]) -> Self {
        let origin = (runs[0].x0, runs[0].y);
        let mut sums = Self { origin, ..Self::default() };
        for run in runs {
            // Columns and rows lie within ±2^32 of the origin, and a run is far shorter than 2^20, so each term of
            // a run fits 64 bits as long as slides are narrower than two million pixels.
            let a = i64::from(run.x0) - i64::from(origin.0);
            let n = i64::from(run.x1) - i64::from(run.x0);
            let y = i64::from(run.y) - i64::from(origin.1);
            let last = n - 1;
            let within = n * last / 2;
            let x = n * a + within;
            sums.n += i128::from(n);
            sums.x += i128::from(x);
            sums.y += i128::from(n * y);
            sums.xx += i128::from(n * a * a + 2 * a * within + last * n * (2 * n - 1) / 6);
            sums.xy += i128::from(x * y);
            sums.yy += i128::from(n * y * y);
        }
        sums
    }

    /// Number of pixels.
    pub(super) fn area_px(&self) -> f64 {
        self.n as f64
    }

    /// Mean of pixel centres, `(x, y)` counted at pixel edges.
    pub(super) fn centroid(&self) -> (f64, f64) {
        let mean = |origin: u32, sum: i128| {
            // One division: the same bits wherever the origin lies.
            let whole = i128::from(origin) * self.n + sum;
            (2 * whole + self.n) as f64 / (2 * self.n) as f64
        };
        (mean(self.origin.0, self.x), mean(self.origin.1, self.y))
    }

    /// The ellipse with the same second moments.
    pub(super) fn axes(&self) -> Axes {
        // n² times variance along x, along y, and covariance: integers.
        let a = self.n * self.xx - self.x * self.x;
        let c = self.n * self.yy - self.y * self.y;
        let b = self.n * self.xy - self.x * self.y;
        let square = (self.n as f64) * (self.n as f64);
        let root = ((a - c) as f64).hypot(2.0 * b as f64);
        let large = ((a + c) as f64 + root) / 2.0;
        // The small eigenvalue as determinant over the large one: the difference would cancel for thin shapes.
        let fits = a.max(c) < 1 << 62;
        let determinant = if fits { (a * c - b * b) as f64 } else { a as f64 * c as f64 - b as f64 * b as f64 };
        let (small, eccentricity) =
            if large > 0.0 { (determinant.max(0.0) / large, (root / large).min(1.0).sqrt()) } else { (0.0, 0.0) };
        let orientation = match (a == c, b > 0) {
            (true, true) => FRAC_PI_4,
            (true, false) => -FRAC_PI_4,
            (false, _) => 0.5 * (2.0 * b as f64).atan2((c - a) as f64),
        };
        Axes {
            major_px: 4.0 * (large / square).sqrt(),
            minor_px: 4.0 * (small / square).sqrt(),
            eccentricity,
            orientation,
        }
    }
}
