//! How fast the distances to a nucleus' centre rise, along x and along y.
//!
//! Owns: [`Slopes`], [`Patch`]. Must not know: what is a nucleus.
//!
//! The value of a pixel is a sum in one order whatever patch it is computed in, and so the same to the last bit.
//!
//! Source: OpenCV's `Sobel` of 21 taps as HoVer-Net's `post_proc.py` calls it: binomial smoothing across, its
//! difference along; beyond the picture's edge the picture is mirrored at the edge pixel's centre.

/// The value of a pixel depends on pixels this far away along x and y.
pub(super) const SLOPE_REACH_PX: usize = 10;
const TAPS: usize = 2 * SLOPE_REACH_PX + 1;
/// Sum of the smoothing weights.
const UNIT: f32 = 1_048_576.0;
/// Weights by distance from the pixel: C(20, 10 + k).
const SMOOTH: [f32; SLOPE_REACH_PX + 1] =
    [184_756.0, 167_960.0, 125_970.0, 77_520.0, 38_760.0, 15_504.0, 4_845.0, 1_140.0, 190.0, 20.0, 1.0];
/// Weights of the difference of the pixels at a distance: C(19, 9 + k) − C(19, 10 + k).
const RISE: [f32; SLOPE_REACH_PX + 1] =
    [0.0, 16_796.0, 25_194.0, 23_256.0, 15_504.0, 7_752.0, 2_907.0, 798.0, 152.0, 18.0, 1.0];
/// Pixels worked on together: as many as registers hold.
const LANES: usize = 16;

/// A rectangle of a region's arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patch {
    /// First column.
    pub(super) x0: usize,
    /// First row.
    pub(super) y0: usize,
    /// Width.
    pub(super) w: usize,
    /// Height.
    pub(super) h: usize,
}

/// The slopes of a patch, and what their making needs.
#[derive(Default)]
pub(super) struct Slopes {
    /// `[h, stride]` each: rise of the horizontal distance along x, of the vertical one along y.
    pub(super) rise: [Vec<f32>; 2],
    /// From one row to the next.
    pub(super) stride: usize,
    /// The patch and what is around it, mirrored at the picture's edge.
    source: Vec<f32>,
    row: Vec<f32>,
}

impl Slopes {
    /// Computes the slopes of the columns `spans[y]` of each row `y` of the patch; other columns keep anything.
    ///
    /// # Shapes
    /// - `hv`: `[2, h, w]` of a picture of `size = (w, h)`
    /// - `spans`: one per row of the patch, in columns of the patch; may be empty
    pub(super) fn make(&mut self, hv: &[i16], size: (usize, usize), patch: Patch, spans: &[(u32, u32)]) {
        self.stride = patch.w + LANES;
        let across = patch.w + 2 * SLOPE_REACH_PX + LANES;
        self.row.resize(across + LANES, 0.0);
        for (channel, plane) in hv.chunks_exact(size.0 * size.1).enumerate() {
            self.copy(plane, size, patch, across);
            let out = &mut self.rise[channel];
            out.resize(out.len().max(patch.h * self.stride), 0.0);
            for (y, &(x0, x1)) in spans.iter().enumerate() {
                if x0 >= x1 {
                    continue;
                }
                let (x0, x1) = (x0 as usize, x1 as usize);
                let n = (x1 - x0 + 2 * SLOPE_REACH_PX).next_multiple_of(LANES);
                let down = &self.source[y * across + x0..];
                let out = &mut out[y * self.stride + x0..][..(x1 - x0).next_multiple_of(LANES)];
                if channel == 0 {
                    weigh::<false>(down, across, &SMOOTH, &mut self.row[..n]);
                    weigh::<true>(&self.row, 1, &RISE, out);
                } else {
                    weigh::<true>(down, across, &RISE, &mut self.row[..n]);
                    weigh::<false>(&self.row, 1, &SMOOTH, out);
                }
            }
        }
    }

    /// Copies the patch and [`SLOPE_REACH_PX`] around it; rows are `across` long.
    fn copy(&mut self, plane: &[i16], (w, h): (usize, usize), patch: Patch, across: usize) {
        let rows = patch.h + 2 * SLOPE_REACH_PX;
        // The last row is read past its end, into values nobody uses.
        self.source.resize(self.source.len().max(rows * across + LANES), 0.0);
        let first = patch.x0 as isize - SLOPE_REACH_PX as isize;
        let last = patch.x0 + patch.w + SLOPE_REACH_PX;
        let (inner0, inner1) = (first.max(0) as usize, last.min(w));
        for (y, to) in self.source.chunks_exact_mut(across).take(rows).enumerate() {
            let from = &plane[mirrored(patch.y0 as isize + y as isize - SLOPE_REACH_PX as isize, h) * w..][..w];
            let at = (inner0 as isize - first) as usize;
            for (to, &v) in to[at..].iter_mut().zip(&from[inner0..inner1]) {
                *to = f32::from(v);
            }
            for x in (first..0).chain(w as isize..last as isize) {
                to[(x - first) as usize] = f32::from(from[mirrored(x, w)]);
            }
        }
    }
}

