//! The two quantities tissue is thresholded on.
//!
//! Owns: saturation and mean optical density of a pixel. Must not know: thresholds.

use crate::{config::settings::TissueChannel, pixels::stain::mean_od_px};

/// `channel` of one pixel: HSV saturation 0–1, or mean decadic optical density 0–2.41.
pub(super) fn value(channel: TissueChannel, rgb: [u8; 3]) -> f64 {
    match channel {
        TissueChannel::Saturation => {
            let (max, min) = (rgb[0].max(rgb[1]).max(rgb[2]), rgb[0].min(rgb[1]).min(rgb[2]));
            f64::from(max - min) / f64::from(max.max(1))
        }
        TissueChannel::OpticalDensity => f64::from(mean_od_px(rgb)),
    }
}

/// Width of a histogram bin: 256 bins cover saturation, and optical density up to 2.55.
pub(super) fn bin_width(channel: TissueChannel) -> f64 {
    match channel {
        TissueChannel::Saturation => 1.0 / 255.0,
        TissueChannel::OpticalDensity => 0.01,
    }
}

/// The bin of `value`.
pub(super) fn bin(channel: TissueChannel, rgb: [u8; 3]) -> u8 {
    (value(channel, rgb) / bin_width(channel)).round().min(255.0) as u8
}
