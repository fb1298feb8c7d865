//! Bringing a sample into another shape: pixels, classes, nuclei and dots together, in one resampling.
//!
//! Owns: [`warp`]. Must not know: what was drawn, files.
//!
//! Pixels are bilinear, labels nearest. Where px fall on px (flips, quarter turns, shifts) both are copied exactly.

use super::Map;
use crate::{
    config::settings::data::Beyond,
    pixels::RgbImage,
    train::{
        class_tree::{BACKGROUND, NodeIndex, UNKNOWN},
        sample::{Dot, Sample, Truth},
    },
};

/// The sample of `[h, w]` px whose places come from those of `source` that `map` says.
pub fn warp(source: &Sample, map: &Map, (w, h): (u32, u32), beyond: Beyond) -> Sample {
    let places = Places::new(map, w as usize, h as usize);
    let (sw, sh) = (source.image.w as usize, source.image.h as usize);
    let mut image = RgbImage { w, h, data: vec![255; w as usize * h as usize * 3] };
    places.each_row(|y, row| {
        let out = &mut image.data[y * w as usize * 3..][..w as usize * 3];
        for (px, &[sx, sy]) in out.chunks_exact_mut(3).zip(row) {
            px.copy_from_slice(&bilinear(&source.image.data, (sw, sh), sx, sy, beyond));
        }
    });
    let truth = &source.truth;
    let only_dots = truth.dots.is_some() && truth.instances.is_none();
    let mut semantic = truth.semantic.as_ref().map(|map| {
        let mut out = Vec::with_capacity(w as usize * h as usize);
        places.each_row(|_, row| {
            out.extend(row.iter().map(|&[x, y]| nearest((sw, sh), x, y, beyond).map_or(BACKGROUND, |(at, _)| map[at])));
        });
        out
    });
    let (instances, instance_nodes) = match &truth.instances {
        Some(map) => {
            let (map, nodes) = warp_instances(map, &truth.instance_nodes, &places, (sw, sh), (w, h), beyond);
            (Some(map), nodes)
        }
        None => (None, vec![]),
    };
    if only_dots && beyond == Beyond::Mirror {
        semantic = with_mirrored_unknown(semantic, &places, (sw, sh));
    }
    let dots = truth.dots.as_ref().map(|dots| warp_dots(dots, map, (w, h)));
    let truth = Truth { semantic, instances, instance_nodes, dots, label: truth.label };
    // The px of the result are as large as those of the source, however it was scaled: what is seen is larger.
    Sample { image, truth, mpp: source.mpp, kind: source.kind }
}

/// The source place of each px of the result.
struct Places<'a> {
    map: &'a Map,
    w: usize,
    h: usize,
}

impl<'a> Places<'a> {
    fn new(map: &'a Map, w: usize, h: usize) -> Self {
        Self { map, w, h }
    }

    /// Rows from top to bottom: the places their px' centres come from, counting px centres of the source.
    fn each_row(&self, mut row_of: impl FnMut(usize, &[[f32; 2]])) {
        let s = &self.map.straight;
        let mut places = vec![[0.0_f32; 2]; self.w];
        let mut shifts = vec![[0.0_f32; 2]; self.w];
        for j in 0..self.h {
            let y = j as f64 + 0.5;
            // A place relative to the row's first: small numbers keep their digits in f32.
            let (x0, y0) = (s[1] * y + s[2] - 0.5, s[4] * y + s[5] - 0.5);
            if let Some(elastic) = &self.map.elastic {
                elastic.row(y, &mut shifts);
            }
            for (i, (place, &[dx, dy])) in places.iter_mut().zip(&shifts).enumerate() {
                let x = i as f64 + 0.5 + f64::from(dx);
                let dy = f64::from(dy);
                *place = [(s[0] * x + s[1] * dy + x0) as f32, (s[3] * x + s[4] * dy + y0) as f32];
            }
            row_of(j, &places);
        }
    }
}

/// The index of a place along an axis of `n` px, mirrored back inside, and how often it was mirrored to which side.
#[inline(always)]
fn mirrored(at: i32, n: usize) -> (usize, Side) {
    let n = n as i32;
    if (0..n).contains(&at) {
        return (at as usize, Side::Inside);
    }
    let period = at.rem_euclid(2 * n);
    let index = if period < n { period } else { 2 * n - 1 - period };
    (index as usize, if at < 0 { Side::Before } else { Side::After })
}

/// On which side of the source a place lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Before,
    After,
}

/// Index of the px nearest to a place, and the sides it lies on; nothing where white glass is.
#[inline(always)]
fn nearest((w, h): (usize, usize), x: f32, y: f32, beyond: Beyond) -> Option<(usize, (Side, Side))> {
    let (i, j) = ((x + 0.5).floor() as i32, (y + 0.5).floor() as i32);
    let ((i, a), (j, b)) = (mirrored(i, w), mirrored(j, h));
    let is_inside = a == Side::Inside && b == Side::Inside;
    (is_inside || beyond == Beyond::Mirror).then_some((j * w + i, (a, b)))
}

