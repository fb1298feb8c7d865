//! `wsi-run merge DIR` and `wsi-run retry DIR`: what is done to a batch after its tasks.
//!
//! Owns: what is printed of a merge, how a run is taken up again. Must not know: how either is done.

use super::pipeline::{execute, refuse, report};
use crate::{
    cli::{
        amount::counted,
        args::{CommonArgs, DirArgs, RetryArgs},
        style::Style,
    },
    config::{environment::Environment, resolve::load_text},
    error::{RunError, exit},
    pipeline::{self, Part},
};
use anyhow::Context;
use std::{fs, io::Write, path::Path};

/// Names printed of many.
const NAMED: usize = 10;

fn no_batch(dir: &Path) -> RunError {
    RunError::Setup {
        message: format!("no batch: expected the output directory of a run: {}", dir.display()),
        hint: Some("name the directory of `output.dir`".to_owned()),
    }
}

fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// Merges and says what is lacking.
pub(super) fn merge(args: &DirArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    if !args.dir.join(".state/list.json").is_file() {
        return Ok(report(&no_batch(&args.dir), common, style));
    }
    let merged = pipeline::merge(&args.dir)?;
    let mut out = std::io::stdout().lock();
    for fault in &merged.faults {
        writeln!(out, "{fault}")?;
    }
    for (what, names) in [("failed or lost tiles", &merged.lacking), ("not done", &merged.missing)] {
        if !names.is_empty() {
            writeln!(out, "{what}: {}", some(names))?;
        }
    }
    // Processes that claim slides have none.
    let shards = if merged.shards > 0 { format!(" of {}", counted(merged.shards, "shard")) } else { String::new() };
    writeln!(
        out,
        "{}{shards}: {} failed or lost tiles, {} not done",
        counted(merged.slides, "slide"),
        merged.lacking.len(),
        merged.missing.len()
    )?;
    Ok(match (merged.lacking.is_empty(), merged.missing.is_empty() && merged.faults.is_empty()) {
        (_, false) => exit::UNFINISHED,
        (false, true) => exit::SLIDES,
        (true, true) => exit::OK,
    })
}

/// The manifest of the last run in `dir`, or of one of its shards.
fn manifest(dir: &Path) -> Option<serde_json::Value> {
    let shards = fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("run-") && name.ends_with(".json")
    });
    let read = |path: &Path| serde_json::from_slice(&fs::read(path).ok()?).ok();
    read(&dir.join("run.json")).or_else(|| shards.filter_map(|path| read(&path)).next())
}

/// Runs what failed, as the batch was run: same text, same overrides, same directory.
pub(super) fn retry(args: &RetryArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let dir = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
    let Some(run) = manifest(&dir) else { return Ok(report(&no_batch(&args.dir), common, style)) };
    let text = |key: &str| run[key].as_str().unwrap_or_default().to_owned();
    let said = run["overrides"].as_array().into_iter().flatten().filter_map(|o| o.as_str()).map(str::to_owned);
    let mut overrides: Vec<String> = said.chain(args.set.iter().cloned()).collect();
    overrides.push(format!("output.dir={}", dir.to_string_lossy()));
    let directory = text("directory");
    std::env::set_current_dir(&directory)
        .with_context(|| format!("cannot go to where the batch was run: {directory}"))?;
    let (path, config_text) = (text("config_path"), text("config_text"));
    let loaded = match load_text(&path, &config_text, &overrides, &Environment::read()) {
        Ok(loaded) => loaded,
        Err(found) => return Ok(refuse(&found, common, style)),
    };
    Ok(execute((Path::new(&path), &loaded, &overrides), Part::Failed, args.no_progress, common, style))
}
