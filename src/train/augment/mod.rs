//! Random changes of samples: places first, in one resampling, then colours.
//!
//! Owns: [`Augmenter`]. Must not know: files, targets.
//!
//! What is drawn depends on seed, epoch and sample alone, and each change draws the same count of numbers whether it
//! happens or not: switching one off does not change the others.

mod clahe;
mod color;
mod elastic;
mod filter;
mod map;
mod stain;
mod warp;

pub use elastic::Elastic;
pub use map::Map;
pub use stain::Look;
pub use warp::warp;

use super::{rng::Rng, sample::Sample};
use crate::config::settings::data::Augment;

/// What is done to one sample, drawn.
#[derive(Debug, Clone)]
pub struct Augmenter<'a> {
    settings: &'a Augment,
    places: Rng,
    colours: Rng,
}

impl<'a> Augmenter<'a> {
    /// The changes of sample `index` of `epoch`.
    pub fn new(settings: &'a Augment, index: usize, epoch: u64, seed: u64) -> Self {
        let stream = |purpose: u64| Rng::new(&[seed, epoch, index as u64, purpose]);
        Self { settings, places: stream(1), colours: stream(2) }
    }

    /// Where each px of a picture of `[h, w]` px comes from, when its middle comes from `(x, y)`.
    pub fn map(&mut self, (w, h): (u32, u32), (x, y): (f64, f64)) -> Map {
        let (s, rng) = (self.settings, &mut self.places);
        let mut map = Map::centred((w, h), (x, y));
        let (across, down) = (rng.chance(s.flip_prob), rng.chance(s.flip_prob));
        let quarters = rng.below(4) as u32;
        map = map.flipped(across, down);
        if s.turns {
            map = map.turned(quarters);
        }
        let affine = rng.chance(s.affine_prob);
        let (angle, shear) = (rng.within(s.rotate_deg), rng.within(s.shear_deg));
        let scale = (1.0 + s.scale).powf(rng.within(1.0));
        if affine {
            map = map.rotated(angle).sheared(shear).scaled(scale);
        }
        let bends = rng.chance(s.elastic.prob);
        let alpha = rng.between(0.0, s.elastic.alpha_px);
        let field = rng.bits();
        if bends && alpha > 0.0 && s.elastic.sigma_px > 0.0 {
            map = map.bent(Elastic::new((w, h), alpha, s.elastic.sigma_px, field));
        }
        map
    }

    /// How far from its middle a picture of `[h, w]` px may reach.
    pub fn reach_px(settings: &Augment, (w, h): (u32, u32)) -> f64 {
        let half = f64::from(w).hypot(f64::from(h)) / 2.0;
        let turns = settings.affine_prob > 0.0 && settings.rotate_deg > 0.0;
        let straight = f64::from(w.max(h)) / 2.0;
        let affine = if settings.affine_prob > 0.0 {
            (1.0 + settings.scale) * (1.0 + settings.shear_deg.to_radians().tan().abs())
        } else {
            1.0
        };
        let bends = if settings.elastic.prob > 0.0 { settings.elastic.alpha_px } else { 0.0 };
        if turns { half * affine + bends } else { straight * affine + bends }
    }

    /// Changes the colours of `sample`; `own` and `other` are the looks its stain may go from and to.
    pub fn colours(mut self, sample: &mut Sample, looks: Option<(&Look, &Look)>) {
        let (s, rng) = (self.settings, &mut self.colours);
        let (w, h) = (sample.image.w as usize, sample.image.h as usize);
        let rgb = sample.image.data.as_mut_slice();
        let share = rng.between(s.stain_transfer.least_share, 1.0);
        if let Some((own, other)) = looks {
            stain::transfer(rgb, own, other, share);
        }
        stain::jitter(rgb, &s.stain_jitter, rng);
        color::jitter(rgb, &s.color, s.grey_prob, rng);
        let mut draw = |prob: f64, most: f64| {
            let (is, amount) = (rng.chance(prob), rng.unit() * most);
            (is && amount > 0.0).then_some(amount)
        };
        let blur = draw(s.blur.prob, s.blur.most);
        let noise = draw(s.noise.prob, s.noise.most);
        let clahe = draw(s.clahe.prob, s.clahe.most - 1.0);
        let gamma = draw(s.gamma.prob, 2.0 * s.gamma.most);
        let sharpen = draw(s.sharpen.prob, s.sharpen.most);
        let grain = rng.bits();
        if let Some(sigma_px) = blur {
            filter::blur(rgb, w, sigma_px);
        }
        if let Some(sigma) = noise {
            filter::noise(rgb, sigma, grain);
        }
        if let Some(above_one) = clahe {
            clahe::equalise(rgb, w, h, 1.0 + above_one);
        }
        if let Some(twice) = gamma {
            color::gamma(rgb, 1.0 + twice - s.gamma.most);
        }
        if let Some(share) = sharpen {
            filter::sharpen(rgb, w, share);
        }
    }

    /// Whether the stain of another picture is taken, and a number to choose it by.
    pub fn transfer(&mut self) -> Option<u64> {
        let is = self.colours.chance(self.settings.stain_transfer.prob);
        let choice = self.colours.bits();
        is.then_some(choice)
    }
}

#[cfg(test)]
mod tests;
