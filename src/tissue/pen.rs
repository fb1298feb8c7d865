//! Felt-pen marks on the glass: red, green, blue, black.
//!
//! Owns: which px of a picture are pen. Must not know: tissue.
//!
//! Pen is told from stain by which light it lets through. Measured shares of optical density (red, green, blue):
//! H&E tissue 0.13–0.36, 0.42–0.62, 0.12–0.34; counterstain of an H-DAB slide 0.38, 0.34, 0.28; green pen 0.59, 0.18,
//! 0.23; blue pen 0.57, 0.32, 0.10; red pen 0.05–0.15, 0.45, 0.41; black pen is dark without colour.
//! A stroke is seeded where such px fill a square of 80 µm (nuclei and vessels do not), then grown up to 200 µm
//! into px that lean the same way: the rims of strokes, and strokes over tissue.
//!
//! Limits: a lake of blood over 80 µm wide may pass for red pen; a pen stroke so thin over tissue that the tissue's
//! colour wins is not seen; on a picture coarser than 80 µm/px any single px is enough.

use super::morphology::{dilate, erode, neighbours};
use crate::pixels::{RgbImage, stain::mean_od_px};
use rayon::prelude::*;

/// Side of the square a stroke must fill.
const STROKE_UM: f64 = 80.0;
/// Pixels that are one thread's work.
const MIN_LEN: usize = 1 << 14;
/// How far a stroke grows from its seed.
const GROW_UM: f64 = 200.0;

/// What the rules look at.
struct Px {
    rgb: [u8; 3],
    /// Mean decadic optical density.
    od: f64,
    /// Share of red, green, blue in it.
    share: [f64; 3],
}

impl Px {
    fn of(rgb: [u8; 3]) -> Self {
        let od = f64::from(mean_od_px(rgb));
        let channel = |v: u8| f64::from(mean_od_px([v, 255, 255])) / od.max(1e-6);
        Self { rgb, od, share: rgb.map(channel) }
    }
}

/// Something that is so of a px, or not.
type Rule = fn(&Px) -> bool;

/// For each colour of pen two rules: is a px surely it, and could it be at the rim of it? Then two of the stain.
const RULES: [Rule; 10] = [
    |px| px.od > 0.10 && px.share[0] > 0.50,
    |px| px.od > 0.03 && px.share[0] - px.share[1] > 0.08,
    |px| px.od > 0.10 && px.share[0] - px.share[1] > 0.03,
    |px| px.od > 0.03 && px.share[0] - px.share[1] > 0.0,
    |px| px.od > 0.20 && px.share[0] < 0.16 && px.share[2] > 0.36 && px.rgb[0] > 120,
    |px| px.od > 0.03 && px.share[0] < 0.20 && px.share[2] > 0.35,
    |px| px.od > 0.62 && px.rgb.iter().all(|&v| v < 75) && chroma(px.rgb) < 40,
    |px| px.od > 0.35 && px.rgb.iter().all(|&v| v < 125) && chroma(px.rgb) < 48,
    |px| px.od > 0.08,
    |px| px.od > 0.08 && px.share[1] > 0.40,
];
/// Green and blue absorb red most of all; stain never that much.
const COOL: usize = 0;
/// The same over H&E tissue, which otherwise always absorbs more green than red (measured difference of the shares
/// −0.42 to 0.00, under green pen 0.04 to 0.18). The counterstain of IHC does not, so this holds on H&E only.
const COOL_ON_H_AND_E: usize = 2;
/// Red lets red through and hardly more blue than green; eosin lets blue through.
const RED: usize = 4;
/// Black lets nothing through.
const BLACK: usize = 6;
/// Stained at all.
const STAINED: usize = 8;
/// Stained, and absorbing green as H&E does.
const STAINED_AS_H_AND_E: usize = 9;

fn chroma(rgb: [u8; 3]) -> u8 {
    rgb[0].max(rgb[1]).max(rgb[2]) - rgb[0].min(rgb[1]).min(rgb[2])
}

/// 1 where a felt pen marked the glass, `[h, w]`; `um_per_px` is that of the picture.
pub(super) fn marks(picture: &RgbImage, um_per_px: f64) -> Vec<u8> {
    let w = picture.w as usize;
    // What the rules say of a px, as bits: the numbers they look at would be 40 bytes for each.
    let said: Vec<u16> = picture
        .data
        .par_chunks_exact(3)
        .with_min_len(MIN_LEN)
        .map(|p| {
            let px = Px::of([p[0], p[1], p[2]]);
            RULES.iter().zip(0..).fold(0, |said, (rule, bit)| said | u16::from(rule(&px)) << bit)
        })
        .collect();
    let bit = |said: u16, rule: usize| (said >> rule & 1) as u8;
    let count = |rule: usize| said.iter().map(|&said| usize::from(bit(said, rule))).sum::<usize>();
    // A dark field is not black pen: fluorescence, or a scanner's black frame.
    let dark = count(BLACK) * 2 > said.len();
    // Whether most stained px absorb green as H&E does.
    let is_mostly_h_and_e = 2 * count(STAINED_AS_H_AND_E) > count(STAINED);
    let cool = if is_mostly_h_and_e { COOL_ON_H_AND_E } else { COOL };
    let of_pen = |&pen: &usize| {
        let each = |rule: usize| -> Vec<u8> { said.iter().map(|&said| bit(said, rule)).collect() };
        let seeds = each(pen);
        if !seeds.contains(&1) {
            return seeds;
        }
        let radius_px = (STROKE_UM / um_per_px / 2.0).floor() as usize;
        let strokes = dilate(&erode(&seeds, w, radius_px), w, radius_px);
        grow(&strokes, &each(pen + 1), w, (GROW_UM / um_per_px).round() as u32)
    };
    let grown: Vec<_> = [cool, RED, BLACK][..if dark { 2 } else { 3 }].par_iter().map(of_pen).collect();
    let mut marks = vec![0; said.len()];
    for grown in grown {
        marks.iter_mut().zip(grown).for_each(|(mark, g)| *mark |= g);
    }
    if marks.contains(&1) { dilate(&marks, w, 1) } else { marks }
}

/// `seeds` and the px of `into` that are connected to one by at most `steps` px of `into`.
fn grow(seeds: &[u8], into: &[u8], w: usize, steps: u32) -> Vec<u8> {
    let mut grown = seeds.to_vec();
    let mut front: Vec<usize> = (0..grown.len()).filter(|&i| grown[i] == 1).collect();
    for _step in 0..steps {
        let mut next = Vec::new();
        for &i in &front {
            neighbours(i, w, grown.len(), true, |n| {
                if grown[n] == 0 && into[n] == 1 {
                    grown[n] = 1;
                    next.push(n);
                }
            });
        }
        front = next;
    }
    grown
}
