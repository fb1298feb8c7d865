//! Which pyramid level is read, and whether it shows what level 0 shows.
//!
//! Owns: [`choose`], [`Choice`]. Must not know: tiles, filters.
//!
//! Files exist whose coarse levels were made by another program than level 0, in other colours or cut short. Tissue
//! and nuclei found on such a level would be wrong without a word, so a level is compared with level 0 in a few
//! places before it is used.

use crate::{
    geometry::{InLevel, Rect},
    slides::{Level, LevelInfo, SlideReader},
};

/// A level may be coarser than the target by this much and still count as not coarser: rounding of mpp in files.
const LEVEL_TOLERANCE: f64 = 1e-3;
/// Side of the squares compared, px of the coarse level.
const SQUARE_PX: u32 = 12;
/// Where they lie, as shares of width and height: the middle and around it, where tissue is likely.
const PLACES: [(f64, f64); 7] = [(0.5, 0.5), (0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (0.7, 0.7), (0.5, 0.25), (0.25, 0.5)];
/// Grey values by which the mean colour of a square may differ. JPEG and the filter of the pyramid stay below 6 on
/// the slides this was tried on; levels in wrong colours differ by 40 and more.
const MOST_DIFFERENCE: f64 = 16.0;

/// A level, and what was passed over to get there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// The level to read.
    pub level: Level,
    /// Level-0 px per px of it, along x and y.
    pub downsample: (f64, f64),
    /// Coarser levels that do not show what level 0 shows.
    pub distrusted: Vec<Level>,
}

/// The coarsest level not coarser than `step` level-0 px that agrees with level 0; of a slide coarser than that,
/// level 0.
pub(super) fn choose(reader: &dyn SlideReader, step: (f64, f64)) -> Choice {
    let levels = &reader.info().levels;
    let mut distrusted = vec![];
    for (i, level) in levels.iter().enumerate().skip(1).rev() {
        let downsample = whole_downsample(&levels[0], level);
        let is_finer = |d: f64, step: f64| d <= step * (1.0 + LEVEL_TOLERANCE);
        if is_finer(downsample.0, step.0) && is_finer(downsample.1, step.1) {
            let level = Level(i as u8);
            if agrees(reader, level, downsample) {
                return Choice { level, downsample, distrusted };
            }
            distrusted.push(level);
        }
    }
    Choice { level: Level(0), downsample: (1.0, 1.0), distrusted }
}

/// Downsample of `level` as the whole number its size was made with, where it was; files round sizes, not scales.
fn whole_downsample(level0: &LevelInfo, level: &LevelInfo) -> (f64, f64) {
    let axis = |full: u32, px: u32, told: f64| {
        let n = told.round().max(1.0);
        if (f64::from(px) - f64::from(full) / n).abs() < 1.0 { n } else { told }
    };
    (axis(level0.size.w, level.size.w, level.downsample_x), axis(level0.size.h, level.size.h, level.downsample_y))
}

/// Whether `level` shows the colours of level 0 in every place looked at. A place of level 0 that cannot be read says
/// nothing; one of the coarse level does.
fn agrees(reader: &dyn SlideReader, level: Level, (dx, dy): (f64, f64)) -> bool {
    let size = reader.info().levels[usize::from(level.0)].size;
    let (w, h) = (size.w.min(SQUARE_PX), size.h.min(SQUARE_PX));
    PLACES.iter().all(|&(px, py)| {
        let x = (f64::from(size.w - w) * px) as i64;
        let y = (f64::from(size.h - h) * py) as i64;
        let fine = Rect::from_edges(
            (x as f64 * dx).round() as i64,
            (y as f64 * dy).round() as i64,
            ((x + i64::from(w)) as f64 * dx).round() as i64,
            ((y + i64::from(h)) as f64 * dy).round() as i64,
        );
        let Some(expected) = mean_color(reader, Level(0), fine) else { return true };
        let found = mean_color(reader, level, Rect::new(x, y, w, h));
        found.is_some_and(|found| (0..3).all(|c| (found[c] - expected[c]).abs() <= MOST_DIFFERENCE))
    })
}

fn mean_color(reader: &dyn SlideReader, level: Level, region: Rect<InLevel>) -> Option<[f64; 3]> {
    let mut rgb = vec![0; region.area() as usize * 3];
    reader.read_region(level, region, &mut rgb).ok()?;
    let mut sums = [0u64; 3];
    for px in rgb.chunks_exact(3) {
        (0..3).for_each(|c| sums[c] += u64::from(px[c]));
    }
    Some(sums.map(|s| s as f64 / region.area() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::Size,
        slides::{ReadError, SlideInfo},
    };
    use std::collections::BTreeMap;

    /// Three levels of one colour each.
    struct Plain {
        info: SlideInfo,
        colors: [Option<u8>; 3],
    }

    impl Plain {
        fn new(colors: [Option<u8>; 3]) -> Self {
            let level = |n: u32| LevelInfo {
                size: Size::new(4000 / n, 3000 / n),
                downsample_x: f64::from(n),
                downsample_y: f64::from(n),
                tile_px: None,
            };
            let info = SlideInfo {
                path: "plain".into(),
                reader: "synthetic",
                vendor: "plain".into(),
                levels: vec![level(1), level(4), level(16)],
                mpp: None,
                objective_power: None,
                bounds: None,
                quickhash: None,
                properties: BTreeMap::new(),
            };
            Self { info, colors }
        }
    }

    impl SlideReader for Plain {
        fn info(&self) -> &SlideInfo {
            &self.info
        }

        fn read_region(&self, level: Level, _: Rect<InLevel>, rgb: &mut [u8]) -> Result<(), ReadError> {
            let color = self.colors[usize::from(level.0)].ok_or(ReadError::NoLevel { found: level.0, levels: 3 })?;
            rgb.fill(color);
            Ok(())
        }
    }

    fn chosen(colors: [Option<u8>; 3], step: f64) -> (u8, Vec<Level>) {
        let choice = choose(&Plain::new(colors), (step, step));
        (choice.level.0, choice.distrusted)
    }

    #[test]
    fn the_coarsest_level_that_is_not_coarser_than_the_target_is_read() {
        let same = [Some(100); 3];
        assert_eq!(chosen(same, 0.5), (0, vec![]));
        assert_eq!(chosen(same, 3.9), (0, vec![]));
        assert_eq!(chosen(same, 4.0), (1, vec![]));
        assert_eq!(chosen(same, 100.0), (2, vec![]));
    }

    #[test]
    fn a_level_in_other_colours_or_unreadable_is_passed_over() {
        assert_eq!(chosen([Some(100), Some(110), Some(180)], 32.0), (1, vec![Level(2)]));
        assert_eq!(chosen([Some(100), Some(180), None], 32.0), (0, vec![Level(2), Level(1)]));
        assert_eq!(chosen([None, Some(180), Some(180)], 32.0), (2, vec![]));
    }
}
