//! Tiles that were classified as a whole: from probabilities to a class map, a heat map and rows.
//!
//! Owns: [`TileMaps`]. Must not know: networks, files.

use super::{
    contour::rings,
    instance::{Features, Instance, Run},
    semantic::NOT_COMPUTED,
};
use crate::{geometry::TargetGrid, model::Head};

/// What was said of a slide's tiles, on a grid with a pixel per tile.
#[derive(Debug, PartialEq)]
pub struct TileMaps {
    /// `[h, w]` class of each tile, 1 for the first; 255 where none was classified.
    pub classes: Vec<u8>,
    /// `[classes, h, w]`, `round(255 · prob)`; 0 where no tile was classified.
    pub prob: Vec<u8>,
    /// One row per tile; its pixel of the grid is its outline.
    pub tiles: Vec<Instance>,
}

/// Puts the answers on `grid`. Of equal probabilities the first class wins.
///
/// # Shapes
/// - `answers`: column and row on `grid`, and `[classes]` probabilities in fixed point
pub fn tile_maps<'a>(
    grid: &TargetGrid,
    classes: usize,
    answers: impl Iterator<Item = ((u32, u32), &'a [i16])>,
) -> TileMaps {
    let px = grid.size.area() as usize;
    let mut maps = TileMaps { classes: vec![NOT_COMPUTED; px], prob: vec![0; classes * px], tiles: vec![] };
    let one = Head::Classification.scale();
    for ((x, y), probs) in answers.filter(|((x, y), _)| *x < grid.size.w && *y < grid.size.h) {
        let class_probs: Vec<f32> = probs.iter().take(classes).map(|&p| f32::from(p) / one).collect();
        let mut best = 0;
        for (i, p) in class_probs.iter().enumerate() {
            if *p > class_probs[best] {
                best = i;
            }
        }
        let at = y as usize * grid.size.w as usize + x as usize;
        maps.classes[at] = best as u8 + 1;
        for (plane, p) in maps.prob.chunks_exact_mut(px).zip(&class_probs) {
            plane[at] = (p.clamp(0.0, 1.0) * 255.0).round() as u8;
        }
        let runs = vec![Run { y, x0: x, x1: x + 1 }];
        let (right, bottom) = grid.level0_from_target_point(f64::from(x) + 1.0, f64::from(y) + 1.0);
        maps.tiles.push(Instance {
            class: best as u8 + 1,
            class_probs,
            centroid: (f64::from(x) + 0.5, f64::from(y) + 0.5),
            rings: rings(&runs),
            // A hundredth of a pixel is rounding.
            truncated: right > f64::from(grid.level0.w) + 0.01 || bottom > f64::from(grid.level0.h) + 0.01,
            features: Features { area_um2: grid.px_area_um2(), ..Features::default() },
            runs,
        });
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::Size,
        units::{Mpp, MppXy},
    };

    #[test]
    fn a_tile_is_a_pixel_a_row_and_a_square_of_the_slide() {
        // Tiles of 100 px over 250 × 100 px: the third reaches beyond the slide.
        let mpp = Mpp::new(0.5).unwrap();
        let grid = TargetGrid::new(Size::new(250, 100), MppXy::square(mpp), mpp.times(100));
        let answers: [((u32, u32), &[i16]); 2] = [((2, 0), &[4096, 12_288]), ((0, 0), &[8192, 8192])];
        let maps = tile_maps(&grid, 2, answers.into_iter());
        assert_eq!(maps.classes, [1, 255, 2]);
        assert_eq!(maps.prob, [128, 0, 64, 128, 0, 191]);
        assert_eq!(
            maps.tiles.iter().map(|t| (t.centroid, t.truncated)).collect::<Vec<_>>(),
            [((2.5, 0.5), true), ((0.5, 0.5), false)]
        );
        assert_eq!(maps.tiles[1].class_probs, [0.5, 0.5]);
        assert_eq!(maps.tiles[0].features.area_um2, 2500.0);
    }
}
