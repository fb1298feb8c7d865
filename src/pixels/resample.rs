//! Bringing pixels of a level to the target grid.
//!
//! Owns: [`Axis`] (weights of one axis) and [`resample`]. Must not know: slides, tiles.
//!
//! Every weight is a function of the target pixel's place on the whole slide, and sums are integers: a target pixel
//! has the same value whatever rectangle it is read with.

use crate::config::settings::Resample;

/// Fixed-point units of a weight that is 1.
const ONE: i32 = 1 << 14;
/// Fraction bits kept between the two passes; leaves room for Lanczos overshoot in `i16`.
const MID_BITS: u32 = 6;

/// Which source pixels make each target pixel along one axis, and how much of each.
pub struct Axis {
    /// First source px needed by any target px.
    pub first: i64,
    /// Number of source px needed.
    pub len: usize,
    /// Weights per target px.
    taps: usize,
    /// Per target px: index into the source span.
    starts: Vec<u32>,
    /// `[targets, taps]`, each row sums to [`ONE`].
    weights: Vec<i32>,
    /// `Some(n)` when each target px is the plain mean of `n` source px.
    whole: Option<u32>,
}

impl Axis {
    /// Weights for target px `[at, at + len)`, where one target px is `factor` source px.
    pub fn new(at: i64, len: u32, factor: f64, filter: Resample) -> Self {
        let whole = (filter == Resample::Area && factor.fract() == 0.0 && factor >= 1.0).then_some(factor as u32);
        if let Some(n) = whole {
            let n64 = i64::from(n);
            let len = len as usize;
            return Self { first: at * n64, len: len * n as usize, taps: 0, starts: vec![], weights: vec![], whole };
        }
        // Enlarging by area is nearest; bilinear is what is meant.
        let filter = if factor < 1.0 && filter == Resample::Area { Resample::Bilinear } else { filter };
        let stretch = factor.max(1.0);
        let support = match filter {
            Resample::Area => factor / 2.0,
            Resample::Bilinear => stretch,
            Resample::Lanczos => 3.0 * stretch,
        };
        let taps = (2.0 * support).ceil() as usize + 1;
        let first = ((at as f64 + 0.5) * factor - support).floor() as i64;
        let mut starts = Vec::with_capacity(len as usize);
        let mut weights = Vec::with_capacity(len as usize * taps);
        for t in at..at + i64::from(len) {
            let start = ((t as f64 + 0.5) * factor - support).floor() as i64;
            starts.push((start - first) as u32);
            let exact: Vec<f64> = (0..taps as i64).map(|k| weight(filter, t, start + k, factor, stretch)).collect();
            push_fixed(&exact, &mut weights);
        }
        let span = starts.last().map_or(0, |&s| s as usize + taps);
        Self { first, len: span, taps, starts, weights, whole: None }
    }

    /// Whether target px are source px.
    pub fn is_identity(&self) -> bool {
        self.whole == Some(1)
    }
}

/// How much of source px `s` goes into target px `t`, not normalised.
fn weight(filter: Resample, t: i64, s: i64, factor: f64, stretch: f64) -> f64 {
    match filter {
        Resample::Area => {
            let (lo, hi) = (t as f64 * factor, (t + 1) as f64 * factor);
            (hi.min((s + 1) as f64) - lo.max(s as f64)).max(0.0)
        }
        Resample::Bilinear => (1.0 - (((s as f64 + 0.5) - (t as f64 + 0.5) * factor) / stretch).abs()).max(0.0),
        Resample::Lanczos => {
            let d = (((s as f64 + 0.5) - (t as f64 + 0.5) * factor) / stretch).abs();
            if d < 1e-9 {
                1.0
            } else if d >= 3.0 {
                0.0
            } else {
                let a = std::f64::consts::PI * d;
                3.0 * a.sin() * (a / 3.0).sin() / (a * a)
            }
        }
    }
}

/// Appends `exact` scaled to sum to [`ONE`]; what rounding leaves over goes to the largest weight.
fn push_fixed(exact: &[f64], weights: &mut Vec<i32>) {
    let sum: f64 = exact.iter().sum();
    let at = weights.len();
    weights.extend(exact.iter().map(|w| (w / sum * f64::from(ONE)).round() as i32));
    let row = &mut weights[at..];
    let left = ONE - row.iter().sum::<i32>();
    if let Some(largest) = (0..row.len()).max_by_key(|&i| (row[i], std::cmp::Reverse(i))) {
        row[largest] += left;
    }
}

