//! Reinhard 2001: equal mean and spread of every colour channel.
//!
//! Owns: [`LabTransform`], the fit. Must not know: stains.
//!
//! Source: E. Reinhard et al., "Color transfer between images", IEEE CG&A 21 (2001). Like torchstain and TIAToolbox,
//! the colour space is CIELAB (D65, sRGB), not the paper's lαβ. Differs from torchstain: the means are taken over
//! tissue once per slide, not over each tile with its background; results are rounded instead of cut off.
//! Differs from TIAToolbox: L*, a*, b* are not rounded to 8 bits on the way.

use super::{
    LabStats, MIN_SAMPLE_PX,
    od::{exp, ln},
};

/// Linear sRGB to XYZ, as in scikit-image and torchstain.
const XYZ_FROM_RGB: [[f64; 3]; 3] =
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]];
/// D65, 2°.
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];

/// The built-in look: the median over the tissue px of the 90 H&E patches of BRCA-M2C (TCGA, several laboratories)
/// of each patch's mean and standard deviation, `fixtures/stain/make.py`.
pub const STANDARD: LabStats = LabStats { mean: [63.8, 24.31, -16.13], std: [13.47, 7.18, 8.06] };

/// Below this standard deviation of L* a sample has one brightness: 8-bit noise alone is about 0.3.
const MIN_STD_L: f64 = 0.5;

/// Mean and standard deviation of CIELAB over `sample_rgb` (`[n, 3]`).
///
/// # Errors
/// Why the sample does not determine them, in words for the user.
pub fn fit_stats(sample_rgb: &[u8]) -> Result<LabStats, String> {
    let n = sample_rgb.len() / 3;
    if n < MIN_SAMPLE_PX {
        return Err(format!("{n} px in the tissue sample, expected at least {MIN_SAMPLE_PX}"));
    }
    let curves = Curves::new();
    let (mut sum, mut squares) = ([0.0; 3], [0.0; 3]);
    for px in sample_rgb.chunks_exact(3) {
        let lab = curves.lab([px[0], px[1], px[2]]);
        for i in 0..3 {
            // Shifted, so that the variance of a narrow sample survives the subtraction.
            let d = lab[i] - [60.0, 0.0, 0.0][i];
            sum[i] += d;
            squares[i] += d * d;
        }
    }
    let mean = std::array::from_fn(|i| sum[i] / n as f64 + [60.0, 0.0, 0.0][i]);
    let std: [f64; 3] = std::array::from_fn(|i| (squares[i] / n as f64 - (sum[i] / n as f64).powi(2)).max(0.0).sqrt());
    if std[0] < MIN_STD_L || std[1] < 0.1 || std[2] < 0.1 {
        return Err("the tissue sample has one colour".to_owned());
    }
    Ok(LabStats { mean, std })
}

/// The px of a reference picture that are not background: mean optical density above 0.05 (decadic).
pub fn without_background(rgb: &[u8]) -> Vec<u8> {
    let stained = |px: &&[u8]| super::mean_od_px([px[0], px[1], px[2]]) > 0.05;
    rgb.chunks_exact(3).filter(stained).flatten().copied().collect()
}

/// sRGB decoding and the cube root of CIELAB, from arithmetic that gives the same bits everywhere.
struct Curves {
    linear: [f64; 256],
}

impl Curves {
    fn new() -> Self {
        Self {
            linear: std::array::from_fn(|v| {
                let s = v as f64 / 255.0;
                if s > 0.04045 { power((s + 0.055) / 1.055, 2.4) } else { s / 12.92 }
            }),
        }
    }

    fn lab(&self, rgb: [u8; 3]) -> [f64; 3] {
        let linear = rgb.map(|v| self.linear[v as usize]);
        let [x, y, z] =
            std::array::from_fn(|i| root((0..3).map(|k| XYZ_FROM_RGB[i][k] * linear[k]).sum::<f64>() / WHITE[i]));
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }
}

fn power(x: f64, exponent: f64) -> f64 {
    exp(exponent * ln(x))
}

/// CIELAB's f.
fn root(t: f64) -> f64 {
    if t > 0.008856 { power(t, 1.0 / 3.0) } else { 7.787 * t + 16.0 / 116.0 }
}

