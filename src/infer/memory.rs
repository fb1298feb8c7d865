//! Arenas and working memory, kept between batches.
//!
//! Owns: [`Memory`]. Must not know: what is in it.

use super::{cpu::Aligned, lock};
use std::sync::Mutex;

/// Memory for a plan.
#[derive(Debug)]
pub(super) struct Memory {
    arena_floats: usize,
    scratch_floats: usize,
    arenas: Mutex<Vec<Aligned>>,
    scratches: Mutex<Vec<Aligned>>,
}

impl Memory {
    /// None yet.
    pub(super) fn new(arena_floats: usize, scratch_floats: usize) -> Self {
        Self { arena_floats, scratch_floats, arenas: Mutex::default(), scratches: Mutex::default() }
    }

    /// An arena that nobody uses, for as long as `f` runs.
    pub(super) fn with_arena<T>(&self, f: impl FnOnce(&mut Aligned) -> T) -> T {
        with(&self.arenas, self.arena_floats, f)
    }

    /// Working memory that nobody uses, for as long as `f` runs.
    pub(super) fn with_scratch<T>(&self, f: impl FnOnce(&mut Aligned) -> T) -> T {
        with(&self.scratches, self.scratch_floats, f)
    }
}

fn with<T>(kept: &Mutex<Vec<Aligned>>, floats: usize, f: impl FnOnce(&mut Aligned) -> T) -> T {
    let mut memory = lock(kept).pop().unwrap_or_else(|| Aligned::zeros(floats));
    let result = f(&mut memory);
    lock(kept).push(memory);
    result
}
