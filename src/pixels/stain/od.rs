//! Optical density, and a linear map between optical densities as three table look-ups per pixel.
//!
//! Owns: [`OdScale`], [`OdTransform`], `ln` and `exp` that give the same bits everywhere. Must not know: stains.
//!
//! With `OD = −ln((v + offset) / io)`, the map `OD' = M·OD` needs no exponential per pixel:
//! `io·exp(−Σ M[c][k]·OD(v_k)) = io · Π exp(−M[c][k]·OD(v_k))`, a product of one table entry per input channel.
//! One entry holds all three output channels, so a pixel costs 3 loads and 2 four-wide multiplications: the same
//! arithmetic with and without SIMD, without fused operations, hence the same bytes on every machine.

/// What optical densities are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OdScale {
    /// `−ln((v + 1) / 240)`: Macenko as in the authors' MATLAB code and torchstain. Negative for near white.
    Io240,
    /// `−ln(max(v, 1) / 255)`: Vahadane and Ruifrok as in TIAToolbox.
    Io255,
    /// `−ln((v + 1) / 256)`: white is 0 and 0 has a finite density, with every value apart; for measuring.
    Io256,
}

impl OdScale {
    /// Optical density (natural logarithm) of each 8-bit value.
    pub fn table(self) -> [f64; 256] {
        std::array::from_fn(|v| match self {
            Self::Io240 => -ln((v + 1) as f64 / 240.0),
            Self::Io255 => -ln(v.max(1) as f64 / 255.0),
            Self::Io256 => -ln((v + 1) as f64 / 256.0),
        })
    }

    /// Decadic optical density of each 8-bit value, as pathologists and QuPath count.
    pub fn decadic_table(self) -> [f64; 256] {
        // `+ 0.0` turns the −0 of white into 0.
        self.table().map(|od| od / std::f64::consts::LN_10 + 0.0)
    }

    fn io(self) -> f64 {
        match self {
            Self::Io240 => 240.0,
            Self::Io255 => 255.0,
            Self::Io256 => 256.0,
        }
    }
}

/// A linear map between optical densities, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct OdTransform {
    /// `[input channel, value, output channel]`; the fourth lane is 0.
    tables: [[[f32; 4]; 256]; 3],
}

/// 2²³: adding it to an f32 in 0–255 leaves the value, rounded to nearest even, in the low byte of the sum.
const ROUND: f32 = 8_388_608.0;

impl OdTransform {
    /// The map `OD' = matrix · OD`.
    ///
    /// Exponents are held within ±27, so that no product of three overflows or becomes NaN; that is far outside what
    /// any stain does (the densest pixel has an optical density of 5.5).
    pub fn new(matrix: &[[f64; 3]; 3], scale: OdScale) -> Self {
        Self::with_offset(matrix, [0.0; 3], scale)
    }

    /// The map `OD' = matrix · OD + offset`, in natural optical density.
    pub fn with_offset(matrix: &[[f64; 3]; 3], offset: [f64; 3], scale: OdScale) -> Self {
        let od = scale.table();
        let first = offset.map(|o| if o == 0.0 { scale.io() } else { scale.io() * exp((-o).clamp(-27.0, 27.0)) });
        let mut tables = [[[0.0; 4]; 256]; 3];
        for (k, table) in tables.iter_mut().enumerate() {
            for (entry, od) in table.iter_mut().zip(&od) {
                for (c, cell) in entry.iter_mut().take(3).enumerate() {
                    let exponent = (-matrix[c][k] * od).clamp(-27.0, 27.0);
                    let exponent = if exponent.is_nan() { 0.0 } else { exponent };
                    // `io` and the offset ride on the first table.
                    *cell = (exp(exponent) * if k == 0 { first[c] } else { 1.0 }) as f32;
                }
            }
        }
        Self { tables }
    }

