//! A finished piece of a slide's maps: a core and the halo around it.
//!
//! Owns: [`Region`]. Must not know: what the heads mean, files.

use crate::{
    geometry::{Rect, Target},
    model::Head,
};

/// One head's values over a region, or over listed pixels of it, in fixed point.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// What it means; `head.scale()` fixed-point units are 1.0.
    pub head: Head,
    /// Number of channels.
    pub channels: u32,
    /// `[channels, rect.h, rect.w]`, 0 where `computed` is 0; or `[pixels.len(), channels]`.
    pub data: Vec<i16>,
    /// The pixels that `data` is of, `y · rect.w + x`, ascending; `None`: all.
    pub pixels: Option<Vec<u32>>,
}

/// Stitched maps over `rect`; whoever extracts instances keeps those that belong to `core`.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// The part this region answers for. The cores of a slide's regions do not overlap.
    pub core: Rect<Target>,
    /// `core` plus halo, cut at the slide's edge. All arrays cover it.
    pub rect: Rect<Target>,
    /// `[rect.h, rect.w]`, 1 where the maps were computed, 0 outside tissue and where a tile failed.
    pub computed: Vec<u8>,
    /// One plane per head of the model.
    pub planes: Vec<Plane>,
    /// `[rect.h, rect.w, 3]` pixels as the model saw them; empty when nobody asked for them. 255 where not computed.
    pub rgb: Vec<u8>,
}

impl Region {
    /// The plane of `head`, if the model has it.
    pub fn plane(&self, head: Head) -> Option<&Plane> {
        self.planes.iter().find(|p| p.head == head)
    }

    /// `[core.h, core.w]` of [`Region::computed`].
    pub fn core_computed(&self) -> Vec<u8> {
        let (w, left, top) =
            (self.rect.w as usize, (self.core.x - self.rect.x) as usize, (self.core.y - self.rect.y) as usize);
        let rows = self.computed.chunks_exact(w).skip(top).take(self.core.h as usize);
        rows.map(|row| &row[left..left + self.core.w as usize]).collect::<Vec<_>>().concat()
    }
}
