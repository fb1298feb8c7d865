//! `hematoxylin`: nucleus probability from colour deconvolution and an adaptive local threshold.
//!
//! Owns: [`HematoxylinModel`]. Must not know: slides, tiles' positions.
//!
//! Every output pixel is a function of the pixels within `margin_px` of it, computed in integers (or in single
//! float operations on them), so its bits do not depend on the tile it was computed in.
//!
//! Source: the classical chain of QuPath's cell detection (Bankhead 2017) and HistomicsTK: density of hematoxylin
//! (Ruifrok and Johnston 2001), Gaussian smoothing, threshold. Differs: the threshold follows the neighbourhood.

use super::{
    density::{DensityLut, UNITS_PER_OD},
    spec::{ClassInfo, Head, HeadMap, HeadSpec, Model, ModelError, ModelSpec},
};
use crate::{
    config::settings::{Hematoxylin, StainChannel},
    units::Mpp,
};
use std::cell::RefCell;

/// Settings that found most nuclei of the breast-cancer patches they were tuned on, and held on others.
pub const HEMATOXYLIN_DEFAULTS: Hematoxylin =
    Hematoxylin { smooth_sigma_um: 0.75, local_radius_um: 15.0, offset_od: 0.06, min_od: 0.15 };

/// Weights of the Gaussian sum to this.
const KERNEL_ONE: i32 = 1 << 14;
/// Mean optical density from which a pixel is tissue, and so part of its neighbours' mean: 0.06 is grey 222.
const TISSUE_OD: f64 = 0.06;
/// Densities are cut here: pigment and folds must not pull their neighbourhood's mean.
const MAX_OD: f64 = 2.0;
/// Density above the threshold, in OD, that takes the probability from 0.5 to 0.73.
const SOFTNESS_OD: f64 = 0.04;

/// Colour deconvolution and a local threshold; any resolution, any tile.
#[derive(Debug)]
pub struct HematoxylinModel {
    spec: ModelSpec,
    hematoxylin: DensityLut,
    total: DensityLut,
    /// Gaussian, `2·radius + 1` weights.
    kernel: Vec<i16>,
    /// Radius of the square neighbourhood, px.
    local_px: usize,
    offset: i32,
    min: i32,
    /// Probability by `density − threshold + half its length`.
    probability: Vec<i16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of one tile, kept by the thread.
#[derive(Default)]
struct Scratch {
    density: Vec<i16>,
    tissue: Vec<u8>,
    across: Vec<i16>,
    smooth: Vec<i16>,
    sums: Vec<u32>,
    counts: Vec<u32>,
    row: Vec<i16>,
}

impl HematoxylinModel {
    /// The method of `settings` at `input_mpp` (default 0.5 µm/px).
    ///
    /// # Errors
    /// [`ModelError`] when a length is not finite, not positive or more than 400 px.
    pub fn new(settings: &Hematoxylin, input_mpp: Option<Mpp>) -> Result<Self, ModelError> {
        let mpp = input_mpp.unwrap_or(Mpp::new(0.5).expect("0.5 is positive"));
        let px = |name: &str, um: f64| {
            let px = um / mpp.um_per_px();
            let fits = px.is_finite() && (0.0..=400.0).contains(&px);
            fits.then_some(px).ok_or_else(|| {
                ModelError(format!("`{name}` does not fit the resolution: `{um}` µm at {mpp}, expected 0 to 400 px"))
            })
        };
        let kernel = gaussian(px("smooth_sigma_um", settings.smooth_sigma_um)?);
        let local_px = px("local_radius_um", settings.local_radius_um)?.round().max(1.0) as usize;
        let margin_px = (kernel.len() / 2 + local_px) as u32;
        let units = |od: f64| (od.clamp(-4.0, 4.0) * f64::from(UNITS_PER_OD)).round() as i32;
        let spec = ModelSpec {
            name: "hematoxylin",
            weights_sha256: None,
            input_mpp: mpp,
            any_mpp: true,
            tile_px: (4 * margin_px).next_multiple_of(256).max(512),
            tile_step_px: Some(1),
            margin_px,
            usual_margin_px: margin_px,
            is_certain: false,
            out_stride: 1,
            prob_threshold: None,
            heads: vec![HeadSpec { head: Head::NuclearPixel, channels: 1 }],
            classes: vec![ClassInfo { name: "nucleus".into(), color: [0, 255, 0] }],
        };
        Ok(Self {
            spec,
            hematoxylin: DensityLut::scanner_hematoxylin(),
            total: DensityLut::new(StainChannel::Total),
            kernel,
            local_px,
            offset: units(settings.offset_od),
            min: units(settings.min_od),
            probability: logistic(),
        })
    }

