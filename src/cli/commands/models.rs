//! `wsi-run models`: which models there are, and what networks cost.

use crate::model::{self, zoo::zoo};
use anyhow::Context;
use std::io::Write;

/// Prints one block per model a pipeline can run, then the table of networks.
pub(super) fn run() -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    for (i, entry) in model::catalogue().iter().enumerate() {
        let gap = if i == 0 { "" } else { "\n" };
        writeln!(out, "{gap}{}\n  gives  {}\n  input  {}\n  {}", entry.name, entry.task, entry.input, entry.summary)?;
    }
    writeln!(out, "\nnetworks, counted (they are defined, but no pipeline runs them yet)\n")?;
    writeln!(
        out,
        "  {:<30} {:<15} {:>6} {:>11} {:>9} {:>9} {:>9}",
        "", "gives", "input", "params M", "paper", "GMACs", "paper"
    )?;
    for entry in zoo() {
        let numbers = entry.numbers().with_context(|| format!("counting `{}`", entry.name))?;
        let told = |n: Option<f64>| n.map_or_else(String::new, |n| format!("{n:.3}"));
        writeln!(
            out,
            "  {:<30} {:<15} {:>3} px {:>11.3} {:>9} {:>9.3} {:>9}",
            entry.name,
            entry.task,
            entry.input_px,
            numbers.parameters as f64 / 1e6,
            told(entry.paper_parameters_m),
            numbers.macs as f64 / 1e9,
            told(entry.paper_gmacs)
        )?;
    }
    writeln!(out, "\n`wsi-run convert` makes their weights from checkpoints of PyTorch and from safetensors")?;
    Ok(crate::error::exit::OK)
}
