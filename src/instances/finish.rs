//! From a nucleus' pixels to an instance: whose it is, its class, its outline, its features.
//!
//! Owns: [`Finisher`], [`Vote`]. Must not know: how nuclei are found.

use super::{
    contour::rings,
    instance::{Instance, Run},
    mask_grid::MaskGrid,
    measure::{RgbWindow, measure},
    own::{Sums, touches_unknown},
};
use crate::{
    model::{Head, ModelSpec},
    stitch::{Plane, Region},
};

/// What decides a nucleus' class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vote {
    /// The largest mean probability over its pixels, background left out.
    Mean,
    /// The class most of its pixels have as their most probable, background left out unless it is all there is; then
    /// as [`Vote::Mean`].
    Pixels,
}

/// What finishing an instance needs to see.
pub(super) struct Finisher<'a> {
    region: &'a Region,
    masks: MaskGrid,
    /// Smallest and largest area.
    area_px: [f64; 2],
    all_computed: bool,
    nuclear: &'a Plane,
    types: Option<&'a Plane>,
    vote: Vote,
}

impl<'a> Finisher<'a> {
    /// Finishes the nuclei of `region`, drawn on `masks`, of an area in `area_um2`; `None` when it has no
    /// nuclear-pixel plane.
    pub(super) fn new(
        region: &'a Region,
        masks: MaskGrid,
        spec: &ModelSpec,
        area_um2: [f64; 2],
        vote: Vote,
    ) -> Option<Self> {
        Some(Self {
            region,
            masks,
            area_px: area_um2.map(|um2| um2 / masks.grid.px_area_um2()),
            all_computed: !region.computed.contains(&0),
            nuclear: region.plane(Head::NuclearPixel)?,
            types: region.plane(Head::TypeProbability).filter(|p| p.channels as usize == spec.classes.len() + 1),
            vote,
        })
    }

    /// The nuclear-pixel plane.
    pub(super) fn nuclear(&self) -> &'a Plane {
        self.nuclear
    }

    /// The instance of `runs`; `None` when it is too small or large, or another region's.
    pub(super) fn finish_instance(&self, runs: &[Run]) -> Option<Instance> {
        let mut sums = Sums::default();
        runs.iter().for_each(|&run| sums.add(run));
        let area_px = sums.area_px as f64;
        if !sums.centroid_is_in(self.region.core.enlarge(self.masks.factor))
            || area_px < self.area_px[0]
            || area_px > self.area_px[1]
        {
            return None;
        }
        let class_probs: Vec<f32> = match self.types {
            Some(plane) => (1..plane.channels).map(|c| self.mean(plane, c, runs, sums.area_px)).collect(),
            None => vec![self.mean(self.nuclear, 0, runs, sums.area_px)],
        };
        let best = match (self.vote, self.types) {
            (Vote::Pixels, Some(plane)) => self.most_voted(plane, runs).unwrap_or_else(|| largest(&class_probs)),
            _ => largest(&class_probs),
        };
        Some(Instance {
            class: best as u8 + 1,
            class_probs,
            runs: runs.to_vec(),
            centroid: sums.centroid(),
            rings: rings(runs),
            truncated: touches_unknown(runs, self.region, &self.masks, self.all_computed),
            features: measure(runs, self.masks.grid.input_mpp, self.rgb()),
        })
    }

    /// The pixels to measure colours on, if the region has them.
    fn rgb(&self) -> Option<RgbWindow<'_>> {
        let (rgb, rect, factor) = (&self.region.rgb[..], self.region.rect, self.masks.factor);
        (!rgb.is_empty()).then_some(RgbWindow { rgb, rect, factor })
    }

    /// Mean of a channel over the pixels of `runs`; the sum is of integers, so the order does not matter.
    fn mean(&self, plane: &Plane, channel: u32, runs: &[Run], area_px: u64) -> f32 {
        let size = self.region.rect.area() as usize;
        let data = &plane.data[channel as usize * size..][..size];
        let sum: i64 = runs
            .iter()
            .map(|run| {
                let mut under = self.masks.under(self.region, run.y, run.x0, run.x1);
                match (self.masks.factor, under.next()) {
                    (1, Some(first)) => {
                        data[first..first + (run.x1 - run.x0) as usize].iter().map(|&v| i64::from(v)).sum::<i64>()
                    }
                    (_, first) => first.into_iter().chain(under).map(|at| i64::from(data[at])).sum(),
                }
            })
            .sum();
        (sum as f64 / area_px as f64 / f64::from(plane.head.scale())) as f32
    }

    /// The class most pixels of `runs` have as their most probable; of equals the first. `None` when the background is
    /// most probable for all of them.
    fn most_voted(&self, plane: &Plane, runs: &[Run]) -> Option<usize> {
        let size = self.region.rect.area() as usize;
        let mut votes = vec![0u32; plane.channels as usize];
        for run in runs {
            for at in self.masks.under(self.region, run.y, run.x0, run.x1) {
                let (mut best, mut channel) = (plane.data[at], 0);
                for (c, values) in plane.data.chunks_exact(size).enumerate().skip(1) {
                    if values[at] > best {
                        (best, channel) = (values[at], c);
                    }
                }
                votes[channel] += 1;
            }
        }
        let first = (1..votes.len()).rev().max_by_key(|&c| votes[c])?;
        (votes[first] > 0).then(|| first - 1)
    }
}

/// Index of the largest; of equals the first.
fn largest(class_probs: &[f32]) -> usize {
    let mut best = 0;
    for (i, p) in class_probs.iter().enumerate() {
        if *p > class_probs[best] {
            best = i;
        }
    }
    best
}