    /// The entries, as [`StainTables`](super::StainTables) has them.
    pub(super) fn table_bytes(&self) -> Vec<u8> {
        self.tables.iter().flatten().flatten().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// Changes pixels in place; `rgb` is `[n, 3]`.
    pub fn apply(&self, rgb: &mut [u8]) {
        let mut fours = rgb.chunks_exact_mut(12);
        for four in &mut fours {
            let rgb = std::array::from_fn(|i| [four[3 * i], four[3 * i + 1], four[3 * i + 2]]);
            let word = self.four_px(&rgb);
            // 4 × 3 bytes as three words: the fourth byte of each px is 0.
            four[0..4].copy_from_slice(&(word[0] | word[1] << 24).to_le_bytes());
            four[4..8].copy_from_slice(&(word[1] >> 8 | word[2] << 16).to_le_bytes());
            four[8..12].copy_from_slice(&(word[2] >> 16 | word[3] << 8).to_le_bytes());
        }
        for px in fours.into_remainder().chunks_exact_mut(3) {
            px.copy_from_slice(&self.px([px[0], px[1], px[2]])[..3]);
        }
    }

    /// Four px at once, each as a little-endian word whose fourth byte is 0: SSE2, which every x86-64 has.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn four_px(&self, rgb: &[[u8; 3]; 4]) -> [u32; 4] {
        use std::arch::x86_64::{
            __m128i, _mm_cvtps_epi32, _mm_loadu_ps, _mm_min_ps, _mm_mul_ps, _mm_packs_epi32, _mm_packus_epi16,
            _mm_set1_ps, _mm_storeu_si128,
        };
        let mut words = [0_u32; 4];
        // SAFETY: SSE2 is part of x86-64. Each load reads the four f32 of one table entry, the store writes four u32.
        unsafe {
            let whole = |rgb: [u8; 3]| {
                let [r, g, b] = [0, 1, 2].map(|k| _mm_loadu_ps(self.tables[k][rgb[k] as usize].as_ptr()));
                // Rounds to nearest even, like `px`; values are in 0–255.
                _mm_cvtps_epi32(_mm_min_ps(_mm_mul_ps(_mm_mul_ps(r, g), b), _mm_set1_ps(255.0)))
            };
            let [a, b, c, d] = rgb.map(whole);
            let bytes = _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
            _mm_storeu_si128(words.as_mut_ptr().cast::<__m128i>(), bytes);
        }
        words
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn four_px(&self, rgb: &[[u8; 3]; 4]) -> [u32; 4] {
        rgb.map(|px| u32::from_le_bytes(self.px(px)))
    }

    /// One px; the definition that [`Self::four_px`] equals to the bit.
    #[inline(always)]
    fn px(&self, rgb: [u8; 3]) -> [u8; 4] {
        let [r, g, b] = [0, 1, 2].map(|k| &self.tables[k][rgb[k] as usize]);
        std::array::from_fn(|c| ((r[c] * g[c] * b[c]).min(255.0) + ROUND).to_bits() as u8)
    }
}

/// Natural logarithm of a positive, normal number from additions, multiplications and divisions alone: the C
/// library's differs in the last bit between machines.
pub(crate) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2·artanh(z), |z| ≤ 0.172: 12 odd terms reach 1e-18.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let zz = z * z;
    let series = (0..12).rev().fold(0.0, |sum, k| sum * zz + 1.0 / f64::from(2 * k + 1));
    2.0 * z * series + exponent as f64 * std::f64::consts::LN_2
}

/// `e^x` for |x| < 700, from additions and multiplications alone; see [`ln`].
pub(crate) fn exp(x: f64) -> f64 {
    let power = (x / std::f64::consts::LN_2).round();
    let rest = x - power * std::f64::consts::LN_2;
    // |rest| ≤ 0.347: 14 terms reach 1e-18.
    let series = (1..=14).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    series * f64::from_bits(((power as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_and_exponential_agree_with_the_standard_library() {
        for i in 1..2000 {
            let x = f64::from(i) * 0.013;
            assert!((ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0), "ln {x}");
            let y = f64::from(i - 1000) * 0.03;
            assert!((exp(y) / y.exp() - 1.0).abs() < 1e-14, "exp {y}");
        }
    }

    #[test]
    fn the_identity_matrix_keeps_every_value() {
        let one = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let mut rgb: Vec<u8> = (0..=255).flat_map(|v: u8| [v, v.wrapping_mul(7), 255 - v]).collect();
        let before = rgb.clone();
        OdTransform::new(&one, OdScale::Io255).apply(&mut rgb);
        // 0 has no logarithm and is taken as 1.
        assert_eq!(rgb, before.iter().map(|&v| v.max(1)).collect::<Vec<_>>());
    }

    #[test]
    fn four_pixels_at_once_and_one_by_one_agree() {
        let m = [[0.9, 0.1, -0.05], [0.2, 1.1, 0.1], [0.0, -0.1, 0.7]];
        let transform = OdTransform::new(&m, OdScale::Io240);
        let mut whole: Vec<u8> = (0..3 * 1021).map(|i| (i * 37 % 256) as u8).collect();
        let mut single = whole.clone();
        transform.apply(&mut whole);
        single.chunks_exact_mut(3).for_each(|px| transform.apply(px));
        assert_eq!(whole, single);
        // Every value of every channel, dark to bright, over- and underflow included.
        for scale in [0.2, 1.0, 40.0] {
            let transform = OdTransform::new(&m.map(|row| row.map(|x| x * scale)), OdScale::Io240);
            for i in 0..1_u32 << 16 {
                let rgb = [i as u8, (i >> 8) as u8, (i.wrapping_mul(40_503) >> 7) as u8];
                let four = transform.four_px(&[rgb, [0; 3], [255; 3], rgb]);
                assert_eq!(four.map(|word| word.to_le_bytes()), [rgb, [0; 3], [255; 3], rgb].map(|p| transform.px(p)));
            }
        }
    }
}
