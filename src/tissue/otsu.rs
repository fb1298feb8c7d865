//! Tissue by Otsu's threshold, with guards for pictures that are all background or all tissue.
//!
//! Owns: the threshold. Must not know: what happens to the mask after.
//!
//! Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE TSMC 9 (1979); the level equals
//! scikit-image's `threshold_otsu(hist=…)`.
//!
//! Otsu always splits in two, also where there is one class only. Two numbers per channel say what a class can be:
//!
//! | | saturation | optical density |
//! |---|---|---|
//! | glass stays below (`floor`) | 0.05 | 0.07 |
//! | stained tissue lies above (`STAINED`) | 0.10 | 0.10 |
//!
//! - A threshold below the floor is raised to it: on glass without tissue (99th percentile of saturation 0.01–0.04 on
//!   four such pictures, of optical density 0.02–0.04) nothing is left instead of half of the noise.
//! - Where the lower class is itself stained on average (a picture full of tissue, or pale tissue beside dark pen and
//!   nuclei), the lower class is split again, and at last the threshold is `STAINED`: a crop inside tissue comes out
//!   as all tissue instead of its darker half.
//!
//! Slides with glass and tissue (CMU-1, CAMELYON: thresholds 0.19 and 0.24, lower means 0.02 and 0.04) meet neither.

use super::channel;
use crate::{config::settings::TissueChannel, pixels::RgbImage};

/// What [`otsu`] found.
pub(super) struct OtsuTissue {
    /// 1 = tissue, `[h, w]`.
    pub bits: Vec<u8>,
    /// Tissue is above it, in units of the channel.
    pub threshold: f64,
    /// What the user should know of the threshold.
    pub note: Option<String>,
}

fn floor(channel: TissueChannel) -> f64 {
    match channel {
        TissueChannel::Saturation => 0.05,
        TissueChannel::OpticalDensity => 0.07,
    }
}

/// Above it lies stained tissue, in either channel.
const STAINED: f64 = 0.10;

/// A class with a mean above it is not all background (measured on glass beside tissue: 0.01–0.04 and 0.02–0.06).
fn background(channel: TissueChannel) -> f64 {
    match channel {
        TissueChannel::Saturation => 0.06,
        TissueChannel::OpticalDensity => 0.08,
    }
}

/// Tissue of `picture`; px where `ignored` is 1 do not shape the threshold.
pub(super) fn otsu(picture: &RgbImage, channel: TissueChannel, ignored: Option<&[u8]>) -> OtsuTissue {
    let px = || picture.data.chunks_exact(3).map(|p| [p[0], p[1], p[2]]);
    let bins: Vec<u8> = px().map(|rgb| channel::bin(channel, rgb)).collect();
    let mut histogram = [0_u64; 256];
    for (i, &bin) in bins.iter().enumerate() {
        if ignored.is_none_or(|ignored| ignored[i] == 0) {
            histogram[bin as usize] += 1;
        }
    }
    let width = channel::bin_width(channel);
    let plain = otsu_level(&histogram);
    let mut level = plain;
    let is_stained =
        |level: usize| mean_level(&histogram[..=level]) * width > background(channel) && level as f64 * width > STAINED;
    while is_stained(level) {
        match otsu_level(&histogram[..=level]) {
            lower if lower < level => level = lower,
            _ => break,
        }
    }
    let mut note = None;
    if is_stained(level) {
        level = (STAINED / width).floor() as usize;
    }
    if level != plain {
        note = Some(format!(
            "otsu: threshold {:.3} lowered to {:.3}: what lies below it is stained as well",
            plain as f64 * width,
            level as f64 * width
        ));
    }
    if (level as f64) * width < floor(channel) {
        level = (floor(channel) / width).round() as usize;
        note = Some(format!(
            "otsu: threshold {:.3} raised to {:.3}: glass without tissue varies as much",
            plain as f64 * width,
            level as f64 * width
        ));
    }
    let bits = bins.iter().map(|&bin| u8::from(usize::from(bin) > level)).collect();
    OtsuTissue { bits, threshold: level as f64 * width, note }
}

/// The bin that splits `histogram` best: the first maximum of the variance between the classes `..=bin` and `bin + 1..`
/// (0 for fewer than two bins). Equal to scikit-image's `threshold_otsu` on the same histogram.
pub fn otsu_level(histogram: &[u64]) -> usize {
    let total: u64 = histogram.iter().sum();
    let total_moment: u64 = histogram.iter().enumerate().map(|(level, n)| level as u64 * n).sum();
    let (mut below, mut below_moment) = (0_u64, 0_u64);
    let mut best = (0, -1.0);
    for (level, n) in histogram.iter().enumerate().take(histogram.len().saturating_sub(1)) {
        below += n;
        below_moment += level as u64 * n;
        let above = total - below;
        if below == 0 || above == 0 {
            continue;
        }
        let apart = below_moment as f64 / below as f64 - (total_moment - below_moment) as f64 / above as f64;
        let between = below as f64 * above as f64 * apart * apart;
        if between > best.1 {
            best = (level, between);
        }
    }
    // One filled bin: everything is the lower class.
    if best.1 < 0.0 { histogram.iter().rposition(|&n| n > 0).unwrap_or(0) } else { best.0 }
}

/// Mean bin of `histogram`; 0 when empty.
fn mean_level(histogram: &[u64]) -> f64 {
    let total: u64 = histogram.iter().sum();
    let moment: u64 = histogram.iter().enumerate().map(|(level, n)| level as u64 * n).sum();
    moment as f64 / total.max(1) as f64
}
