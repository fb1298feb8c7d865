//! Activations: pixels of an image with their channels side by side.
//!
//! Owns: [`View`], [`ViewMut`]. Must not know: what is done with them.
//!
//! Views are windows into a buffer that others may write beside them: a dense block reads the first channels of its
//! buffer and writes the next ones. So they hold pointers, and are bounded like slices.

use std::{marker::PhantomData, ops::Range};

/// Sizes and steps of a view; steps in floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Rows.
    pub h: usize,
    /// Pixels of a row.
    pub w: usize,
    /// Channels of a pixel, side by side.
    pub c: usize,
    /// From a pixel to the next.
    pub pixel_stride: usize,
    /// From a row to the next.
    pub row_stride: usize,
}

impl Layout {
    /// Rows without gaps of pixels that are `pixel_stride` apart.
    pub fn new(h: usize, w: usize, c: usize, pixel_stride: usize) -> Self {
        Self { h, w, c, pixel_stride, row_stride: w * pixel_stride }
    }

    /// Floats from the first to behind the last.
    pub fn span(&self) -> usize {
        if self.h * self.w * self.c == 0 {
            return 0;
        }
        (self.h - 1) * self.row_stride + (self.w - 1) * self.pixel_stride + self.c
    }
}

/// An activation to read: `[h, w, c]`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    first: *const f32,
    layout: Layout,
    borrow: PhantomData<&'a [f32]>,
}

// SAFETY: a view only reads, and what it reads may be read from any thread.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// `data` starts at the first channel of the first pixel.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a [f32], h: usize, w: usize, c: usize, pixel_stride: usize) -> Self {
        let layout = Layout::new(h, w, c, pixel_stride);
        assert!(c <= pixel_stride && layout.span() <= data.len(), "view {layout:?} of {} floats", data.len());
        Self { first: data.as_ptr(), layout, borrow: PhantomData }
    }

    /// Pixels without gaps.
    pub fn dense(data: &'a [f32], h: usize, w: usize, c: usize) -> Self {
        Self::new(data, h, w, c, c)
    }

    /// A view of memory that others may write, though not the floats of this view.
    ///
    /// # Safety
    /// All floats of `layout` from `first` on are initialised, stay allocated for `'a` and are not written meanwhile.
    pub unsafe fn from_raw(first: *const f32, layout: Layout) -> Self {
        Self { first, layout, borrow: PhantomData }
    }

    /// Sizes and steps.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// `(h, w, c)`.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.layout.h, self.layout.w, self.layout.c)
    }

    /// A part of the image; costs nothing.
    ///
    /// # Panics
    /// If it is not inside.
    pub fn crop(self, top: usize, left: usize, h: usize, w: usize) -> Self {
        let l = self.layout;
        assert!(top + h <= l.h && left + w <= l.w, "crop {h}x{w} at {top},{left} of {l:?}");
        let skip = if h * w == 0 { 0 } else { top * l.row_stride + left * l.pixel_stride };
        Self { first: self.first.wrapping_add(skip), layout: Layout { h, w, ..l }, ..self }
    }

    /// Some of the channels; costs nothing.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn channels(self, channels: Range<usize>) -> Self {
        assert!(channels.start <= channels.end && channels.end <= self.layout.c, "channels {channels:?}");
        let layout = Layout { c: channels.len(), ..self.layout };
        Self { first: self.first.wrapping_add(channels.start), layout, ..self }
    }

    /// Every `step`-th pixel of every `step`-th row from `(top, left)` on, `h × w` of them; costs nothing.
    ///
    /// # Panics
    /// If they are not inside.
    pub fn grid(self, (top, left): (usize, usize), step: usize, (h, w): (usize, usize)) -> Self {
        let l = self.layout;
        assert!(h * w > 0 && top + (h - 1) * step < l.h && left + (w - 1) * step < l.w, "{h}x{w} of {l:?}");
        let first = self.first.wrapping_add(top * l.row_stride + left * l.pixel_stride);
        let layout = Layout { h, w, c: l.c, pixel_stride: l.pixel_stride * step, row_stride: l.row_stride * step };
        Self { first, layout, ..self }
    }

    /// One pixel repeated over `h × w`; costs nothing.
    ///
    /// # Panics
    /// If it is not one pixel.
    pub fn spread(self, h: usize, w: usize) -> Self {
        assert_eq!((self.layout.h, self.layout.w), (1, 1), "pixels of a spread view");
        Self { layout: Layout { h, w, pixel_stride: 0, row_stride: 0, ..self.layout }, ..self }
    }

    /// One value.
    ///
    /// # Panics
    /// Outside.
    pub fn at(&self, y: usize, x: usize, c: usize) -> f32 {
        let l = self.layout;
        assert!(y < l.h && x < l.w && c < l.c, "{y},{x},{c} of {l:?}");
        // SAFETY: inside the layout, which the constructor's caller vouched for.
        unsafe { *self.pixel(y, x).add(c) }
    }

    /// The first channel of a pixel; to be read only inside the layout.
    #[inline(always)]
    pub(super) fn pixel(&self, y: usize, x: usize) -> *const f32 {
        self.first.wrapping_add(y * self.layout.row_stride + x * self.layout.pixel_stride)
    }
}

/// An activation to write: `[h, w, c]`, of which some rows may be written through this.
#[derive(Debug)]
pub struct ViewMut<'a> {
    first: *mut f32,
    layout: Layout,
    rows: Range<usize>,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the rows of a view are its own, as those of a `&mut [f32]`.
unsafe impl Send for ViewMut<'_> {}

