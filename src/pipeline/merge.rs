//! One result of many tasks: whether shards are of one batch, disjoint and complete, and the table of all slides.
//!
//! Owns: [`merge`]. Must not know: how slides are run.

use super::report;
use crate::{
    output::{OutputError, SlideStatus, write_atomically, write_slides_table},
    run::{SlideList, SlideState, StateDir},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What was merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Slides of the batch.
    pub slides: usize,
    /// Shards whose manifests were found.
    pub shards: usize,
    /// Slides that failed or lost tiles.
    pub lacking: Vec<String>,
    /// Slides nobody has finished.
    pub missing: Vec<String>,
    /// Why the shards are not one batch, in words.
    pub faults: Vec<String>,
}

/// A shard's manifest, as far as merging needs it.
struct Manifest {
    name: String,
    index: u32,
    count: u32,
    json: Value,
}

fn manifests(dir: &Path) -> Vec<Manifest> {
    let shard_of = |name: &str| -> Option<(u32, u32)> {
        let (index, count) = name.strip_prefix("run-")?.strip_suffix(".json")?.split_once("-of-")?;
        Some((index.parse().ok()?, count.parse().ok()?))
    };
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let read = |name: String| {
        let (index, count) = shard_of(&name)?;
        let json = fs::read(dir.join(&name)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Some(Manifest { name, index, count, json: json.unwrap_or(Value::Null) })
    };
    let mut all: Vec<_> = names.filter_map(read).collect();
    all.sort_by_key(|m| (m.count, m.index));
    all
}

/// What is wrong with the shards of `list`.
fn faults(list: &SlideList, shards: &[Manifest]) -> Vec<String> {
    let mut faults = vec![];
    let Some(count) = shards.first().map(|m| m.count) else { return faults };
    let of_batch: BTreeSet<&str> = list.slides.iter().map(|s| s.id.as_str()).collect();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for shard in shards {
        let name = &shard.name;
        if shard.count != count {
            faults.push(format!("{name}: found `{}` shards, others say `{count}`", shard.count));
        }
        let digest = shard.json["list_digest"].as_str();
        if digest != Some(list.digest.as_str()) {
            faults.push(format!("{name}: its slide list is not that of the batch: slides came or went between tasks"));
        }
        let slides = shard.json["slides"].as_array().map_or(&[][..], Vec::as_slice);
        for id in slides.iter().filter_map(|slide| slide["id"].as_str()) {
            if !of_batch.contains(id) {
                faults.push(format!("{name}: slide `{id}` is not in the list of the batch"));
            }
            if let Some(other) = seen.insert(id, name) {
                faults.push(format!("{name}: slide `{id}` is also in {other}"));
            }
        }
    }
    let found: BTreeSet<u32> = shards.iter().map(|m| m.index).collect();
    let absent: Vec<String> = (1..=count).filter(|i| !found.contains(i)).map(|i| format!("{i}/{count}")).collect();
    if !absent.is_empty() {
        faults.push(format!("no manifest of shard {}", absent.join(", ")));
    }
    faults
}

/// Checks the shards of the batch in `dir`, writes `slides.parquet` and `report.html` of all slides, and `run.json` when
/// there are shards.
///
/// # Errors
/// [`OutputError`] when there is no batch in `dir`, or the disk says no. Slides that are missing or failed are told,
/// and the table says what there is.
pub fn merge(dir: &Path) -> Result<Merged, OutputError> {
    let state = StateDir::new(dir);
    let list = SlideList::read(&state).ok_or_else(|| OutputError::Io {
        path: state.path("list.json"),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "no slide list of a batch"),
    })?;
    let shards = manifests(dir);
    let states: Vec<(String, Option<SlideState>)> =
        list.slides.iter().map(|s| (s.id.clone(), state.slide(&s.id))).collect();
    let with = |is: &dyn Fn(Option<&SlideState>) -> bool| -> Vec<String> {
        states.iter().filter(|(_, state)| is(state.as_ref())).map(|(id, _)| id.clone()).collect()
    };
    let merged = Merged {
        slides: list.slides.len(),
        shards: shards.len(),
        lacking: with(&|state| state.is_some_and(SlideState::is_lacking)),
        missing: with(&|state| state.is_none()),
        faults: faults(&list, &shards),
    };
    let done: Vec<&SlideState> = states.iter().filter_map(|(_, state)| state.as_ref()).collect();
    let records: Vec<_> = done.iter().map(|state| state.record.clone()).collect();
    write_slides_table(dir, &records)?;
    let mut shown = None;
    if let Some(first) = shards.first().filter(|m| m.json.is_object()) {
        let run = one_manifest(first, &shards, &merged, &done);
        let mut text = serde_json::to_vec_pretty(&run)
            .map_err(|e| OutputError::Io { path: dir.join("run.json"), source: e.into() })?;
        text.push(b'\n');
        write_atomically(&dir.join("run.json"), &text)?;
        shown = Some(run);
    }
    // Without shards, what the last run said of itself stands.
    let shown = shown.or_else(|| serde_json::from_slice(&fs::read(dir.join("run.json")).ok()?).ok());
    let shown = shown.unwrap_or(Value::Null);
    if shown["settings"]["output"]["report"].as_bool().unwrap_or(true) {
        let slides: Vec<_> = done.iter().map(|state| (&state.record, &state.artifacts[..])).collect();
        report::write(&state, report::of_batch(&shown, &merged, &done), &slides)?;
    }
    Ok(merged)
}

/// The first shard's manifest, made one of the whole batch.
fn one_manifest(first: &Manifest, shards: &[Manifest], merged: &Merged, done: &[&SlideState]) -> Value {
    let mut run = first.json.clone();
    let times = |key: &str| shards.iter().filter_map(|m| m.json[key].as_str()).collect::<Vec<_>>();
    let (status, code) = match (merged.lacking.is_empty(), merged.missing.is_empty() && merged.faults.is_empty()) {
        (false, _) => ("slides_failed", 3),
        (true, false) => ("unfinished", 5),
        (true, true) => ("complete", 0),
    };
    run["shard"] = Value::Null;
    run["merged_from"] = shards.iter().map(|m| m.name.as_str()).collect();
    run["started_at"] = json!(times("started_at").into_iter().min());
    run["finished_at"] = json!(times("finished_at").into_iter().max());
    run["status"] = json!(status);
    run["exit_code"] = json!(code);
    let with = |status| done.iter().filter(|s| s.record.status == Some(status)).count();
    run["counts"] = json!({
        "slides": merged.slides,
        "complete": with(SlideStatus::Complete),
        "no_tissue": with(SlideStatus::NoTissue),
        "failed": with(SlideStatus::Failed),
        "not_started": merged.missing.len(),
        "with_lost_tiles": done.iter().filter(|s| s.record.tiles_failed > 0).count(),
    });
    let slide = |s: &&SlideState| json!({ "id": s.record.id, "status": s.record.status, "artifacts": s.artifacts });
    run["slides"] = done.iter().map(slide).collect();
    run
}