#[inline(always)]
fn bilinear(rgb: &[u8], (w, h): (usize, usize), x: f32, y: f32, beyond: Beyond) -> [u8; 3] {
    let (x0, y0) = (x.floor(), y.floor());
    // 8 bits of fraction: exact for whole and half places.
    let (fx, fy) = (((x - x0) * 256.0 + 0.5) as i32, ((y - y0) * 256.0 + 0.5) as i32);
    let (i, j) = (x0 as i32, y0 as i32);
    let (inside_x, inside_y) = (i >= 0 && i + 1 < w as i32, j >= 0 && j + 1 < h as i32);
    let px = |p: usize| [i32::from(rgb[p]), i32::from(rgb[p + 1]), i32::from(rgb[p + 2])];
    let corners = if inside_x && inside_y {
        let at = (j as usize * w + i as usize) * 3;
        [px(at), px(at + 3), px(at + 3 * w), px(at + 3 * w + 3)]
    } else {
        [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(di, dj)| {
            let ((i, a), (j, b)) = (mirrored(i + di, w), mirrored(j + dj, h));
            let is_inside = a == Side::Inside && b == Side::Inside;
            if is_inside || beyond == Beyond::Mirror { px((j * w + i) * 3) } else { [255; 3] }
        })
    };
    std::array::from_fn(|c| {
        let top = corners[0][c] * (256 - fx) + corners[1][c] * fx;
        let bottom = corners[2][c] * (256 - fx) + corners[3][c] * fx;
        ((top * (256 - fy) + bottom * fy + (1 << 15)) >> 16) as u8
    })
}

/// Nuclei and their classes. A mirror image is another nucleus, unless the original touches that edge.
fn warp_instances(
    map: &[u32],
    nodes: &[NodeIndex],
    places: &Places<'_>,
    (sw, sh): (usize, usize),
    (w, h): (u32, u32),
    beyond: Beyond,
) -> (Vec<u32>, Vec<NodeIndex>) {
    let count = nodes.len();
    // Which edges each nucleus touches: left, right, top, bottom.
    let mut touches = vec![[false; 4]; count];
    if beyond == Beyond::Mirror {
        let mut mark = |at: usize, edge: usize| {
            if let Some(t) = (map[at] as usize).checked_sub(1).and_then(|k| touches.get_mut(k)) {
                t[edge] = true;
            }
        };
        (0..sh).for_each(|y| [(y * sw, 0), (y * sw + sw - 1, 1)].into_iter().for_each(|(at, e)| mark(at, e)));
        (0..sw).for_each(|x| [(x, 2), ((sh - 1) * sw + x, 3)].into_iter().for_each(|(at, e)| mark(at, e)));
    }
    // Numbers of the result, by nucleus and the mirror image it is in.
    let mut numbers = vec![0_u32; count * 9];
    let mut result_nodes = vec![];
    let mut out = Vec::with_capacity(w as usize * h as usize);
    places.each_row(|_, row| {
        for &[x, y] in row {
            let Some((at, (a, b))) = nearest((sw, sh), x, y, beyond) else {
                out.push(0);
                continue;
            };
            let Some(k) = (map[at] as usize).checked_sub(1).filter(|&k| k < count) else {
                out.push(0);
                continue;
            };
            let copy = |side: Side, first: usize| match side {
                Side::Inside => 0,
                Side::Before => usize::from(!touches[k][first]),
                Side::After => 2 * usize::from(!touches[k][first + 1]),
            };
            let slot = &mut numbers[k * 9 + copy(b, 2) * 3 + copy(a, 0)];
            if *slot == 0 {
                result_nodes.push(nodes[k]);
                *slot = result_nodes.len() as u32;
            }
            out.push(*slot);
        }
    });
    (out, result_nodes)
}

/// A mirrored nucleus may be half of one whose dot lies beyond the edge: nothing is known of mirrored px.
fn with_mirrored_unknown(
    semantic: Option<Vec<NodeIndex>>,
    places: &Places<'_>,
    (sw, sh): (usize, usize),
) -> Option<Vec<NodeIndex>> {
    let mut mirrored = Vec::with_capacity(places.w * places.h);
    places.each_row(|_, row| {
        mirrored.extend(row.iter().map(|&[x, y]| nearest((sw, sh), x, y, Beyond::White).is_none()));
    });
    if !mirrored.contains(&true) {
        return semantic;
    }
    let mut map = semantic.unwrap_or_else(|| vec![BACKGROUND; mirrored.len()]);
    map.iter_mut().zip(mirrored).filter(|(_, is)| *is).for_each(|(node, _)| *node = UNKNOWN);
    Some(map)
}

fn warp_dots(dots: &[Dot], map: &Map, (w, h): (u32, u32)) -> Vec<Dot> {
    let moved = dots.iter().map(|dot| (map.result_of(f64::from(dot.x), f64::from(dot.y)), dot.node));
    let inside = moved.filter(|&((x, y), _)| x >= 0.0 && y >= 0.0 && x < f64::from(w) && y < f64::from(h));
    inside.map(|((x, y), node)| Dot { x: x as f32, y: y as f32, node }).collect()
}