/// Brings `source` to the target grid.
///
/// # Shapes
/// - `source`: `[y.len, x.len, 3]` u8, its corner at source px `(x.first, y.first)`
/// - `target`: `[targets of y, targets of x, 3]` u8
/// - `middle`: scratch, resized here
pub fn resample(source: &[u8], x: &Axis, y: &Axis, target: &mut [u8], middle: &mut Vec<i16>) {
    match (x.whole, y.whole) {
        (Some(1), Some(1)) => target.copy_from_slice(&source[..target.len()]),
        (Some(2), Some(2)) => mean_of_fours(source, x.len, target),
        (Some(n), Some(m)) => mean_of_blocks(source, x.len, n as usize, m as usize, target),
        _ => {
            let w = columns(source, x, y.len, middle);
            rows(middle, w, y, target);
        }
    }
}

/// Plain mean of `n × m` blocks, rounded half up.
fn mean_of_blocks(source: &[u8], source_w: usize, n: usize, m: usize, target: &mut [u8]) {
    let w = source_w / n;
    let count = (n * m) as u32;
    let mut sums = vec![0u32; w * 3];
    for (out, block) in target.chunks_exact_mut(w * 3).zip(source.chunks_exact(source_w * 3 * m)) {
        sums.fill(count / 2);
        for row in block.chunks_exact(source_w * 3) {
            for (s, px) in sums.chunks_exact_mut(3).zip(row.chunks_exact(n * 3)) {
                for p in px.chunks_exact(3) {
                    s[0] += u32::from(p[0]);
                    s[1] += u32::from(p[1]);
                    s[2] += u32::from(p[2]);
                }
            }
        }
        out.iter_mut().zip(&sums).for_each(|(o, s)| *o = (s / count) as u8);
    }
}

/// [`mean_of_blocks`] of `2 × 2`, the usual step from 40x to 20x: sums of neighbours along whole rows, then every other.
fn mean_of_fours(source: &[u8], source_w: usize, target: &mut [u8]) {
    let w = source_w / 2;
    let row = source_w * 3;
    let (mut pairs, mut means) = (vec![0u16; row], vec![0u8; row]);
    for (out, block) in target.chunks_exact_mut(w * 3).zip(source.chunks_exact(row * 2)) {
        let (above, below) = block.split_at(row);
        for (sum, (a, b)) in pairs.iter_mut().zip(above.iter().zip(below)) {
            *sum = u16::from(*a) + u16::from(*b);
        }
        for (mean, (left, right)) in means.iter_mut().zip(pairs.iter().zip(&pairs[3..])) {
            *mean = ((left + right + 2) >> 2) as u8;
        }
        for (px, two) in out.chunks_exact_mut(3).zip(means.chunks_exact(6)) {
            px.copy_from_slice(&two[..3]);
        }
    }
}

/// First pass: along x, into `[y.len, targets, 3]` with [`MID_BITS`] of fraction. Returns the number of targets.
fn columns(source: &[u8], x: &Axis, source_h: usize, middle: &mut Vec<i16>) -> usize {
    let n = x.whole.unwrap_or(0) as usize;
    let w = x.len.checked_div(n).unwrap_or(x.starts.len());
    middle.clear();
    middle.resize(source_h * w * 3, 0);
    let shift = 14 - MID_BITS;
    for (row, out) in source.chunks_exact(x.len * 3).zip(middle.chunks_exact_mut(w * 3)) {
        for (t, px) in out.chunks_exact_mut(3).enumerate() {
            let mut sum = [1i32 << (shift - 1); 3];
            if n > 0 {
                let mut plain = [0i32; 3];
                for p in row[t * n * 3..][..n * 3].chunks_exact(3) {
                    (0..3).for_each(|c| plain[c] += i32::from(p[c]));
                }
                (0..3).for_each(|c| px[c] = ((plain[c] << MID_BITS) / n as i32) as i16);
                continue;
            }
            let taps = &x.weights[t * x.taps..][..x.taps];
            for (p, &k) in row[x.starts[t] as usize * 3..].chunks_exact(3).zip(taps) {
                (0..3).for_each(|c| sum[c] += i32::from(p[c]) * k);
            }
            (0..3).for_each(|c| px[c] = (sum[c] >> shift).clamp(-32768, 32767) as i16);
        }
    }
    w
}

