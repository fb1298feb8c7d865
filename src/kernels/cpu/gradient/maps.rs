//! The maps of a batch, read by gradients.
//!
//! Owns: [`Maps`], [`with_scratch`]. Must not know: operations.

use crate::kernels::cpu::{Aligned, View};
use std::cell::RefCell;

/// Images of one size, `[n, h, w, c]`, of which some channels may be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Maps<'a> {
    data: &'a [f32],
    /// Images.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels looked at.
    pub c: usize,
    pixel: usize,
    first: usize,
}

impl<'a> Maps<'a> {
    /// All channels.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a [f32], [n, h, w, c]: [usize; 4]) -> Self {
        assert_eq!(data.len(), n * h * w * c, "floats of {n} maps {h} × {w} × {c}");
        Self { data, n, h, w, c, pixel: c, first: 0 }
    }

    /// `count` channels from `first` on.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn channels(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.c, "channels {first} to {} of {}", first + count, self.c);
        Self { first: self.first + first, c: count, ..self }
    }

    /// Floats from a pixel to the next.
    pub fn pixel_stride(&self) -> usize {
        self.pixel
    }

    /// The first channel looked at of a pixel.
    pub(super) fn pixel(&self, image: usize, y: usize, x: usize) -> *const f32 {
        let at = ((image * self.h + y) * self.w + x) * self.pixel + self.first;
        self.data.as_ptr().wrapping_add(at)
    }

    /// The floats of some rows.
    ///
    /// # Panics
    /// If only some of the channels are looked at.
    pub fn rows(&self, image: usize, rows: std::ops::Range<usize>) -> &'a [f32] {
        assert_eq!(self.c, self.pixel, "rows of some channels");
        let row = self.w * self.c;
        &self.data[(image * self.h + rows.start) * row..(image * self.h + rows.end) * row]
    }

    /// One image.
    pub fn view(&self, image: usize) -> View<'a> {
        let floats = self.h * self.w * self.pixel;
        View::new(&self.data[image * floats + self.first..], self.h, self.w, self.c, self.pixel)
    }
}

thread_local! {
    static SCRATCH: RefCell<Aligned> = RefCell::new(Aligned::default());
}

/// Lends this thread's working memory of at least `floats` floats, whose values are anyone's.
pub fn with_scratch<R>(floats: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with(|scratch| {
        // A kernel that is given working memory asks for none: nobody borrows twice.
        let mut scratch = scratch.borrow_mut();
        if scratch.len() < floats {
            *scratch = Aligned::zeros(floats.next_multiple_of(1 << 14));
        }
        f(&mut scratch[..floats])
    })
}
