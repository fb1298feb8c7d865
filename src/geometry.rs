//! Rectangles that carry their coordinate space, and the one place that converts between spaces.
//!
//! Owns: [`Rect`], [`Size`], the spaces [`Level0`], [`InLevel`], [`Target`], and [`TargetGrid`].
//! Must not know: what a slide or a tile is. Sole place that rounds.
//!
//! Continuous coordinates count pixel **edges**: pixel `i` covers `[i, i + 1)`, its centre is `i + 0.5`.
//! Rectangles are half-open.

use crate::units::{Mpp, MppXy};
use std::marker::PhantomData;

/// Space of level-0 pixels of the whole slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level0 {}
/// Space of the pixels of one pyramid level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InLevel {}
/// Space of the target grid: pixels at the model's `input_mpp`, origin at the slide's corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {}

/// A half-open rectangle of whole pixels in space `S`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Rect<S> {
    /// Left edge; may be negative (outside the slide).
    pub x: i64,
    /// Top edge; may be negative.
    pub y: i64,
    /// Width in px.
    pub w: u32,
    /// Height in px.
    pub h: u32,
    space: PhantomData<S>,
}

impl<S> Clone for Rect<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Rect<S> {}

impl<S> Rect<S> {
    /// A rectangle from its corner and size.
    pub const fn new(x: i64, y: i64, w: u32, h: u32) -> Self {
        Self { x, y, w, h, space: PhantomData }
    }

    /// A rectangle from its edges; empty when they cross.
    pub fn from_edges(left: i64, top: i64, right: i64, bottom: i64) -> Self {
        Self::new(left, top, (right - left).max(0) as u32, (bottom - top).max(0) as u32)
    }

    /// First x outside.
    pub fn right(&self) -> i64 {
        self.x + i64::from(self.w)
    }

    /// First y outside.
    pub fn bottom(&self) -> i64 {
        self.y + i64::from(self.h)
    }

    /// Number of pixels.
    pub fn area(&self) -> u64 {
        u64::from(self.w) * u64::from(self.h)
    }

    /// No pixel inside.
    pub fn is_empty(&self) -> bool {
        self.w == 0 || self.h == 0
    }

    /// The pixels in both; an empty rectangle when there are none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self::from_edges(
            self.x.max(other.x),
            self.y.max(other.y),
            self.right().min(other.right()),
            self.bottom().min(other.bottom()),
        )
    }

    /// Whether pixel `(x, y)` is inside.
    pub fn contains(&self, x: i64, y: i64) -> bool {
        x >= self.x && y >= self.y && x < self.right() && y < self.bottom()
    }

    /// The same area counted in pixels `factor` times as fine.
    pub fn enlarge(&self, factor: u32) -> Self {
        let f = i64::from(factor);
        Self::new(self.x * f, self.y * f, self.w * factor, self.h * factor)
    }

    /// Grown by `margin_px` on every side.
    #[must_use]
    pub fn inflate(&self, margin_px: u32) -> Self {
        let m = i64::from(margin_px);
        Self::from_edges(self.x - m, self.y - m, self.right() + m, self.bottom() + m)
    }
}

/// Width and height in px of space `S`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Size<S> {
    /// Width in px.
    pub w: u32,
    /// Height in px.
    pub h: u32,
    space: PhantomData<S>,
}

impl<S> Clone for Size<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Size<S> {}

impl<S> Size<S> {
    /// A size.
    pub const fn new(w: u32, h: u32) -> Self {
        Self { w, h, space: PhantomData }
    }

    /// The rectangle of this size at the origin.
    pub fn rect(&self) -> Rect<S> {
        Rect::new(0, 0, self.w, self.h)
    }

    /// Number of pixels.
    pub fn area(&self) -> u64 {
        u64::from(self.w) * u64::from(self.h)
    }
}

/// The grid of pixels at `input_mpp` laid over a slide, corner on corner.
///
/// A target pixel is square in µm: where the slide's mpp differs along x and y, so do the two scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetGrid {
    /// Size of the slide.
    pub level0: Size<Level0>,
    /// Resolution of the slide.
    pub slide_mpp: MppXy,
    /// Resolution of the grid.
    pub input_mpp: Mpp,
    /// Size of the grid: enough pixels to cover the slide.
    pub size: Size<Target>,
}

impl TargetGrid {
    /// The grid at `input_mpp` over a slide of `level0` px at `slide_mpp`.
    pub fn new(level0: Size<Level0>, slide_mpp: MppXy, input_mpp: Mpp) -> Self {
        let cover = |px: u32, mpp: Mpp| {
            // Half a thousandth of a pixel is rounding noise of the mpp, not a pixel more.
            let exact = f64::from(px) * mpp.um_per_px() / input_mpp.um_per_px();
            ((exact - 5e-4).ceil().max(1.0)) as u32
        };
        let size = Size::new(cover(level0.w, slide_mpp.x), cover(level0.h, slide_mpp.y));
        Self { level0, slide_mpp, input_mpp, size }
    }

    /// Level-0 px per target px, along x and y.
    pub fn level0_px_per_target_px(&self) -> (f64, f64) {
        let t = self.input_mpp.um_per_px();
        (t / self.slide_mpp.x.um_per_px(), t / self.slide_mpp.y.um_per_px())
    }

    /// A point of the target grid in level-0 px (both count pixel edges).
    pub fn level0_from_target_point(&self, x: f64, y: f64) -> (f64, f64) {
        let (sx, sy) = self.level0_px_per_target_px();
        (x * sx, y * sy)
    }

    /// The smallest level-0 rectangle that covers `rect`.
    pub fn level0_from_target(&self, rect: Rect<Target>) -> Rect<Level0> {
        let (sx, sy) = self.level0_px_per_target_px();
        Rect::from_edges(
            (rect.x as f64 * sx).floor() as i64,
            (rect.y as f64 * sy).floor() as i64,
            (rect.right() as f64 * sx).ceil() as i64,
            (rect.bottom() as f64 * sy).ceil() as i64,
        )
    }

    /// µm² of one target pixel.
    pub fn px_area_um2(&self) -> f64 {
        self.input_mpp.um_per_px().powi(2)
    }
}
