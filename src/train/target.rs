//! What a network is asked to say about a sample.
//!
//! Owns: [`Target`], [`TargetValues`]. Must not know: files, losses' formulas, batches.

mod dots;
mod edge;
mod horizontal_vertical;
mod label;
mod nuclear_pixel;
mod plan;
mod semantic;
mod star;
mod types;

pub use dots::{DotRules, DotShape};
pub use plan::{OutputPlan, TargetPlan};
pub use star::{edt_prob, star_dist};

use crate::model::Head;

/// What one head is asked to say of one sample, at the resolution of the head's output.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Name of the network's output (`np`, `hv`, `tp`, `prob`, `dist`, `mask`, `edge`, …).
    pub output: String,
    /// What it means.
    pub head: Head,
    /// Width in px of the output.
    pub w: u32,
    /// Height.
    pub h: u32,
    /// What is asked for.
    pub values: TargetValues,
    /// `[h, w]` how much each px counts; 0 where nothing is known.
    pub weight: Vec<f32>,
}

/// What a [`Target`] asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetValues {
    /// `[channels, h, w]` numbers: probabilities of a yes/no head, HV distances, ray lengths in px of the input.
    Numbers {
        /// Channels of the output.
        channels: u32,
        /// The numbers.
        data: Vec<f32>,
    },
    /// `[h, w]` classes: which of the output's channels may be meant, as a bit mask (bit `c` = channel `c`). A label at a
    /// leaf has one bit; a coarser label one for each of its leaves. 0 = unknown (its weight is 0).
    Channels {
        /// Channels of the output.
        channels: u32,
        /// The masks.
        data: Vec<u32>,
    },
}
