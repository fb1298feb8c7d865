//! Classes of pixels: from probabilities to the semantic map.
//!
//! Owns: [`semantic_classes`], [`prob_u8`]. Must not know: instances, files.

use crate::{
    model::Head,
    stitch::{Plane, Region},
};

/// Value of a pixel that was not computed.
pub(super) const NOT_COMPUTED: u8 = 255;

/// Class of each pixel of the region's core: 0 background, `i + 1` class `i` of the model, 255 not computed.
///
/// With one channel: class 1 where its probability is at least `threshold`. With more, as many as there are classes
/// plus background, which comes first: the most probable, the first of equals. Empty when the region has no semantic
/// plane.
///
/// # Shapes
/// - returns `[core.h, core.w]`
pub fn semantic_classes(region: &Region, threshold: f64) -> Vec<u8> {
    let Some(plane) = region.plane(Head::Semantic) else { return Vec::new() };
    let at_least = fixed_threshold(Head::Semantic, threshold);
    let plane_px = region.computed.len();
    map_core(region, |row, to| {
        if plane.channels == 1 {
            let prob = &plane.data[row..row + to.len()];
            to.iter_mut().zip(prob).for_each(|(to, &p)| *to = u8::from(p >= at_least));
        } else {
            most_probable(plane, plane_px, row, to);
        }
        let computed = &region.computed[row..row + to.len()];
        to.iter_mut().zip(computed).for_each(|(to, &c)| *to = if c == 0 { NOT_COMPUTED } else { *to });
    })
}

/// Probability of channel `channel` of a head over the core, `round(255 · prob)`; 0 where not computed, as the class map tells.
///
/// Empty when the region has no such plane.
///
/// # Shapes
/// - returns `[core.h, core.w]`
pub fn prob_u8(region: &Region, head: Head, channel: u32) -> Vec<u8> {
    let Some(plane) = region.plane(head).filter(|p| channel < p.channels) else { return Vec::new() };
    let scale = i32::from(head.scale() as i16);
    let first = channel as usize * region.computed.len();
    map_core(region, |row, to| {
        let prob = &plane.data[first + row..][..to.len()];
        let computed = &region.computed[row..][..to.len()];
        for ((to, &p), &c) in to.iter_mut().zip(prob).zip(computed) {
            let level = (i32::from(p).clamp(0, scale) * 255 + scale / 2) / scale;
            *to = if c == 0 { 0 } else { level as u8 };
        }
    })
}

/// The least fixed-point value at or above `threshold`.
pub(super) fn fixed_threshold(head: Head, threshold: f64) -> i16 {
    (threshold * f64::from(head.scale())).ceil().clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
}

/// Fills each row of the core; `fill` gets the row's first index in the region's arrays.
fn map_core(region: &Region, fill: impl Fn(usize, &mut [u8])) -> Vec<u8> {
    let (w, h) = (region.core.w as usize, region.core.h as usize);
    let left = (region.core.x - region.rect.x) as usize;
    let top = (region.core.y - region.rect.y) as usize;
    let mut out = vec![0; w * h];
    if w > 0 {
        for (y, to) in out.chunks_exact_mut(w).enumerate() {
            fill((top + y) * region.rect.w as usize + left, to);
        }
    }
    out
}

fn most_probable(plane: &Plane, plane_px: usize, row: usize, to: &mut [u8]) {
    let mut best = plane.data[row..row + to.len()].to_vec();
    for channel in 1..plane.channels as usize {
        let prob = &plane.data[channel * plane_px + row..][..to.len()];
        for ((to, best), &p) in to.iter_mut().zip(&mut best).zip(prob) {
            if p > *best {
                (*to, *best) = (channel as u8, p);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rect;

    fn region(channels: u32, data: Vec<i16>, computed: Vec<u8>) -> Region {
        Region {
            core: Rect::new(1, 0, 3, 1),
            rect: Rect::new(0, 0, 4, 1),
            computed,
            planes: vec![Plane { head: Head::Semantic, channels, data, pixels: None }],
            rgb: Vec::new(),
        }
    }

    #[test]
    fn one_channel_is_a_class_from_its_threshold_on() {
        let one = region(1, vec![16384, 8191, 8192, 16384], vec![1, 1, 1, 0]);
        assert_eq!(semantic_classes(&one, 0.5), [0, 1, 255]);
        assert_eq!(prob_u8(&one, Head::Semantic, 0), [127, 128, 0]);
        assert_eq!(prob_u8(&region(1, vec![0, 0, 16384, 16400], vec![1; 4]), Head::Semantic, 0), [0, 255, 255]);
    }

    #[test]
    fn several_channels_vote_and_background_wins_a_draw() {
        let data = vec![0, 5, 1, 2, 0, 5, 3, 2, 0, 4, 2, 9];
        assert_eq!(semantic_classes(&region(3, data, vec![1; 4]), 0.5), [0, 1, 2]);
    }

    #[test]
    fn a_head_the_region_lacks_gives_nothing() {
        assert!(prob_u8(&region(1, vec![0; 4], vec![1; 4]), Head::NuclearPixel, 0).is_empty());
    }
}
