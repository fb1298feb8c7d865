//! `wsi-run models`: which models there are, and what networks cost.

use crate::{
    cli::args::ModelsArgs,
    model::{self, slide_use, zoo::zoo},
};
use anyhow::Context;
use std::io::Write;

/// A network as the tables show it.
struct Line {
    name: &'static str,
    gives: &'static str,
    tile: String,
    parameters: [String; 2],
    gmacs: [String; 2],
}

fn lines() -> anyhow::Result<Vec<Line>> {
    let counted = |entry: model::zoo::ZooEntry| {
        let numbers = entry.numbers().with_context(|| format!("counting `{}`", entry.name))?;
        let told = |n: Option<f64>| n.map_or_else(|| "–".to_owned(), |n| format!("{n:.3}"));
        let stride = slide_use(entry.name).map_or(1, |used| used.out_stride);
        let output = numbers.heads.first().map_or(0, |(_, shape)| shape.w);
        let gives = match output {
            1 => "a class per tile".to_owned(),
            px if px == entry.input_px => format!("{px} px"),
            px if stride > 1 => format!("{px} px of {stride} × {stride}"),
            px => format!("{px} px"),
        };
        Ok(Line {
            name: entry.name,
            gives: entry.task,
            tile: format!("{} px → {gives}", entry.input_px),
            parameters: [format!("{:.3}", numbers.parameters as f64 / 1e6), told(entry.paper_parameters_m)],
            gmacs: [format!("{:.3}", numbers.macs as f64 / 1e9), told(entry.paper_gmacs)],
        })
    };
    zoo().into_iter().map(counted).collect()
}

/// Prints one block per model without weights, then the table of networks.
pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<u8> {
    let mut out = std::io::stdout().lock();
    if args.markdown {
        out.write_all(markdown()?.as_bytes())?;
        return Ok(crate::error::exit::OK);
    }
    for entry in model::catalogue() {
        writeln!(out, "{}\n  gives  {}\n  input  {}\n  {}\n", entry.name, entry.task, entry.input, entry.summary)?;
    }
    writeln!(
        out,
        "networks, with weights: `model: {{ network: {{ weights: … }} }}`; counted, and as their papers print\n"
    )?;
    let head = ["", "gives", "tile", "M params", "paper", "GMACs", "paper"];
    let [name, gives, tile, params, paper, gmacs, paper_gmacs] = head;
    writeln!(out, "  {name:<30} {gives:<15} {tile:<26} {params:>9} {paper:>9} {gmacs:>9} {paper_gmacs:>9}")?;
    for Line { name, gives, tile, parameters: [params, paper], gmacs: [gmacs, paper_gmacs] } in lines()? {
        writeln!(out, "  {name:<30} {gives:<15} {tile:<26} {params:>9} {paper:>9} {gmacs:>9} {paper_gmacs:>9}")?;
    }
    writeln!(out, "\n`wsi-run convert` makes their weights from checkpoints of PyTorch and from safetensors")?;
    Ok(crate::error::exit::OK)
}

/// The table of networks as the README has it.
fn markdown() -> anyhow::Result<String> {
    let mut text =
        "| network | gives | tile | M parameters | paper | GMACs | paper |\n|---|---|---|---|---|---|---|\n".to_owned();
    for Line { name, gives, tile, parameters: [params, paper], gmacs: [gmacs, paper_gmacs] } in lines()? {
        text += &format!("| `{name}` | {gives} | {tile} | {params} | {paper} | {gmacs} | {paper_gmacs} |\n");
    }
    Ok(text)
}
