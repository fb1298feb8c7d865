//! The version that PTX asks a driver for.
//!
//! Owns: [`for_older_drivers`]. Must not know: who compiled it. Used by the build (`kernels/build.rs`), too.

/// What the kernels need, and drivers since CUDA 11.8 (520) have.
const VERSION: &str = "7.8";

/// PTX of a new compiler as PTX that older drivers take: the kernels use nothing newer, whatever the compiler says.
pub(super) fn for_older_drivers(ptx: &str) -> String {
    // Hints to newer compilers, of which older versions know nothing, and comments.
    let is_hint = |line: &&str| line.contains(".pragma \"used_bytes_mask") || line.trim_start().starts_with("//");
    let line = |line: &str| if line.starts_with(".version ") { format!(".version {VERSION}") } else { line.to_owned() };
    ptx.lines().filter(|l| !is_hint(l)).map(|l| line(l) + "\n").collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_only_newer_drivers_know_is_left_out() {
        let new = "// Cuda compilation tools, release 13.0\n.version 9.0\n.target sm_80\n\t.pragma \"used_bytes_mask 15\";\n\tret;\n";
        assert_eq!(super::for_older_drivers(new), ".version 7.8\n.target sm_80\n\tret;\n");
    }
}