    /// Density of hematoxylin and whether there is tissue, of every pixel of a tile.
    fn densities(&self, rgb: &[u8], s: &mut Scratch) {
        let (pixels, _) = rgb.as_chunks::<3>();
        let max = (MAX_OD * f64::from(UNITS_PER_OD)) as i32;
        let tissue = (TISSUE_OD * f64::from(UNITS_PER_OD)) as i32;
        s.density.clear();
        s.density.extend(pixels.iter().map(|p| self.hematoxylin.density(p).clamp(0, max) as i16));
        s.tissue.clear();
        s.tissue.extend(pixels.iter().map(|p| u8::from(self.total.density(p) >= tissue)));
    }

    /// Gaussian of the density, over the tile less the kernel's radius.
    fn smooth(&self, side: usize, s: &mut Scratch) {
        let inner = side - (self.kernel.len() - 1);
        s.across.clear();
        s.across.resize(side * inner, 0);
        let mut sums = vec![0i32; inner];
        for (from, to) in s.density.chunks_exact(side).zip(s.across.chunks_exact_mut(inner)) {
            self.weigh(&mut sums, |k| &from[k..k + inner]);
            to.iter_mut().zip(&sums).for_each(|(to, &sum)| *to = (sum >> 14) as i16);
        }
        s.smooth.clear();
        s.smooth.resize(inner * inner, 0);
        for (y, to) in s.smooth.chunks_exact_mut(inner).enumerate() {
            self.weigh(&mut sums, |k| &s.across[(y + k) * inner..][..inner]);
            to.iter_mut().zip(&sums).for_each(|(to, &sum)| *to = (sum >> 14) as i16);
        }
    }

    /// `sums = half + Σ kernel[k] · line(k)`; the kernel is symmetric, so lines are added in pairs first.
    #[inline(always)]
    fn weigh<'a>(&self, sums: &mut [i32], line: impl Fn(usize) -> &'a [i16]) {
        let last = self.kernel.len() - 1;
        let middle = i32::from(self.kernel[last / 2]);
        sums.iter_mut().zip(line(last / 2)).for_each(|(s, &v)| *s = KERNEL_ONE / 2 + i32::from(v) * middle);
        for k in 0..last / 2 {
            let weight = self.kernel[k];
            for ((sum, &a), &b) in sums.iter_mut().zip(line(k)).zip(line(last - k)) {
                // Densities are cut well below half of what 16 bits hold.
                *sum += i32::from(a + b) * i32::from(weight);
            }
        }
    }

