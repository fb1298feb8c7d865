//! `wsi-run models`: which models there are.

use crate::model;
use std::io::Write;

/// Prints one block per model.
pub(super) fn run() -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    for (i, entry) in model::catalogue().iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        writeln!(out, "{gap}{}\n  gives  {}\n  input  {}\n  {}", entry.name, entry.task, entry.input, entry.summary)?;
    }
    Ok(crate::error::exit::OK)
}