impl<'a> ViewMut<'a> {
    /// `data` starts at the first channel of the first pixel.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn new(data: &'a mut [f32], h: usize, w: usize, c: usize, pixel_stride: usize) -> Self {
        let layout = Layout::new(h, w, c, pixel_stride);
        assert!(c <= pixel_stride && layout.span() <= data.len(), "view {layout:?} of {} floats", data.len());
        Self { first: data.as_mut_ptr(), layout, rows: 0..h, borrow: PhantomData }
    }

    /// Pixels without gaps.
    pub fn dense(data: &'a mut [f32], h: usize, w: usize, c: usize) -> Self {
        Self::new(data, h, w, c, c)
    }

    /// A view of the given rows in memory that others may use, though not the floats of these rows.
    ///
    /// # Safety
    /// All floats of `rows` are initialised, stay allocated for `'a` and are neither read nor written by others; no two
    /// pixels of `layout` overlap.
    pub unsafe fn from_raw(first: *mut f32, layout: Layout, rows: Range<usize>) -> Self {
        assert!(rows.end <= layout.h, "rows {rows:?} of {layout:?}");
        Self { first, layout, rows, borrow: PhantomData }
    }

    /// Sizes and steps of the whole.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// `(h, w, c)` of the whole.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.layout.h, self.layout.w, self.layout.c)
    }

    /// The rows that may be written.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The rows before `y`, and the others; rows keep their numbers.
    pub fn split_at_row(self, y: usize) -> (Self, Self) {
        let y = y.clamp(self.rows.start, self.rows.end);
        let Self { first, layout, rows, borrow } = self;
        (Self { first, layout, rows: rows.start..y, borrow }, Self { first, layout, rows: y..rows.end, borrow })
    }

    /// Some of the channels.
    ///
    /// # Panics
    /// If it has not so many.
    pub fn channels(&mut self, channels: Range<usize>) -> ViewMut<'_> {
        assert!(channels.start <= channels.end && channels.end <= self.layout.c, "channels {channels:?}");
        let layout = Layout { c: channels.len(), ..self.layout };
        ViewMut { first: self.first.wrapping_add(channels.start), layout, rows: self.rows.clone(), borrow: PhantomData }
    }

    /// Every `step`-th pixel of every `step`-th row from `(top, left)` on, `h × w` of them, of which `rows` may be
    /// written.
    ///
    /// # Panics
    /// If they are not inside, or their rows are not this view's.
    pub fn grid(
        &mut self,
        (top, left): (usize, usize),
        step: usize,
        (h, w): (usize, usize),
        rows: Range<usize>,
    ) -> ViewMut<'_> {
        let l = self.layout;
        assert!(h * w > 0 && top + (h - 1) * step < l.h && left + (w - 1) * step < l.w, "{h}x{w} of {l:?}");
        if !rows.is_empty() {
            self.check_rows(&(top + rows.start * step..top + (rows.end - 1) * step + 1));
        }
        let first = self.first.wrapping_add(top * l.row_stride + left * l.pixel_stride);
        let layout = Layout { h, w, c: l.c, pixel_stride: l.pixel_stride * step, row_stride: l.row_stride * step };
        ViewMut { first, layout, rows, borrow: PhantomData }
    }

    /// What was written.
    pub fn view(&self) -> View<'_> {
        View { first: self.first, layout: self.layout, borrow: PhantomData }
    }

    /// The first channel of a pixel; to be written only inside the layout and [`ViewMut::rows`].
    #[inline(always)]
    pub(super) fn pixel(&mut self, y: usize, x: usize) -> *mut f32 {
        self.first.wrapping_add(y * self.layout.row_stride + x * self.layout.pixel_stride)
    }

    /// Panics unless the size is this and the rows may be written.
    #[track_caller]
    pub(super) fn check(&self, size: (usize, usize, usize), rows: &Range<usize>) {
        assert_eq!(self.size(), size, "size of the output");
        self.check_rows(rows);
    }

    /// Panics unless the rows may be written.
    #[track_caller]
    pub(super) fn check_rows(&self, rows: &Range<usize>) {
        let mine = rows.start >= self.rows.start && rows.end <= self.rows.end;
        assert!(mine || rows.is_empty(), "rows {rows:?} of {:?}", self.rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_sees_its_channels_of_its_pixels() {
        let data: Vec<f32> = (0..2 * 3 * 5).map(|v| v as f32).collect();
        let v = View::new(&data[1..], 2, 3, 4, 5);
        assert_eq!((v.at(0, 0, 0), v.at(1, 2, 3)), (1.0, 29.0));
        let part = v.crop(1, 1, 1, 2).channels(2..4);
        assert_eq!((part.size(), part.at(0, 0, 0)), ((1, 2, 2), 23.0));
        let spread = v.crop(0, 2, 1, 1).spread(7, 9);
        assert_eq!(spread.at(6, 8, 1), 12.0);
    }

    #[test]
    fn rows_are_shared_out_without_overlap() {
        let mut data = vec![0.0; 24];
        let (a, b) = ViewMut::dense(&mut data, 4, 3, 2).split_at_row(3);
        assert_eq!((a.rows(), b.rows()), (0..3, 3..4));
        b.check((4, 3, 2), &(3..4));
    }

    #[test]
    #[should_panic(expected = "rows 2..4 of 0..3")]
    fn the_rows_of_others_are_not_written() {
        let mut data = vec![0.0; 24];
        ViewMut::dense(&mut data, 4, 3, 2).split_at_row(3).0.check_rows(&(2..4));
    }

    #[test]
    #[should_panic(expected = "of 23 floats")]
    fn a_view_does_not_outgrow_its_buffer() {
        View::dense(&[0.0; 23], 4, 3, 2);
    }
}