/// Steps of the table of [`root`] over [0, 1]; linear between them, so L* is exact to 0.003.
const ROOT_STEPS: usize = 2048;
/// Steps of the table that encodes linear light to 8-bit sRGB: a step is at most 0.4 of a grey level. All tables
/// together fit the first-level cache.
const ENCODE_STEPS: usize = 8192;

/// 1.5·2²³: adding it to an f32 below 2¹⁶ rounds to whole numbers and leaves them in the low bits of the sum; a cast
/// costs several times as much because it saturates.
const WHOLE: f32 = 12_582_912.0;

/// Pixels worked on at once: their intermediate values take 2.3 KB.
const BLOCK: usize = 64;

/// An affine map between CIELAB colours, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct LabTransform {
    /// `[input channel, value, XYZ]`: what each channel adds to `XYZ / white`, in steps of `root`. Fourth lane 0.
    xyz: [[[f32; 4]; 256]; 3],
    /// CIELAB's f at each step, and the difference to the next.
    root: Vec<[f32; 2]>,
    /// The map between (f(X), f(Y), f(Z)): CIELAB is linear in them. Column-wise; the last column is the offset.
    map: [[f32; 4]; 4],
    /// Linear light, in steps of `encode`, from `XYZ / white`. Column-wise.
    light: [[f32; 4]; 3],
    /// 8-bit sRGB at each step of linear light.
    encode: Vec<u8>,
}

impl LabTransform {
    /// The map that gives `source` the mean and spread of `target`.
    pub fn new(source: &LabStats, target: &LabStats) -> Self {
        let gain: [f64; 3] = std::array::from_fn(|i| target.std[i] / source.std[i]);
        let offset: [f64; 3] = std::array::from_fn(|i| target.mean[i] - gain[i] * source.mean[i]);
        // With Lab = P·f − (16, 0, 0): f' = P⁻¹·(gain·(P·f − 16·e0) + offset + 16·e0).
        let shift = [offset[0] + 16.0 * (1.0 - gain[0]), offset[1], offset[2]];
        // P⁻¹·(L, a, b) = (L/116 + a/500, L/116, L/116 − b/200).
        let inverse = |l: f64, a: f64, b: f64| [l / 116.0 + a / 500.0, l / 116.0, l / 116.0 - b / 200.0];
        let columns = [
            inverse(0.0, 500.0 * gain[1], 0.0),
            inverse(116.0 * gain[0], -500.0 * gain[1], 200.0 * gain[2]),
            inverse(0.0, 0.0, -200.0 * gain[2]),
            inverse(shift[0], shift[1], shift[2]),
        ];
        let curves = Curves::new();
        let four = |v: [f64; 3]| [v[0] as f32, v[1] as f32, v[2] as f32, 0.0];
        let xyz = std::array::from_fn(|k| {
            std::array::from_fn(|v| {
                let light = curves.linear[v] * ROOT_STEPS as f64;
                four(std::array::from_fn(|i| XYZ_FROM_RGB[i][k] / WHITE[i] * light))
            })
        });
        let root = (0..=ROOT_STEPS + 1)
            .map(|i| {
                let at = |i: usize| root(i as f64 / ROOT_STEPS as f64);
                [at(i) as f32, (at(i + 1) - at(i)) as f32]
            })
            .collect();
        let rgb_from_xyz = inverse_3x3(&XYZ_FROM_RGB);
        let light =
            std::array::from_fn(|k| four(std::array::from_fn(|i| rgb_from_xyz[i][k] * WHITE[k] * ENCODE_STEPS as f64)));
        Self { xyz, root, map: columns.map(four), light, encode: encode_table() }
    }

    /// The tables, as [`StainTables`](super::StainTables) has them.
    pub(super) fn table_bytes(&self) -> Vec<u8> {
        let floats = self.xyz.iter().flatten().flatten().chain(self.map.iter().flatten());
        let floats = floats.chain(self.light.iter().flatten()).chain(self.root.iter().flatten());
        floats.flat_map(|v| v.to_le_bytes()).chain(self.encode.iter().copied()).collect()
    }

    /// Changes pixels in place; `rgb` is `[n, 3]`.
    pub fn apply(&self, rgb: &mut [u8]) {
        let whole = rgb.len() / 3 * 3;
        for block in rgb[..whole].chunks_mut(3 * BLOCK) {
            self.apply_block(block);
        }
    }

