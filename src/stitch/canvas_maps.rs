//! Which maps meet on a canvas, and how each is kept.
//!
//! Owns: [`CanvasMaps`]. Must not know: tiles, blocks.

use crate::model::Head;

/// What a canvas is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanvasMaps {
    /// `(head, channels)` of the stitched heads, in the order tiles bring them.
    pub heads: Vec<(Head, u32)>,
    /// Whether star distances come listed. Only where each pixel is from one tile.
    pub lists_rays: bool,
    /// Whether pixels are kept.
    pub keeps_rgb: bool,
}

impl CanvasMaps {
    pub(super) fn is_listed(&self, head: Head) -> bool {
        self.lists_rays && head == Head::StarDistance
    }

    /// Channels that are not listed.
    pub(super) fn dense(&self) -> usize {
        self.heads.iter().filter(|(head, _)| !self.is_listed(*head)).map(|h| h.1 as usize).sum()
    }

    /// Channels of the listed head; 0 without.
    pub(super) fn listed(&self) -> usize {
        self.heads.iter().filter(|(head, _)| self.is_listed(*head)).map(|h| h.1 as usize).sum()
    }
}
