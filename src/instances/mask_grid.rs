//! The grid nuclei are drawn on, which may be finer than that of the maps they are found in.
//!
//! Owns: [`MaskGrid`]. Must not know: how nuclei are found.

use crate::{
    geometry::{Rect, Target, TargetGrid},
    stitch::Region,
};

/// Where nuclei are drawn: their outlines, areas and masks count its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskGrid {
    /// The pixels.
    pub grid: TargetGrid,
    /// Pixels along one pixel of the maps.
    pub factor: u32,
}

impl MaskGrid {
    /// That of the maps.
    pub fn of_maps(maps: &TargetGrid) -> Self {
        Self { grid: *maps, factor: 1 }
    }

    /// The pixels of a rectangle of the maps, those beyond the slide left out.
    pub fn pixels_of(&self, maps: Rect<Target>) -> Rect<Target> {
        maps.enlarge(self.factor).intersect(&self.grid.size.rect())
    }

    /// Values of a region's core, one per pixel of the maps, for each pixel of [`MaskGrid::pixels_of`].
    pub fn spread(&self, region: &Region, of_core: Vec<u8>) -> Vec<u8> {
        if self.factor == 1 || of_core.is_empty() {
            return of_core;
        }
        let (w, f, to) = (region.core.w as usize, self.factor as usize, self.pixels_of(region.core));
        let (mut line, mut all) = (vec![0; w * f], Vec::with_capacity(f * f * of_core.len()));
        for row in of_core.chunks_exact(w) {
            line.chunks_exact_mut(f).zip(row).for_each(|(px, &value)| px.fill(value));
            (0..f).for_each(|_| all.extend_from_slice(&line[..to.w as usize]));
        }
        all.truncate(to.area() as usize);
        all
    }

    /// Index in a region's arrays of what lies under each pixel of `[x0, x1)` in row `y`.
    pub(super) fn under(&self, region: &Region, y: u32, x0: u32, x1: u32) -> impl Iterator<Item = usize> + use<> {
        let (rect, f) = (region.rect, self.factor);
        let row = (i64::from(y / f) - rect.y) as usize * rect.w as usize;
        (x0..x1).map(move |x| row + (i64::from(x / f) - rect.x) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::Size,
        units::{Mpp, MppXy},
    };

    #[test]
    fn pixels_beyond_the_slide_are_left_out() {
        let mpp = |um| Mpp::new(um).unwrap();
        let grid = TargetGrid::new(Size::new(7, 5), MppXy::square(mpp(0.5)), mpp(0.5));
        let masks = MaskGrid { grid, factor: 2 };
        // The maps have 4 x 3 pixels.
        let rect = Rect::new(2, 1, 2, 2);
        let region = Region { core: rect, rect, computed: vec![], planes: vec![], rgb: vec![] };
        assert_eq!(masks.pixels_of(region.core), Rect::new(4, 2, 3, 3));
        assert_eq!(masks.spread(&region, vec![1, 2, 3, 4]), [1, 1, 2, 1, 1, 2, 3, 3, 4]);
        assert_eq!(masks.under(&region, 4, 4, 7).collect::<Vec<_>>(), [2, 2, 3]);
    }
}
