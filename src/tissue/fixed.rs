//! Tissue by a fixed threshold.
//!
//! Owns: the comparison. Must not know: where the threshold comes from.

use super::channel;
use crate::{config::settings::TissueChannel, pixels::RgbImage};

/// 1 where `channel` is above `threshold` (saturation 0–1, or mean decadic optical density).
pub(super) fn fixed(picture: &RgbImage, channel: TissueChannel, threshold: f64) -> Vec<u8> {
    let px = picture.data.chunks_exact(3);
    px.map(|p| u8::from(channel::value(channel, [p[0], p[1], p[2]]) > threshold)).collect()
}