    /// Probability of every pixel of the core from its smoothed density and the mean of its neighbourhood.
    fn threshold(&self, side: usize, s: &mut Scratch) -> Vec<i16> {
        let (radius, edge) = (self.kernel.len() / 2, self.local_px);
        let inner = side - 2 * radius;
        let core = inner - 2 * edge;
        let mut out = vec![0i16; core * core];
        s.sums.clear();
        s.sums.resize(inner, 0);
        s.counts.clear();
        s.counts.resize(inner, 0);
        s.row.resize(inner, 0);
        for y in 0..inner {
            let tissue = |y: usize| &s.tissue[(y + radius) * side + radius..][..inner];
            let density = |y: usize| &s.smooth[y * inner..][..inner];
            for (((sum, count), &d), &t) in s.sums.iter_mut().zip(&mut s.counts).zip(density(y)).zip(tissue(y)) {
                *sum += d as u32 * u32::from(t);
                *count += u32::from(t);
            }
            if y < 2 * edge {
                continue;
            }
            let at = y - edge;
            let to = &mut out[(y - 2 * edge) * core..][..core];
            self.threshold_row(&density(at)[edge..edge + core], &s.sums, &s.counts, to);
            let old = y - 2 * edge;
            for (((sum, count), &d), &t) in s.sums.iter_mut().zip(&mut s.counts).zip(density(old)).zip(tissue(old)) {
                *sum -= d as u32 * u32::from(t);
                *count -= u32::from(t);
            }
        }
        out
    }

    /// One row of [`Self::threshold`], from the sums and counts of each column over the neighbourhood's height.
    fn threshold_row(&self, density: &[i16], sums: &[u32], counts: &[u32], out: &mut [i16]) {
        let width = 2 * self.local_px + 1;
        let half = (self.probability.len() / 2) as i32;
        let (mut sum, mut count) = (0u64, 0u32);
        for x in 0..width - 1 {
            sum += u64::from(sums[x]);
            count += counts[x];
        }
        for x in 0..density.len() {
            sum += u64::from(sums[x + width - 1]);
            count += counts[x + width - 1];
            let mean = (sum as f32 / count.max(1) as f32) as i32;
            let threshold = self.min.max(mean + self.offset);
            let above = (i32::from(density[x]) - threshold + half).clamp(0, 2 * half);
            out[x] = self.probability[above as usize];
            sum -= u64::from(sums[x]);
            count -= counts[x];
        }
    }
}

impl Model for HematoxylinModel {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn is_one_core(&self) -> bool {
        true
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn forward(&self, images: &[&[u8]], tile_px: u32) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        let core_px = tile_px.saturating_sub(2 * self.spec.margin_px);
        images
            .iter()
            .map(|rgb| {
                super::spec::check_tile(rgb, tile_px, self.spec.margin_px)?;
                let data = SCRATCH.with_borrow_mut(|scratch| {
                    self.densities(rgb, scratch);
                    self.smooth(tile_px as usize, scratch);
                    self.threshold(tile_px as usize, scratch)
                });
                Ok(vec![HeadMap { head: Head::NuclearPixel, channels: 1, w: core_px, h: core_px, data, pixels: None }])
            })
            .collect()
    }
}

/// Weights of a Gaussian cut at 3 sigma, as integers whose sum is [`KERNEL_ONE`].
fn gaussian(sigma_px: f64) -> Vec<i16> {
    let radius = (3.0 * sigma_px).ceil() as i32;
    let weight = |i: i32| if i == 0 { 1.0 } else { (-0.5 * (f64::from(i) / sigma_px).powi(2)).exp() };
    let total: f64 = (-radius..=radius).map(weight).sum();
    let mut kernel: Vec<i32> =
        (-radius..=radius).map(|i| (weight(i) / total * f64::from(KERNEL_ONE)).round() as i32).collect();
    let sum: i32 = kernel.iter().sum();
    kernel[radius as usize] += KERNEL_ONE - sum;
    kernel.into_iter().map(|w| w as i16).collect()
}

/// Probability by density above the threshold, from −0.5 to 0.5 OD.
fn logistic() -> Vec<i16> {
    let half = UNITS_PER_OD / 2;
    let scale = f64::from(Head::NuclearPixel.scale());
    let soft = SOFTNESS_OD * f64::from(UNITS_PER_OD);
    (-half..=half).map(|d| (scale / (1.0 + (-f64::from(d) / soft).exp())).round() as i16).collect()
}
