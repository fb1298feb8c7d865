//! An image with what is true and what was said drawn on it.
//!
//! Owns: [`draw_case`]. Must not know: measures, pages.

use super::{
    MATCH_IOU, Overlaps, Point,
    classes::Classes,
    folder::TrueCase,
    near_pairs,
    predicted::Predicted,
    score::{predicted_points, true_points},
};
use crate::{pixels::RgbImage, train::class_tree::BACKGROUND};

/// True and found, or true where nothing says whether it was found.
pub const TRUE: [u8; 3] = [0, 230, 80];
/// True and missed.
pub const MISSED: [u8; 3] = [255, 40, 40];
/// Said and true.
pub const SAID: [u8; 3] = [60, 210, 255];
/// Said and not true.
pub const INVENTED: [u8; 3] = [255, 225, 0];

/// Longest side of a picture, px.
const MAX_PX: u32 = 1400;
/// Small images are drawn this many times as large, so that lines hide little.
const SCALE: u32 = 2;

/// Draws an image: dots as discs, areas as outlines.
pub fn draw_case(case: &TrueCase, predicted: &Predicted, classes: &Classes, radius_px: f64) -> RgbImage {
    let image = &case.sample.image;
    let scale = if image.w.max(image.h) * SCALE <= MAX_PX { SCALE } else { 1 };
    let mut canvas = enlarged(image, scale);
    let (truth, said) = (true_points(&case.sample, classes), predicted_points(predicted, classes));
    let (met, used) = found(case, predicted, (truth.as_deref(), said.as_deref()), radius_px);
    let (w, h) = (image.w, image.h);
    if let Some(map) = predicted.instance_map(w, h) {
        outline(&mut canvas, &map, w, scale, |id| if used[id as usize - 1] { SAID } else { INVENTED });
    } else if let Some(semantic) = &predicted.semantic {
        let map: Vec<u32> = semantic.iter().map(|&c| if c == 255 { 0 } else { u32::from(c) }).collect();
        outline(&mut canvas, &map, w, scale, |_| INVENTED);
    }
    let true_map = match (&case.sample.truth.instances, &case.sample.truth.semantic) {
        (Some(map), _) => Some(map.clone()),
        (None, Some(semantic)) => {
            Some(semantic.iter().map(|&n| if n >= BACKGROUND { 0 } else { u32::from(n) + 1 }).collect())
        }
        (None, None) => None,
    };
    if let Some(map) = true_map {
        outline(&mut canvas, &map, w, scale, |id| if met.get(id as usize - 1) == Some(&false) { MISSED } else { TRUE });
    }
    if case.sample.truth.dots.is_some() {
        for (point, is_met) in truth.iter().flatten().zip(&met) {
            let at = (point.x * f64::from(scale), point.y * f64::from(scale));
            disc(&mut canvas, at, 1.6 * f64::from(scale), if *is_met { TRUE } else { MISSED });
        }
    }
    canvas
}

/// Which true nuclei were found, and which predictions found one: areas by their overlap, as PQ has it, dots by distance.
fn found(
    case: &TrueCase,
    predicted: &Predicted,
    (truth, said): (Option<&[Point]>, Option<&[Point]>),
    radius_px: f64,
) -> (Vec<bool>, Vec<bool>) {
    let (w, h) = (case.sample.image.w, case.sample.image.h);
    if let (Some(map), Some(predicted_map)) = (&case.sample.truth.instances, predicted.instance_map(w, h)) {
        let overlaps = Overlaps::new(map, &predicted_map);
        let room = |ids: &[u32]| vec![false; ids.last().map_or(0, |&id| id as usize)];
        let nuclei = predicted.nuclei.as_ref().map_or(0, Vec::len);
        let (mut met, mut used) = (room(&overlaps.truth_ids), vec![false; nuclei]);
        for pair in overlaps.pairs.iter().filter(|pair| overlaps.iou(pair) > MATCH_IOU) {
            met[overlaps.truth_ids[pair.truth] as usize - 1] = true;
            used[overlaps.predicted_ids[pair.predicted] as usize - 1] = true;
        }
        return (met, used);
    }
    let (truth, said) = (truth.unwrap_or_default(), said.unwrap_or_default());
    let place = |points: &[Point]| -> Vec<(f64, f64)> { points.iter().map(|p| (p.x, p.y)).collect() };
    let (mut met, mut used) = (vec![false; truth.len()], vec![false; said.len()]);
    for (t, s) in near_pairs(&place(truth), &place(said), radius_px) {
        (met[t], used[s]) = (true, true);
    }
    (met, used)
}

fn enlarged(image: &RgbImage, scale: u32) -> RgbImage {
    let mut canvas = RgbImage::white(image.w * scale, image.h * scale);
    for y in 0..canvas.h {
        for x in 0..canvas.w {
            put(&mut canvas, x, y, image.get(x / scale, y / scale));
        }
    }
    canvas
}

fn put(canvas: &mut RgbImage, x: u32, y: u32, color: [u8; 3]) {
    let at = (y as usize * canvas.w as usize + x as usize) * 3;
    canvas.data[at..at + 3].copy_from_slice(&color);
}

/// Colours the pixels of the canvas inside a label that touch another label.
fn outline(canvas: &mut RgbImage, map: &[u32], w: u32, scale: u32, color: impl Fn(u32) -> [u8; 3]) {
    let label = |x: i64, y: i64| -> u32 {
        let (x, y) = (x.div_euclid(scale.into()), y.div_euclid(scale.into()));
        if x < 0 || y < 0 || x >= i64::from(w) {
            return 0;
        }
        map.get(y as usize * w as usize + x as usize).copied().unwrap_or(0)
    };
    for y in 0..canvas.h {
        for x in 0..canvas.w {
            let here = label(x.into(), y.into());
            let (i, j) = (i64::from(x), i64::from(y));
            let is_edge =
                [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)].into_iter().any(|(x, y)| label(x, y) != here);
            if here > 0 && is_edge {
                put(canvas, x, y, color(here));
            }
        }
    }
}

fn disc(canvas: &mut RgbImage, (cx, cy): (f64, f64), radius: f64, color: [u8; 3]) {
    // A dark rim sets it off from any ground.
    let reach = radius + 1.2;
    let range = |c: f64, n: u32| (c - reach).floor().max(0.0) as u32..((c + reach).ceil().max(0.0) as u32).min(n);
    for y in range(cy, canvas.h) {
        for x in range(cx, canvas.w) {
            let distance = (f64::from(x) + 0.5 - cx).hypot(f64::from(y) + 0.5 - cy);
            if distance <= reach {
                put(canvas, x, y, if distance <= radius { color } else { [0, 0, 0] });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_outlined_inside_itself() {
        let mut canvas = RgbImage::white(5, 5);
        let map: Vec<u32> =
            (0..25).map(|i| u32::from((1..4).contains(&(i % 5)) && (1..4).contains(&(i / 5)))).collect();
        outline(&mut canvas, &map, 5, 1, |_| TRUE);
        let colored = (0..25).filter(|i| canvas.get(i % 5, i / 5) == TRUE).count();
        assert_eq!((colored, canvas.get(2, 2), canvas.get(0, 0)), (8, [255; 3], [255; 3]));
    }
}
