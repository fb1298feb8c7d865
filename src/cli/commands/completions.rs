//! `wsi-run completions`: what a shell needs to complete our command line.
//!
//! Owns: the verb. Must not know: anything but the arguments.

use crate::cli::args::{self, CompletionsArgs};
use crate::error::exit;
use std::io::Write;

/// Prints the completions.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "wsi-run", &mut text);
    std::io::stdout().write_all(&text)?;
    Ok(exit::OK)
}
