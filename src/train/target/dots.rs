//! What is asked of nuclei of which only the place and the class are known.
//!
//! Owns: [`DotRules`], [`DotShape`], [`NearDots`]. Must not know: heads.

use super::plan::Lattice;
use crate::train::{
    TrainError,
    class_tree::{BACKGROUND, NodeIndex, UNKNOWN},
    sample::Sample,
};

/// How dots become targets, in µm on the slide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DotRules {
    /// Probability of a nucleus around a dot.
    pub shape: DotShape,
    /// Px whose probability is above none and that lie this far from a dot or nearer count; those between the shape's
    /// end and this do not. `None`: every px counts.
    pub ignore_to_um: Option<f64>,
    /// Px this near to a dot have its class.
    pub class_radius_um: f64,
    /// Px farther than this from every dot are background; `None`: nothing is known of them.
    pub background_from_um: Option<f64>,
}

/// Probability of a nucleus around a dot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DotShape {
    /// `exp(−d² / 2σ²)`; of several dots the largest.
    Gaussian {
        /// σ.
        sigma_um: f64,
    },
    /// 1 up to this radius.
    Disc {
        /// The radius.
        radius_um: f64,
    },
}

impl Default for DotRules {
    fn default() -> Self {
        Self {
            shape: DotShape::Gaussian { sigma_um: 1.5 },
            ignore_to_um: None,
            class_radius_um: 3.0,
            background_from_um: None,
        }
    }
}

/// The dot nearest to each px of an output.
#[derive(Debug)]
pub(super) struct NearDots {
    rules: DotRules,
    /// Per px: distance to the nearest dot in µm (infinite when it is far), and its class.
    near: Vec<(f32, NodeIndex)>,
    /// Per px: whether anything is known of it.
    known: Vec<bool>,
}

impl DotRules {
    /// Distances beyond this do not matter.
    fn reach_um(&self) -> f64 {
        let shape = match self.shape {
            // exp(−12.5) is 4e-6.
            DotShape::Gaussian { sigma_um } => 5.0 * sigma_um,
            DotShape::Disc { radius_um } => radius_um,
        };
        let others = [self.ignore_to_um.unwrap_or(0.0), self.background_from_um.unwrap_or(0.0), self.class_radius_um];
        others.into_iter().fold(shape, f64::max)
    }

    /// Finds the nearest dot of each px; `None` for a sample without dots, or one whose nuclei are known.
    ///
    /// A px of the output stands for a square of px of the sample; its place is the middle of that square.
    pub(super) fn near(&self, sample: &Sample, lattice: &Lattice) -> Result<Option<NearDots>, TrainError> {
        let Some(dots) = sample.truth.dots.as_ref().filter(|_| sample.truth.instances.is_none()) else {
            return Ok(None);
        };
        let mpp = sample.mpp.ok_or_else(|| {
            TrainError::new("dots need a resolution: found none, expected µm per px").hint("state the data set's `mpp`")
        })?;
        let mut near = vec![(f32::INFINITY, UNKNOWN); lattice.len()];
        let reach_px = self.reach_um() / mpp;
        let step = lattice.step as f64;
        for dot in dots {
            let (x, y) = (f64::from(dot.x) - lattice.x as f64, f64::from(dot.y) - lattice.y as f64);
            let range = |at: f64, count: usize| {
                let first = ((at - reach_px) / step - 0.5).ceil().clamp(0.0, count as f64) as usize;
                let end = (((at + reach_px) / step - 0.5).floor() + 1.0).clamp(0.0, count as f64) as usize;
                first..end.max(first)
            };
            for j in range(y, lattice.h) {
                let dy = (j as f64 + 0.5) * step - y;
                for i in range(x, lattice.w) {
                    let dx = (i as f64 + 0.5) * step - x;
                    let d = ((dx * dx + dy * dy).sqrt() * mpp) as f32;
                    let slot = &mut near[j * lattice.w + i];
                    if d < slot.0 {
                        *slot = (d, dot.node);
                    }
                }
            }
        }
        let known = match &sample.truth.semantic {
            Some(map) => lattice.indices().map(|at| map[at] != UNKNOWN).collect(),
            None => vec![true; lattice.len()],
        };
        Ok(Some(NearDots { rules: *self, near, known }))
    }
}

impl NearDots {
    /// `[h, w]` probability of a nucleus.
    pub fn prob(&self) -> Vec<f32> {
        self.near
            .iter()
            .map(|&(d, _)| match self.rules.shape {
                DotShape::Gaussian { sigma_um } => (-d * d / (2.0 * (sigma_um * sigma_um) as f32)).exp(),
                DotShape::Disc { radius_um } => f32::from(u8::from(d <= radius_um as f32)),
            })
            .collect()
    }

    /// `[h, w]` 0 where the probability is left open.
    pub fn prob_weight(&self) -> Vec<f32> {
        let ignore_to_um = self.rules.ignore_to_um.unwrap_or(0.0);
        let shape_um = match self.rules.shape {
            DotShape::Gaussian { sigma_um } => sigma_um,
            DotShape::Disc { radius_um } => radius_um,
        };
        let is_open = |d: f32| d > shape_um as f32 && d <= ignore_to_um as f32;
        let px = self.near.iter().zip(&self.known);
        px.map(|(&(d, _), &known)| f32::from(u8::from(known && !is_open(d)))).collect()
    }

    /// `[h, w]` class: that of the dot, background far from every dot, unknown between.
    pub fn nodes(&self) -> Vec<NodeIndex> {
        let class = self.rules.class_radius_um as f32;
        let far = self.rules.background_from_um.map_or(f32::INFINITY, |um| um as f32);
        let is_background = |d: f32| self.rules.background_from_um.is_some() && d > far;
        self.near
            .iter()
            .zip(&self.known)
            .map(|(&(d, node), &known)| {
                if !known {
                    UNKNOWN
                } else if d <= class {
                    node
                } else if is_background(d) {
                    BACKGROUND
                } else {
                    UNKNOWN
                }
            })
            .collect()
    }
}
