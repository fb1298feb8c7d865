//! Floats that start on a cache line.
//!
//! Owns: [`Aligned`]. Must not know: what is in them.

use std::ops::{Deref, DerefMut};

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A fixed number of floats, the first on a 64-byte boundary.
#[derive(Debug, Clone, Default)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }

    /// The same memory for `len` floats whose values are anyone's, or new memory where it is too small.
    pub fn fitted(mut self, len: usize) -> Self {
        if self.lines.len() * 16 < len {
            // What is too small goes before the new comes.
            drop(self);
            return Self::zeros(len);
        }
        self.len = len;
        self
    }

    /// Where it starts; good for as long as it is neither dropped nor borrowed otherwise.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` initialised floats without gaps (`Line` is `repr(C)`, 64 of 64 bytes).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_on_a_cache_line_and_holds_what_was_asked_for() {
        for len in [0, 1, 16, 17, 1000] {
            let mut a = Aligned::zeros(len);
            assert_eq!((a.len(), a.as_ptr() as usize % 64), (len, 0));
            a.fill(1.0);
            assert_eq!(a.iter().sum::<f32>(), len as f32);
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