/// The index that stands for `i` in `0..n`: mirrored at the centres of the first and the last, as often as needed.
fn mirrored(i: isize, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as isize - 1);
    let i = i.rem_euclid(period);
    i.min(period - i) as usize
}

/// `out[i] = Σ weights[k] · (data[i + (10 + k)·step] ± data[i + (10 − k)·step])`, the middle counted once; in this
/// order. The length of `out` is a multiple of [`LANES`].
#[inline(always)]
fn weigh<const DIFFERENCE: bool>(data: &[f32], step: usize, weights: &[f32; SLOPE_REACH_PX + 1], out: &mut [f32]) {
    let n = out.len();
    let taps: [&[f32]; TAPS] = std::array::from_fn(|k| &data[k * step..][..n]);
    for (block, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let at = block * LANES;
        let tap = |k: usize| -> &[f32; LANES] { taps[k][at..].first_chunk().expect("a block lies within `n`") };
        let mut sums = [0.0; LANES];
        if !DIFFERENCE {
            let middle = tap(SLOPE_REACH_PX);
            (0..LANES).for_each(|i| sums[i] = middle[i] * (weights[0] / UNIT));
        }
        for (k, weight) in weights.iter().enumerate().skip(1) {
            let (before, after) = (tap(SLOPE_REACH_PX - k), tap(SLOPE_REACH_PX + k));
            let weight = weight / UNIT;
            for i in 0..LANES {
                let both = if DIFFERENCE { after[i] - before[i] } else { after[i] + before[i] };
                sums[i] += both * weight;
            }
        }
        *out = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_mirrored_at_the_edge_pixels_centre() {
        let at: Vec<usize> = (-5..8).map(|i| mirrored(i, 4)).collect();
        assert_eq!(at, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!(mirrored(-7, 1), 0);
    }

    #[test]
    fn a_ramp_has_the_same_slope_everywhere_and_in_every_patch() {
        let (w, h) = (60usize, 50usize);
        let ramp =
            |along_x: bool| (0..w * h).map(move |i| if along_x { 3 * (i % w) as i16 } else { 5 * (i / w) as i16 });
        let hv: Vec<i16> = ramp(true).chain(ramp(false)).collect();
        let mut slopes = Slopes::default();
        let patch = Patch { x0: 13, y0: 11, w: 30, h: 25 };
        slopes.make(&hv, (w, h), patch, &[(0, 30); 25]);
        // In units of the smoothing's sum, the weights of the difference say half the rise from one pixel to the next.
        let expected = [1.5, 2.5];
        for (rise, expected) in slopes.rise.iter().zip(expected) {
            for y in 0..25 {
                for x in 0..30 {
                    assert!((rise[y * slopes.stride + x] - expected).abs() < 1e-3, "{}", rise[y * slopes.stride + x]);
                }
            }
        }
    }

    #[test]
    fn a_pixel_has_the_same_bits_in_every_patch() {
        let (w, h) = (70usize, 40usize);
        let hv: Vec<i16> = (0..2 * w * h).map(|i| ((i * 7919 + i * i * 31) % 32_768) as i16 - 16_384).collect();
        let (mut whole, mut part) = (Slopes::default(), Slopes::default());
        whole.make(&hv, (w, h), Patch { x0: 0, y0: 0, w, h }, &vec![(0, w as u32); h]);
        let patch = Patch { x0: 3, y0: 22, w: 41, h: 18 };
        let spans: Vec<(u32, u32)> = (0..18).map(|y| (y, 41 - y)).collect();
        part.make(&hv, (w, h), patch, &spans);
        for channel in 0..2 {
            for (y, &(x0, x1)) in spans.iter().enumerate() {
                let a = &part.rise[channel][y * part.stride..][x0 as usize..x1 as usize];
                let b = &whole.rise[channel][(y + 22) * whole.stride + 3..][x0 as usize..x1 as usize];
                assert_eq!(a, b);
            }
        }
    }
}
