//! Which GPUs there are.
//!
//! Owns: [`count`], [`Unavailable`]. Must not know: networks.

/// Why no GPU can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CUDA is not available: {0}")]
pub struct Unavailable(pub String);

/// How many GPUs there are, at least one.
///
/// # Errors
/// [`Unavailable`]: built without the `cuda` feature, no driver, a driver that fails, or no GPU.
#[cfg(not(feature = "cuda"))]
pub fn count() -> Result<usize, Unavailable> {
    Err(Unavailable("this program was built without the `cuda` feature".to_owned()))
}

/// How many GPUs there are, at least one.
///
/// # Errors
/// [`Unavailable`]: no driver, a driver that fails, or no GPU.
#[cfg(feature = "cuda")]
pub fn count() -> Result<usize, Unavailable> {
    use cudarc::driver::{result, sys};
    // SAFETY: looks for the library and forgets it.
    if !unsafe { sys::is_culib_present() } {
        return Err(Unavailable("the driver's library `libcuda.so` is not on this machine".to_owned()));
    }
    let failed = |e: result::DriverError| Unavailable(format!("the driver says: {}", super::driver::text(e)));
    result::init().map_err(failed)?;
    match result::device::get_count().map_err(failed)? {
        0 => Err(Unavailable("the driver finds no GPU".to_owned())),
        n => Ok(n as usize),
    }
}
