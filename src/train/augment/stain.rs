//! Changes of stain: densities of hematoxylin and eosin, and the stain of another picture.
//!
//! Owns: [`Look`], [`jitter`], [`transfer`]. Must not know: files.
//! Source: Tellez 2018 (HED jitter: each stain's density times `1 ± gain`, plus `± shift`); HistoNeXt (hematoxylin and
//! eosin alone). Densities are those of Ruifrok and Johnston's vectors.

use crate::{
    config::settings::data::{StainJitter, StainSpace, TransferMethod},
    pixels::stain::{
        LabStats, LabTransform, MIN_SAMPLE_PX,
        linear::StainPair,
        macenko,
        od::{OdScale, OdTransform},
        reinhard,
        vectors::{DAB, EOSIN, HEMATOXYLIN},
    },
    train::rng::Rng,
};

/// What a picture's stain looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Look {
    /// Reinhard's.
    Lab(LabStats),
    /// Macenko's.
    Pair(StainPair),
    /// Mean and spread of each channel's natural optical density.
    Od([[f64; 2]; 3]),
}

impl Look {
    /// Of a picture; `None` when it holds too little tissue to tell.
    pub fn of(rgb: &[u8], method: TransferMethod) -> Option<Self> {
        let tissue = reinhard::without_background(rgb);
        match method {
            TransferMethod::Reinhard => reinhard::fit_stats(&tissue).ok().map(Self::Lab),
            TransferMethod::Macenko => macenko::fit_pair(&tissue).ok().map(Self::Pair),
            TransferMethod::Od => od_stats(&tissue).map(Self::Od),
        }
    }

    /// The look `share` of the way to `other`.
    fn towards(&self, other: &Self, share: f64) -> Self {
        let mix = |a: f64, b: f64| a + share * (b - a);
        let three = |a: [f64; 3], b: [f64; 3]| std::array::from_fn(|c| mix(a[c], b[c]));
        match (self, other) {
            (Self::Lab(a), Self::Lab(b)) => {
                Self::Lab(LabStats { mean: three(a.mean, b.mean), std: three(a.std, b.std) })
            }
            (Self::Pair(a), Self::Pair(b)) => Self::Pair(StainPair {
                vectors: [0, 1].map(|s| three(a.vectors[s], b.vectors[s])),
                max_concentrations: [0, 1].map(|s| mix(a.max_concentrations[s], b.max_concentrations[s])),
                scale: a.scale,
            }),
            (Self::Od(a), Self::Od(b)) => Self::Od(std::array::from_fn(|c| [0, 1].map(|k| mix(a[c][k], b[c][k])))),
            _ => *self,
        }
    }
}

/// Mean and spread of the density of each channel.
fn od_stats(rgb: &[u8]) -> Option<[[f64; 2]; 3]> {
    let n = (rgb.len() / 3) as f64;
    let od = OdScale::Io255.table();
    let stats: [[f64; 2]; 3] = std::array::from_fn(|c| {
        let densities = || rgb.iter().skip(c).step_by(3).map(|&v| od[usize::from(v)]);
        let mean = densities().sum::<f64>() / n;
        [mean, (densities().map(|d| (d - mean).powi(2)).sum::<f64>() / n).sqrt()]
    });
    (rgb.len() / 3 >= MIN_SAMPLE_PX && stats.iter().all(|s| s[1] > 0.01)).then_some(stats)
}

/// Gives `rgb`, whose look is `own`, the look `share` of the way to `other`.
pub(super) fn transfer(rgb: &mut [u8], own: &Look, other: &Look, share: f64) {
    match (own, &own.towards(other, share)) {
        (Look::Lab(own), Look::Lab(other)) => LabTransform::new(own, other).apply(rgb),
        (Look::Pair(own), Look::Pair(other)) => {
            if let Some(transform) = own.transform_to(other) {
                transform.apply(rgb);
            }
        }
        (Look::Od(own), Look::Od(other)) => {
            let gain = |c: usize| other[c][1] / own[c][1];
            let matrix = std::array::from_fn(|r| std::array::from_fn(|c| if r == c { gain(c) } else { 0.0 }));
            let offset = std::array::from_fn(|c| other[c][0] - gain(c) * own[c][0]);
            OdTransform::with_offset(&matrix, offset, OdScale::Io255).apply(rgb);
        }
        _ => {}
    }
}

/// Changes the stains' densities.
pub(super) fn jitter(rgb: &mut [u8], settings: &StainJitter, rng: &mut Rng) {
    let is = rng.chance(settings.prob);
    let gains: [f64; 3] = std::array::from_fn(|_| 1.0 + rng.within(settings.gain));
    let shifts: [f64; 3] = std::array::from_fn(|_| rng.within(settings.shift_od));
    if !is {
        return;
    }
    let unit = |v: [f64; 3]| {
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.map(|x| x / length)
    };
    let (h, e) = (unit(HEMATOXYLIN), unit(EOSIN));
    let cross =
        |a: [f64; 3], b: [f64; 3]| [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let (third, changed) = match settings.space {
        StainSpace::Hed => (unit(DAB), 3),
        StainSpace::He => (unit(cross(h, e)), 2),
    };
    let vectors = [h, e, third];
    // Density of stain s = Σ od[k]·unmix[s][k].
    let crosses = [cross(e, third), cross(third, h), cross(h, e)];
    let det: f64 = (0..3).map(|k| h[k] * crosses[0][k]).sum();
    let gain = |s: usize| if s < changed { gains[s] } else { 1.0 };
    let matrix: [[f64; 3]; 3] = std::array::from_fn(|out| {
        std::array::from_fn(|into| (0..3).map(|s| vectors[s][out] * gain(s) * crosses[s][into] / det).sum())
    });
    // Shifts are decadic, densities of the transform natural.
    let offset: [f64; 3] =
        std::array::from_fn(|out| (0..changed).map(|s| vectors[s][out] * shifts[s] * std::f64::consts::LN_10).sum());
    OdTransform::with_offset(&matrix, offset, OdScale::Io255).apply(rgb);
}
