//! Keeping the process as small as what it uses.
//!
//! Owns: [`keep_small`], [`give_back`]. Must not know: who freed it.
//!
//! Buffers are made on one thread and freed on another, so glibc's per-thread heaps fill with holes: on a large slide
//! a third of the process would be freed memory nobody can use.

/// Heaps that threads share out among them: with one for each thread, each has holes of its own. On four cores two
/// cost no time that could be measured.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 2;
/// Buffers from this size on are given back as soon as they are freed. glibc would raise the bound to the largest freed
/// so far, up to 32 MB; a bound of 2 MB costs a sixth more time in page faults.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: libc::c_int = 16 << 20;
/// Of smaller ones, so much may stay at the end of a heap. With the 128 kB that glibc sets, a heap shrinks and grows all the
/// time: on a slide of 8,000 px that is 190,000 page faults instead of 110,000, 2 % of the run.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SPARE_BYTES: libc::c_int = 16 << 20;

/// Sets the allocator up; to be called before the threads of a run are started.
///
/// A slide of 100,000 × 80,000 px peaked at 485–499 MB without and 403 MB with it, one of 20,000 × 15,000 px at 393–411
/// and 383 MB.
pub fn keep_small() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets three numbers of the allocator, under its lock.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE_BYTES);
    }
}

/// Returns the pages of freed memory to the system. Costs a few milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only walks the allocator's own lists, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
