//! A picture of what a network is shown and what is asked of it.
//!
//! Owns: [`samples_picture`]. Must not know: how samples and targets are made, files.
//!
//! A row per sample: its pixels after all changes, then every output's target. Numbers are grey (of several channels the
//! first), classes have their colours (of a coarse label the mean of its classes'), background is black; what counts for
//! nothing is dark red.

use super::{
    TrainError,
    class_tree::ClassTree,
    sample::{Sample, Samples},
    target::{Target, TargetValues},
};
use crate::pixels::RgbImage;

/// Between pictures, px.
const GAP_PX: u32 = 4;
/// Of what counts for nothing.
const UNKNOWN_COLOR: [u8; 3] = [90, 0, 0];

/// The first `rows` samples of the first epoch.
///
/// # Errors
/// A sample that cannot be read, or of which no target can be made.
pub fn samples_picture(
    samples: &dyn Samples,
    targets: &(dyn Fn(&Sample) -> Result<Vec<Target>, TrainError> + Sync),
    tree: &ClassTree,
    seed: u64,
    rows: usize,
) -> Result<RgbImage, TrainError> {
    let mut shown = vec![];
    for index in 0..rows.min(samples.len()) {
        let sample = samples.sample(index, 0, seed)?;
        let targets = targets(&sample)?;
        let maps: Vec<RgbImage> = targets.iter().map(|target| map_of(target, tree)).collect();
        shown.push((sample.image, maps));
    }
    let side = |of: fn(&RgbImage) -> u32| shown.iter().map(|(image, _)| of(image)).max().unwrap_or(0) + GAP_PX;
    let (w, h) = (side(|image| image.w), side(|image| image.h));
    let columns = 1 + shown.iter().map(|(_, maps)| maps.len()).max().unwrap_or(0) as u32;
    let mut page = RgbImage::white(columns * w + GAP_PX, shown.len() as u32 * h + GAP_PX);
    for (row, (image, maps)) in (0..).zip(&shown) {
        let size = (image.w, image.h);
        for (column, map) in (0..).zip(std::iter::once(image).chain(maps)) {
            place(&mut page, (GAP_PX + column * w, GAP_PX + row * h), map, size);
        }
    }
    Ok(page)
}

/// Enlarges `picture` to `size` without smoothing and puts it at a place of the page.
fn place(page: &mut RgbImage, (left, top): (u32, u32), picture: &RgbImage, (w, h): (u32, u32)) {
    for y in 0..h {
        for x in 0..w {
            let color = picture.get(x * picture.w / w, y * picture.h / h);
            let at = ((top + y) as usize * page.w as usize + (left + x) as usize) * 3;
            page.data[at..at + 3].copy_from_slice(&color);
        }
    }
}

fn map_of(target: &Target, tree: &ClassTree) -> RgbImage {
    let n = (target.w * target.h) as usize;
    let color: Box<dyn Fn(usize) -> [u8; 3]> = match &target.values {
        TargetValues::Numbers { data, .. } => {
            let data = &data[..n];
            let (low, high) = data.iter().fold((0.0_f32, 1.0_f32), |(low, high), &v| (low.min(v), high.max(v)));
            Box::new(move |i| [((data[i] - low) / (high - low) * 255.0).round() as u8; 3])
        }
        TargetValues::Channels { channels, data } => {
            let leaves = tree.leaves();
            match (*channels as usize).checked_sub(leaves.len()) {
                Some(first @ (0 | 1)) => Box::new(move |i| {
                    mean_color(data[i], first, |leaf| tree.nodes()[usize::from(leaves[leaf])].class.color)
                }),
                // Yes or no.
                _ => Box::new(|i| [if data[i] == 2 { 255 } else { 0 }; 3]),
            }
        }
    };
    let px = |i: usize| if target.weight[i] > 0.0 { color(i) } else { UNKNOWN_COLOR };
    RgbImage { w: target.w, h: target.h, data: (0..n).flat_map(px).collect() }
}

/// Mean colour of the leaves whose channels are in `mask`; leaf 0 is channel `first`, before it is background.
fn mean_color(mask: u32, first: usize, color: impl Fn(usize) -> [u8; 3]) -> [u8; 3] {
    let chosen: Vec<[u8; 3]> = (first..32).filter(|c| mask >> c & 1 == 1).map(|c| color(c - first)).collect();
    let count = chosen.len().max(1) as u32;
    std::array::from_fn(|k| (chosen.iter().map(|c| u32::from(c[k])).sum::<u32>() / count) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_label_has_the_mean_color_of_its_classes() {
        let color = |leaf: usize| [[200, 0, 0], [0, 100, 0], [0, 0, 60]][leaf];
        assert_eq!(mean_color(0b0001, 1, color), [0, 0, 0]);
        assert_eq!(mean_color(0b0100, 1, color), [0, 100, 0]);
        assert_eq!(mean_color(0b0110, 1, color), [100, 50, 0]);
        assert_eq!(mean_color(0b0010, 0, color), [0, 100, 0]);
    }
}
