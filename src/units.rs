//! Checked physical units.
//!
//! Owns: [`Mpp`], [`MppXy`]. Must not know: pixels, slides. Other lengths and areas are plain `f64` whose name
//! ends in the unit (`radius_um`, `area_um2`).

use std::fmt;

/// Micrometres per pixel: finite and greater than zero. Larger is coarser.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, serde::Serialize)]
pub struct Mpp(f64);

impl Mpp {
    /// `None` unless `um_per_px` is finite and positive.
    pub fn new(um_per_px: f64) -> Option<Self> {
        (um_per_px.is_finite() && um_per_px > 0.0).then_some(Self(um_per_px))
    }

    /// The number itself.
    pub fn um_per_px(self) -> f64 {
        self.0
    }

    /// That of pixels `factor` times as wide and high; `factor` is not zero.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        debug_assert!(factor > 0, "a pixel has a size");
        Self(self.0 * f64::from(factor))
    }
}

impl fmt::Display for Mpp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} µm/px", self.0)
    }
}

/// Micrometres per pixel along x and y, which scanners may give apart.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct MppXy {
    /// Along x.
    pub x: Mpp,
    /// Along y.
    pub y: Mpp,
}

impl MppXy {
    /// The same along both axes.
    pub fn square(mpp: Mpp) -> Self {
        Self { x: mpp, y: mpp }
    }

    /// µm² of one pixel.
    pub fn px_area_um2(self) -> f64 {
        self.x.0 * self.y.0
    }

    /// Geometric mean of the two.
    pub fn mean(self) -> Mpp {
        Mpp(self.px_area_um2().sqrt())
    }
}
