//! Floats that start on a cache line.
//!
//! Owns: [`Aligned`]. Must not know: what is in them.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

/// A cache line.
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Bytes of a huge page.
const HUGE_BYTES: usize = 2 << 20;
/// From this size on huge pages are asked for: an arena of small ones needs more of them than the processor keeps
/// addresses of.
const LARGE_BYTES: usize = 4 * HUGE_BYTES;

/// A fixed number of floats, the first on a 64-byte boundary.
#[derive(Debug)]
pub struct Aligned {
    first: NonNull<f32>,
    len: usize,
    /// Floats there is room for: what the memory was asked for with.
    room: usize,
}

// SAFETY: the floats are owned; shared access only reads.
unsafe impl Send for Aligned {}
// SAFETY: as above.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let layout = Self::layout(len);
        if layout.size() == 0 {
            return Self { first: NonNull::<Line>::dangling().cast(), len, room: len };
        }
        // SAFETY: the layout is not empty; all bytes are written before anyone reads them.
        unsafe {
            let Some(first) = NonNull::new(alloc(layout).cast::<f32>()) else { handle_alloc_error(layout) };
            huge_pages(first.as_ptr().cast(), layout.size());
            first.cast::<u8>().write_bytes(0, layout.size());
            Self { first, len, room: len }
        }
    }

    fn layout(len: usize) -> Layout {
        let bytes = len.div_ceil(16) * size_of::<Line>();
        let align = if bytes < LARGE_BYTES { align_of::<Line>() } else { HUGE_BYTES };
        Layout::from_size_align(bytes, align).expect("no memory is as large as the address space")
    }

    /// The same memory for `len` floats whose values are anyone's, or new memory where it is too small.
    pub fn fitted(mut self, len: usize) -> Self {
        if self.room < len {
            // What is too small goes before the new comes.
            drop(self);
            return Self::zeros(len);
        }
        self.len = len;
        self
    }

    /// Where it starts; good for as long as it is neither dropped nor borrowed otherwise.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.first.as_ptr()
    }
}

/// Asks for huge pages, where there are any; refused, nothing changes but the speed.
///
/// # Safety
/// The memory is allocated and the caller's own.
#[cfg(target_os = "linux")]
unsafe fn huge_pages(first: *mut u8, bytes: usize) {
    if bytes >= LARGE_BYTES {
        // SAFETY: the caller's promise; the advice does not change what is in memory.
        unsafe { libc::madvise(first.cast(), bytes, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
unsafe fn huge_pages(_: *mut u8, _: usize) {}

impl Default for Aligned {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut other = Self::zeros(self.len);
        other.copy_from_slice(self);
        other
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        let layout = Self::layout(self.room);
        if layout.size() > 0 {
            // SAFETY: allocated with this layout, and never again used.
            unsafe { dealloc(self.first.as_ptr().cast(), layout) }
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` floats, initialised; dangling only if there are none.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_on_a_cache_line_and_holds_what_was_asked_for() {
        for len in [0, 1, 16, 17, 1000, LARGE_BYTES / 4 + 5] {
            let mut a = Aligned::zeros(len);
            assert_eq!((a.len(), a.as_ptr() as usize % 64), (len, 0));
            assert!(a.iter().all(|v| *v == 0.0));
            a.fill(1.0);
            assert_eq!(a.clone().iter().map(|v| f64::from(*v)).sum::<f64>(), len as f64);
        }
    }

    #[test]
    fn memory_is_used_again_where_it_is_large_enough() {
        let a = Aligned::zeros(100);
        let first = a.as_ptr();
        let a = a.fitted(20).fitted(100);
        assert_eq!((a.as_ptr(), a.len()), (first, 100));
        assert_eq!(a.fitted(1000).len(), 1000);
    }
}