    /// Up to [`BLOCK`] px: look-ups one by one, the arithmetic between them channel by channel, so that compilers turn
    /// it into SIMD. No operation is fused or reordered, so the bytes do not depend on whether they do.
    fn apply_block(&self, block: &mut [u8]) {
        let mut f = [[0.0_f32; BLOCK]; 3];
        for (j, px) in block.chunks_exact(3).enumerate() {
            let (r, g, b) = (&self.xyz[0][px[0] as usize], &self.xyz[1][px[1] as usize], &self.xyz[2][px[2] as usize]);
            f[0][j] = self.root_at(r[0] + g[0] + b[0]);
            f[1][j] = self.root_at(r[1] + g[1] + b[1]);
            f[2][j] = self.root_at(r[2] + g[2] + b[2]);
        }
        let [c0, c1, c2, offset] = &self.map;
        let mut xyz = [[0.0_f32; BLOCK]; 3];
        for (i, xyz) in xyz.iter_mut().enumerate() {
            for (j, out) in xyz.iter_mut().enumerate() {
                let f = c0[i] * f[0][j] + c1[i] * f[1][j] + c2[i] * f[2][j] + offset[i];
                let (cube, line) = (f * f * f, (f - 16.0 / 116.0) * (1.0 / 7.787));
                *out = if f > 0.206_896_6 { cube } else { line };
            }
        }
        let [x, y, z] = &self.light;
        let mut steps = [[0_u32; BLOCK]; 3];
        for (i, steps) in steps.iter_mut().enumerate() {
            for (j, out) in steps.iter_mut().enumerate() {
                let light = x[i] * xyz[0][j] + y[i] * xyz[1][j] + z[i] * xyz[2][j];
                // Comparisons, not `clamp`: NaN becomes 0, and they are single instructions everywhere.
                let light = if light > 0.0 { light } else { 0.0 };
                let light = if light < ENCODE_STEPS as f32 { light } else { ENCODE_STEPS as f32 };
                *out = (light + WHOLE).to_bits();
            }
        }
        let encode = self.encode.as_slice();
        let last = encode.len() - 1;
        for (j, px) in block.chunks_exact_mut(3).enumerate() {
            for (value, steps) in px.iter_mut().zip(&steps) {
                *value = encode[((steps[j] & 0xffff) as usize).min(last)];
            }
        }
    }

    /// CIELAB's f, `at` counted in steps of the table.
    #[inline(always)]
    fn root_at(&self, at: f32) -> f32 {
        // The step below (or at an exact step either neighbour: they agree there).
        let whole = at - 0.5 + WHOLE;
        let step = (whole.to_bits() & 0xffff) as usize;
        // White sums to 2048.02: the table has one step more.
        let [low, rise] = self.root[step.min(ROOT_STEPS + 1)];
        low + rise * (at - (whole - WHOLE))
    }
}

fn encode_table() -> Vec<u8> {
    (0..=ENCODE_STEPS)
        .map(|i| {
            let light = i as f64 / ENCODE_STEPS as f64;
            let s = if light > 0.0031308 { 1.055 * power(light, 1.0 / 2.4) - 0.055 } else { light * 12.92 };
            (s * 255.0).round() as u8
        })
        .collect()
}

fn inverse_3x3(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let det: f64 = (0..3).map(|c| m[0][c] * minor(0, c)).sum();
    std::array::from_fn(|r| std::array::from_fn(|c| minor(c, r) / det))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_the_lab_values_of_the_books() {
        // scikit-image 0.26 rgb2lab (D65): red, mid-grey, black.
        let expected =
            [([255, 0, 0], [53.2406, 80.0942, 67.2015]), ([128; 3], [53.585, 0.0, 0.0]), ([0; 3], [0.0, 0.0, 0.0])];
        for (rgb, lab) in expected {
            let got = Curves::new().lab(rgb);
            assert!(got.iter().zip(lab).all(|(a, b)| (a - b).abs() < 0.01), "{rgb:?}: {got:?}");
        }
    }

    #[test]
    fn equal_looks_keep_every_pixel() {
        let look = LabStats { mean: [60.0, 20.0, -10.0], std: [12.0, 5.0, 6.0] };
        let mut rgb: Vec<u8> = (0..3 * 5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let before = rgb.clone();
        LabTransform::new(&look, &look).apply(&mut rgb);
        let worst = rgb.iter().zip(&before).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{worst:?}");
    }
}
