//! Parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    give_large_buffers_back();
    ExitCode::from(wsi_run::cli::main(std::env::args_os()))
}

/// Buffers of a megabyte and more are taken from the system and given back to it one by one. Left to itself, glibc
/// keeps them in the heaps of the threads that first asked for them: a third more memory on a large slide.
fn give_large_buffers_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number of the allocator; nothing else runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}
