//! Slots of a plan as kernels see them.
//!
//! Owns: [`Map`]. Must not know: kernels.

use super::{argument::Place, launch::Region};
use crate::infer::plan::Slot;

/// A map of every image: where the first number is, and the steps, in numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub place: Place,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub image: usize,
    pub row: usize,
    pub pixel: usize,
}

impl Map {
    /// A slot, for images from `first` on of arenas `arena` numbers long.
    pub(super) fn of(slot: &Slot, arena: usize, first: usize) -> Self {
        let l = slot.layout;
        let place = Place { region: Region::Arena, offset: 2 * (first * arena + slot.offset) as u64 };
        Self { place, h: l.h, w: l.w, c: l.c, image: arena, row: l.row_stride, pixel: l.pixel_stride }
    }

    /// How many channels may be moved at once: every pixel starts at a multiple of it.
    pub(super) fn granule(&self) -> usize {
        let fits = |n: usize| {
            (self.place.offset / 2).is_multiple_of(n as u64)
                && [self.image, self.row, self.pixel].iter().all(|step| step.is_multiple_of(n))
        };
        [8, 4].into_iter().find(|n| fits(*n)).unwrap_or(1)
    }

    /// Every `step`th pixel of every `step`th row from `(top, left)` on, `h × w` of them.
    pub(super) fn grid(self, (top, left): (usize, usize), step: usize, (h, w): (usize, usize)) -> Self {
        let offset = self.place.offset + 2 * (top * self.row + left * self.pixel) as u64;
        let place = Place { offset, ..self.place };
        Self { place, h, w, row: self.row * step, pixel: self.pixel * step, ..self }
    }

    /// Channels from `first` on.
    pub(super) fn channels(self, first: usize, c: usize) -> Self {
        let place = Place { offset: self.place.offset + 2 * first as u64, ..self.place };
        Self { place, c, ..self }
    }

    /// One pixel for all.
    pub(super) fn spread(self) -> Self {
        Self { row: 0, pixel: 0, ..self }
    }

    pub(super) fn pixels(&self) -> usize {
        self.h * self.w
    }
}

/// Eight where all of these may be moved eight at a time, else one.
pub(super) fn width(maps: &[&Map], c: usize) -> usize {
    if c.is_multiple_of(8) && maps.iter().all(|map| map.granule() == 8) { 8 } else { 1 }
}