/// Second pass: along y.
fn rows(middle: &[i16], w: usize, y: &Axis, target: &mut [u8]) {
    let n = y.whole.unwrap_or(0) as usize;
    let shift = 14 + MID_BITS;
    let mut sums = vec![0i32; w * 3];
    for (t, out) in target.chunks_exact_mut(w * 3).enumerate() {
        let (start, taps): (usize, &[i32]) =
            if n > 0 { (t * n, &[]) } else { (y.starts[t] as usize, &y.weights[t * y.taps..][..y.taps]) };
        sums.fill(if n > 0 { 0 } else { 1 << (shift - 1) });
        let count = if n > 0 { n } else { taps.len() };
        for (k, row) in middle[start * w * 3..].chunks_exact(w * 3).take(count).enumerate() {
            let weight = if n > 0 { 1 } else { taps[k] };
            if weight != 0 {
                sums.iter_mut().zip(row).for_each(|(s, &v)| *s += i32::from(v) * weight);
            }
        }
        if n > 0 {
            let half = (n as i32) << (MID_BITS - 1);
            let all = (n as i32) << MID_BITS;
            out.iter_mut().zip(&sums).for_each(|(o, s)| *o = ((s + half) / all).clamp(0, 255) as u8);
        } else {
            out.iter_mut().zip(&sums).for_each(|(o, s)| *o = (s >> shift).clamp(0, 255) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(w: usize, h: usize) -> Vec<u8> {
        (0..w * h * 3).map(|i| ((i * 7919) ^ (i >> 3)) as u8).collect()
    }

    fn whole_picture(src: &[u8], w: usize, h: usize, factor: f64, filter: Resample) -> (Vec<u8>, u32, u32) {
        let (tw, th) = ((w as f64 / factor) as u32, (h as f64 / factor) as u32);
        (read(src, w, h, factor, filter, (0, 0, tw, th)), tw, th)
    }

    /// Reads a target rectangle the way a slide is read: white outside.
    fn read(src: &[u8], w: usize, h: usize, f: f64, filter: Resample, (x, y, tw, th): (i64, i64, u32, u32)) -> Vec<u8> {
        let (ax, ay) = (Axis::new(x, tw, f, filter), Axis::new(y, th, f, filter));
        let mut part = vec![255u8; ax.len * ay.len * 3];
        for j in 0..ay.len {
            for i in 0..ax.len {
                let (sx, sy) = (ax.first + i as i64, ay.first + j as i64);
                if sx >= 0 && sy >= 0 && sx < w as i64 && sy < h as i64 {
                    let from = (sy as usize * w + sx as usize) * 3;
                    part[(j * ax.len + i) * 3..][..3].copy_from_slice(&src[from..from + 3]);
                }
            }
        }
        let mut out = vec![0; tw as usize * th as usize * 3];
        resample(&part, &ax, &ay, &mut out, &mut vec![]);
        out
    }

    #[test]
    fn a_constant_picture_stays_constant_under_every_filter() {
        for filter in [Resample::Area, Resample::Bilinear, Resample::Lanczos] {
            for factor in [0.5, 1.0, 1.002, 1.7, 2.0, 3.3, 16.0] {
                let (x, y) = (Axis::new(5, 9, factor, filter), Axis::new(-3, 7, factor, filter));
                let source = vec![201u8; x.len * y.len * 3];
                let mut out = vec![0; 9 * 7 * 3];
                resample(&source, &x, &y, &mut out, &mut vec![]);
                assert!(out.iter().all(|&v| v == 201), "{filter:?} {factor}: {:?}", &out[..3]);
            }
        }
    }

    #[test]
    fn halving_by_area_is_the_mean_of_four() {
        let src = [10u8, 0, 0, 20, 0, 0, 30, 0, 0, 41, 0, 0];
        assert_eq!(read(&src, 2, 2, 2.0, Resample::Area, (0, 0, 1, 1)), [25, 0, 0]);
    }

    #[test]
    fn area_weights_are_exact_overlaps() {
        // 1.5 source px per target px: the first target px is px 0 and half of px 1.
        let src = [90u8, 90, 90, 30, 30, 30, 0, 0, 0];
        let out = read(&src, 3, 1, 1.5, Resample::Area, (0, 0, 2, 1));
        // Vertically the picture is one row in 1.5: a third of each target px is white.
        let expect = |v: f64| ((v * 2.0 + 255.0) / 3.0).round();
        assert!((f64::from(out[0]) - expect(70.0)).abs() <= 1.0 && (f64::from(out[3]) - expect(10.0)).abs() <= 1.0);
    }

    proptest! {
        #[test]
        fn a_pixel_is_the_same_whatever_rectangle_it_is_read_with(
            factor in prop_oneof![Just(1.0), Just(2.0), Just(4.0), 0.4f64..5.0],
            filter in prop_oneof![Just(Resample::Area), Just(Resample::Bilinear), Just(Resample::Lanczos)],
            x in 0u32..20, y in 0u32..20, w in 1u32..12, h in 1u32..12,
        ) {
            let (sw, sh) = (61, 53);
            let src = picture(sw, sh);
            let (all, tw, th) = whole_picture(&src, sw, sh, factor, filter);
            let (x, y) = (x.min(tw - 1), y.min(th - 1));
            let (w, h) = (w.min(tw - x), h.min(th - y));
            let part = read(&src, sw, sh, factor, filter, (x.into(), y.into(), w, h));
            for j in 0..h as usize {
                let from = ((y as usize + j) * tw as usize + x as usize) * 3;
                prop_assert_eq!(&part[j * w as usize * 3..][..w as usize * 3], &all[from..from + w as usize * 3]);
            }
        }
    }
}
