//! Perimeter of an instance, as regionprops estimates it.
//!
//! Owns: [`perimeter_px`]. Must not know: units. Source: scikit-image 0.26 `measure/_regionprops_utils.py`
//! `perimeter(image, neighborhood=4)`: border pixels are those with a 4-neighbour outside; each is weighed by how many
//! border pixels touch it along edges (2 each) and corners (10 each). Differs: 64 pixels at a time, as bits.

use super::{Run, measure::Bounds};
use std::f64::consts::SQRT_2;

/// Border pixels by weight: 1, √2, (1 + √2)/2.
#[derive(Debug, Default)]
struct Counts {
    one: u64,
    root: u64,
    half: u64,
}

/// Rows of bits, kept as a ring of three: the row above, the row, the row below.
struct Rows {
    words: usize,
    bits: Vec<u64>,
}

impl Rows {
    fn new(words: usize) -> Self {
        Self { words, bits: vec![0; words * 3] }
    }

    fn row(&self, y: usize) -> &[u64] {
        let start = (y % 3) * self.words;
        &self.bits[start..start + self.words]
    }

    fn row_mut(&mut self, y: usize) -> &mut [u64] {
        let start = (y % 3) * self.words;
        &mut self.bits[start..start + self.words]
    }
}

/// `perimeter` of the pixels of `runs`, in px.
pub(super) fn perimeter_px(runs: &[Run], bounds: &Bounds) -> f64 {
    // A word of zeros on either side and one free bit on the left spare every question about edges.
    let words = (bounds.width() as usize + 1).div_ceil(64) + 2;
    let height = bounds.height() as usize;
    let mut image = Rows::new(words);
    let mut border = Rows::new(words);
    let mut counts = Counts::default();
    let mut rest = runs;
    // Row `y + 1` of the picture enters, row `y` of the border is known, row `y - 1` is counted.
    for step in 0..height + 2 {
        let entering = bounds.y0 as usize + step;
        image.row_mut(step).fill(0);
        while let Some(run) = rest.first().filter(|run| run.y as usize == entering) {
            let shift = 64 + 1;
            let (from, to) = ((run.x0 - bounds.x0) as usize + shift, (run.x1 - bounds.x0) as usize + shift);
            set_bits(image.row_mut(step), from, to);
            rest = &rest[1..];
        }
        if step >= 1 {
            mark_border(&image, step - 1, &mut border);
        }
        if step >= 2 {
            count(&border, step - 2, &mut counts);
        }
    }
    counts.one as f64 + counts.root as f64 * SQRT_2 + counts.half as f64 * ((1.0 + SQRT_2) / 2.0)
}

/// Sets bits `[from, to)`.
fn set_bits(row: &mut [u64], from: usize, to: usize) {
    let (first, last) = (from / 64, (to - 1) / 64);
    let head = u64::MAX << (from % 64);
    let tail = u64::MAX >> (63 - (to - 1) % 64);
    if first == last {
        row[first] |= head & tail;
    } else {
        row[first] |= head;
        row[first + 1..last].fill(u64::MAX);
        row[last] |= tail;
    }
}

/// Row `y` of `border`: pixels of row `y` of `image` with a 4-neighbour outside. Row `y + 1` has entered; row `y - 1`
/// of row 0 is the ring's third row, still zeros.
fn mark_border(image: &Rows, y: usize, border: &mut Rows) {
    let (above, row, below) = (image.row(y + 2), image.row(y), image.row(y + 1));
    let out = border.row_mut(y);
    for i in 1..row.len() - 1 {
        let left = row[i] << 1 | row[i - 1] >> 63;
        let right = row[i] >> 1 | row[i + 1] << 63;
        out[i] = row[i] & !(left & right & above[i] & below[i]);
    }
}

/// Weighs the border pixels of row `y`.
fn count(border: &Rows, y: usize, counts: &mut Counts) {
    let (above, row, below) = (border.row(y + 2), border.row(y), border.row(y + 1));
    let west = |r: &[u64], i: usize| r[i] << 1 | r[i - 1] >> 63;
    let east = |r: &[u64], i: usize| r[i] >> 1 | r[i + 1] << 63;
    for i in 1..row.len() - 1 {
        if row[i] == 0 {
            continue;
        }
        let edges = sum4(above[i], below[i], west(row, i), east(row, i));
        let corners = sum4(west(above, i), east(above, i), west(below, i), east(below, i));
        let corners_1_or_2 = !corners[2] & (corners[0] ^ corners[1]);
        let corners_2_or_3 = !corners[2] & corners[1];
        let corners_0_to_2 = !corners[2] & !(corners[0] & corners[1]);
        let edges_2_or_3 = edges[1];
        let edges_1 = edges[0] & !edges[1];
        let edges_0 = !(edges[0] | edges[1] | edges[2]);
        // Sums 5, 7, 15, 17, 25, 27 weigh 1; sums 21, 33 √2; sums 13, 23 the mean of the two.
        let one = row[i] & edges_2_or_3 & corners_0_to_2;
        let root = row[i] & corners_2_or_3 & (edges_0 & !corners[0] | edges_1 & corners[0]);
        let half = row[i] & edges_1 & corners_1_or_2;
        counts.one += u64::from(one.count_ones());
        counts.root += u64::from(root.count_ones());
        counts.half += u64::from(half.count_ones());
    }
}

/// How many of four are set, per bit: binary digits 1, 2, 4.
fn sum4(a: u64, b: u64, c: u64, d: u64) -> [u64; 3] {
    let (s, t) = (a ^ b, c ^ d);
    let (u, v, w) = (a & b, c & d, s & t);
    [s ^ t, u ^ v ^ w, u & v]
}
