//! The kernels' code for a GPU.
//!
//! Owns: what the build embedded, and how the rest is made. Must not know: launches.

use super::{launch::Format, ptx};
use cudarc::nvrtc;

/// Compiled kernels of a format.
pub(super) struct Embedded {
    format: &'static str,
    /// For the driver to compile.
    ptx: &'static str,
    /// For compute capability 9.0.
    cubin_90: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// All kernels' text.
const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/all.cu"));

/// Oldest compute capability the kernels run on: that of bfloat16 and asynchronous copies.
pub(super) const OLDEST: (i32, i32) = (8, 0);

/// Images a driver may load, the best first; text ends with 0.
pub(super) fn images(format: Format, capability: (i32, i32)) -> Result<Vec<Vec<u8>>, String> {
    let embedded = EMBEDDED.iter().find(|e| e.format == format.name());
    if let Some(embedded) = embedded {
        let ptx = embedded.ptx.bytes().chain([0]).collect();
        // An older driver may not take the machine code of a newer toolkit.
        return Ok(if capability == (9, 0) { vec![embedded.cubin_90.to_vec(), ptx] } else { vec![ptx] });
    }
    compiled(format).map(|ptx| vec![ptx])
}

/// PTX made here.
fn compiled(format: Format) -> Result<Vec<u8>, String> {
    let mut options = vec!["--std=c++17".to_owned()];
    options.extend((format == Format::Bf16).then(|| "-DWSI_BF16=1".to_owned()));
    let options = nvrtc::CompileOptions { arch: Some("compute_80"), options, ..Default::default() };
    // Its library is looked for in there, and a panic says that there is none.
    let made = std::panic::catch_unwind(|| nvrtc::compile_ptx_with_opts(TEXT, options));
    match made {
        Ok(Ok(made)) => Ok(ptx::for_older_drivers(&made.to_src()).bytes().chain([0]).collect()),
        Ok(Err(e)) => Err(format!("NVRTC refuses the kernels: {e:?}")),
        Err(_) => {
            Err("this program was built without a CUDA toolkit, and `libnvrtc.so` is not on this machine".to_owned())
        }
    }
}
