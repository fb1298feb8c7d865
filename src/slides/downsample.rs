//! How many level-0 px one px of a level spans.
//!
//! Owns: [`downsample_x`], [`downsample_y`]. Must not know: file formats.
//!
//! Files give sizes only. Writers shrink by whole factors and round the size up or down, so where a whole factor
//! explains the size it is the factor: 250 px of 8,000 and 187 of 6,000 are both 1/32, although 6,000 / 187 is
//! 32.09. The plain ratio (OpenSlide averages both axes) would shift the far end of such a level by 0.3 %.

use crate::geometry::{InLevel, Size};

/// Level-0 px per px of `level`, along x.
pub(super) fn downsample_x(level0: Size<InLevel>, level: Size<InLevel>) -> f64 {
    whole_factor(level0, level).unwrap_or_else(|| (f64::from(level0.w) / f64::from(level.w)).max(1.0))
}

/// Level-0 px per px of `level`, along y.
pub(super) fn downsample_y(level0: Size<InLevel>, level: Size<InLevel>) -> f64 {
    whole_factor(level0, level).unwrap_or_else(|| (f64::from(level0.h) / f64::from(level.h)).max(1.0))
}

/// The whole factor that gives both sides; the side with more px decides between neighbours.
fn whole_factor(level0: Size<InLevel>, level: Size<InLevel>) -> Option<f64> {
    let (long0, long) = if level.w >= level.h { (level0.w, level.w) } else { (level0.h, level.h) };
    let factor = (f64::from(long0) / f64::from(long)).round().max(1.0) as u32;
    let fits = |px0: u32, px: u32| px == px0 / factor || px == px0.div_ceil(factor);
    (fits(level0.w, level.w) && fits(level0.h, level.h)).then_some(f64::from(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_sizes_have_a_whole_factor() {
        let level0 = Size::new(8000, 6000);
        assert_eq!(downsample_y(level0, Size::new(250, 187)), 32.0);
        assert_eq!(downsample_x(Size::new(2220, 2967), Size::new(139, 186)), 16.0);
        assert_eq!(downsample_x(Size::new(46000, 32914), Size::new(11500, 8228)), 4.0);
    }

    #[test]
    fn other_sizes_have_the_ratio_of_their_axis() {
        let level0 = Size::new(1000, 600);
        assert_eq!(downsample_x(level0, Size::new(400, 300)), 2.5);
        assert_eq!(downsample_y(level0, Size::new(400, 300)), 2.0);
    }
}
