//! Giving freed memory back to the system.
//!
//! Owns: [`give_back`]. Must not know: who freed it.
//!
//! Buffers are made on one thread and freed on another, so glibc's per-thread heaps fill with holes: on a large slide
//! a third of the process would be freed memory nobody can use.

/// Returns the pages of freed memory to the system. Costs a few milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only walks the allocator's own lists, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
