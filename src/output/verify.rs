//! Do the outputs of a run agree with each other and with the manifest?
//!
//! Owns: [`verify`], [`VerifyReport`]. Must not know: how results were made. Nothing read here is trusted: files may
//! be missing, cut short, or written by someone else.
//!
//! Checked per slide: sha256 and size of every artifact; every table row's id, area and class against the pixels of
//! the masks; every tile's class against its pixel; rows and counts against `slides.parquet`; every centroid inside its bounding box.

mod tiles;

use super::{OutputError, commit::digest, zarr_array::ZarrArray};
use arrow_array::{
    Array, Float64Array, RecordBatch, StringArray, StructArray, UInt32Array, UInt64Array, cast::AsArray,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Component, Path},
};

/// Findings kept per slide; more add nothing.
const MAX_FINDINGS: usize = 20;
/// Largest side of a chunk that is read, px.
const MAX_CHUNK_PX: u32 = 8192;
/// Most nuclei a mask is checked against; ids of a `uint32` mask cannot be more than its pixels.
const MAX_ROWS: u64 = 1 << 31;

/// What was found wrong with one slide; nothing means all agrees.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct SlideFindings {
    /// The slide.
    pub id: String,
    /// What disagrees, in words.
    pub findings: Vec<String>,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct VerifyReport {
    /// Findings that belong to no slide.
    pub run: Vec<String>,
    /// One entry per slide, by id.
    pub slides: Vec<SlideFindings>,
    /// Artifacts whose sha256 was compared.
    pub artifacts_checked: u64,
    /// Table rows compared with masks.
    pub rows_checked: u64,
}

impl VerifyReport {
    /// Whether nothing disagrees.
    pub fn is_clean(&self) -> bool {
        self.run.is_empty() && self.slides.iter().all(|s| s.findings.is_empty())
    }
}

/// What `slides.parquet` says of a slide.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) status: String,
    instances: Option<u64>,
}

/// Compares everything under `dir`.
///
/// # Errors
/// [`OutputError`] when `dir` has no readable `slides.parquet`; everything else is a finding.
pub fn verify(dir: &Path) -> Result<VerifyReport, OutputError> {
    let mut report = VerifyReport::default();
    let rows = slide_rows(&dir.join("slides.parquet"))?;
    let artifacts = manifest_artifacts(dir, &mut report);
    let mut by_slide: BTreeMap<&str, Vec<String>> = rows.keys().map(|id| (id.as_str(), Vec::new())).collect();
    for (relative, bytes, sha256) in &artifacts {
        report.artifacts_checked += 1;
        let Some(finding) = check_artifact(dir, relative, *bytes, sha256) else { continue };
        let owner = rows.keys().filter(|id| belongs(relative, id)).max_by_key(|id| id.len());
        match owner.and_then(|id| by_slide.get_mut(id.as_str())) {
            Some(findings) => findings.push(finding),
            None => report.run.push(finding),
        }
    }
    for (id, row) in &rows {
        let findings = by_slide.entry(id).or_default();
        if !is_plain(id) {
            findings.push(format!("slide id is `{id}`, expected a plain file name"));
        } else if let Err(error) = check_slide(dir, id, row, findings, &mut report.rows_checked) {
            findings.push(error.to_string());
        }
    }
    report.slides = by_slide
        .into_iter()
        .map(|(id, mut findings)| {
            let more = findings.len().saturating_sub(MAX_FINDINGS);
            findings.truncate(MAX_FINDINGS);
            if more > 0 {
                findings.push(format!("and {more} more"));
            }
            SlideFindings { id: id.to_owned(), findings }
        })
        .collect();
    Ok(report)
}

fn is_plain(id: &str) -> bool {
    let mut parts = Path::new(id).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !id.contains(['/', '\\'])
}

fn belongs(relative: &str, id: &str) -> bool {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    name.strip_prefix(id).is_some_and(|rest| rest.starts_with('.'))
}

/// `(path, bytes, sha256)` of everything `run.json` lists under any key `artifacts`.
fn manifest_artifacts(dir: &Path, report: &mut VerifyReport) -> Vec<(String, u64, String)> {
    let text = match fs::read(dir.join("run.json")) {
        Ok(text) => text,
        Err(error) => {
            report.run.push(format!("no run.json, so no sha256 was compared: {error}"));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    match serde_json::from_slice::<Value>(&text) {
        Ok(value) => collect_artifacts(&value, &mut found),
        Err(error) => report.run.push(format!("run.json is no JSON: {error}")),
    }
    found
}

fn collect_artifacts(value: &Value, found: &mut Vec<(String, u64, String)>) {
    match value {
        Value::Object(map) => {
            let text = |key: &str| map.get(key).and_then(Value::as_str);
            match (text("path"), map.get("bytes").and_then(Value::as_u64), text("sha256")) {
                (Some(path), Some(bytes), Some(sha256)) => found.push((path.to_owned(), bytes, sha256.to_owned())),
                _ => map.values().for_each(|value| collect_artifacts(value, found)),
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_artifacts(value, found)),
        _ => {}
    }
}

fn check_artifact(dir: &Path, relative: &str, bytes: u64, sha256: &str) -> Option<String> {
    if !Path::new(relative).components().all(|part| matches!(part, Component::Normal(_))) {
        return Some(format!("artifact `{relative}` lies outside the run"));
    }
    match digest(&dir.join(relative), false) {
        Err(error) => Some(format!("artifact is not readable: {error}")),
        Ok((found, _)) if found != bytes => {
            Some(format!("{relative} has `{found}` bytes, the manifest says `{bytes}`"))
        }
        Ok((_, found)) if found != sha256 => {
            Some(format!("{relative} has sha256 `{found}`, the manifest says `{sha256}`"))
        }
        Ok(_) => None,
    }
}

pub(super) fn batches(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch, OutputError>>, OutputError> {
    let bad = |reason: String| OutputError::damaged("Parquet", path)(reason);
    let file = File::open(path).map_err(OutputError::unreadable(path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| bad(e.to_string()))?;
    let reader = reader.with_batch_size(8192).build().map_err(|e| bad(e.to_string()))?;
    let path = path.to_owned();
    Ok(reader.map(move |batch| batch.map_err(|e| OutputError::damaged("Parquet", &path)(e))))
}

/// The column `name` of a batch as `A`.
pub(super) fn column<'a, A: Array + 'static>(
    batch: &'a RecordBatch,
    name: &str,
    path: &Path,
) -> Result<&'a A, OutputError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<A>());
    column.ok_or_else(|| OutputError::damaged("Parquet", path)(format!("no column `{name}` of the expected type")))
}

pub(super) fn slide_rows(path: &Path) -> Result<BTreeMap<String, Row>, OutputError> {
    let mut rows = BTreeMap::new();
    for batch in batches(path)? {
        let batch = batch?;
        let ids = column::<StringArray>(&batch, "id", path)?;
        let status = column::<StringArray>(&batch, "status", path)?;
        let instances = column::<UInt64Array>(&batch, "instances", path)?;
        for i in 0..batch.num_rows() {
            let row = Row { status: status.value(i).to_owned(), instances: Some(instances.value(i)) };
            rows.insert(ids.value(i).to_owned(), row);
        }
    }
    Ok(rows)
}

fn check_slide(
    dir: &Path,
    id: &str,
    row: &Row,
    findings: &mut Vec<String>,
    rows_checked: &mut u64,
) -> Result<(), OutputError> {
    let nuclei = dir.join("nuclei").join(format!("{id}.parquet"));
    let lesions = dir.join("lesions").join(format!("{id}.parquet"));
    let masks = dir.join("masks").join(format!("{id}.ome.zarr"));
    let is_done = matches!(row.status.as_str(), "complete" | "no_tissue");
    let tiles = dir.join("tiles").join(format!("{id}.parquet"));
    if tiles.exists() {
        let rows = tiles::check_tiles(&tiles, &masks, findings)?;
        *rows_checked += rows;
        check_count(row, is_done, rows, findings);
    }
    let table = [&nuclei, &lesions].into_iter().find(|path| path.exists());
    let Some(path) = table else { return Ok(()) };
    let labels = if path == &nuclei && masks.exists() { Some(mask_counts(&masks, findings)?) } else { None };
    let px_area_um2 = labels.as_ref().map(|labels| labels.px_area_um2);
    let (mut next, mut areas) = (1_u32, Vec::<(f64, String)>::new());
    for batch in batches(path)? {
        let batch = batch?;
        check_rows(&batch, path, &mut next, findings)?;
        let area = column::<Float64Array>(&batch, "area_um2", path)?;
        areas.extend(area.values().iter().copied().zip(names_of(&batch, "type")));
    }
    *rows_checked += areas.len() as u64;
    check_count(row, is_done, areas.len() as u64, findings);
    let (Some(labels), Some(px_area_um2)) = (labels, px_area_um2) else { return Ok(()) };
    if labels.px.len() != areas.len() {
        findings.push(format!("instance mask has ids up to `{}`, the table `{}` rows", labels.px.len(), areas.len()));
    }
    for (at, ((area_um2, class), (px, value))) in areas.iter().zip(labels.px.iter().zip(&labels.class)).enumerate() {
        let found = *px as f64 * px_area_um2;
        if *px == 0 {
            findings.push(format!("id `{}` has no pixel in the instance mask", at + 1));
        } else if (found - area_um2).abs() > 1e-6 * found.abs() {
            findings.push(format!("id `{}` covers `{found}` µm² of the mask, the table says `{area_um2}`", at + 1));
        }
        let named = labels.names.get(value).map_or("", String::as_str);
        if *px > 0 && named != class {
            findings.push(format!("id `{}` is `{named}` in the class mask, `{class}` in the table", at + 1));
        }
    }
    Ok(())
}

/// The texts of a dictionary column; empty where there is none.
fn names_of(batch: &RecordBatch, name: &str) -> Vec<String> {
    let types = batch.column_by_name(name).and_then(|c| c.as_dictionary_opt::<arrow_array::types::Int32Type>());
    let of = |i: usize| {
        let names = types?.values().as_any().downcast_ref::<StringArray>()?;
        let key = types?.key(i).filter(|&key| key < names.len())?;
        Some(names.value(key).to_owned())
    };
    (0..batch.num_rows()).map(|i| of(i).unwrap_or_default()).collect()
}

fn check_count(row: &Row, is_done: bool, rows: u64, findings: &mut Vec<String>) {
    if let Some(said) = row.instances.filter(|said| is_done && *said != rows) {
        findings.push(format!("table has `{rows}` rows, slides.parquet says `{said}`"));
    }
}

/// Names of the values of a label, by its attributes.
fn class_names(attributes: &Value) -> BTreeMap<u8, String> {
    let listed = attributes["image-label"]["properties"].as_array().into_iter().flatten();
    let name = |p: &Value| Some((u8::try_from(p["label-value"].as_u64()?).ok()?, p["name"].as_str()?.to_owned()));
    listed.filter_map(name).collect()
}

fn check_rows(batch: &RecordBatch, path: &Path, next: &mut u32, findings: &mut Vec<String>) -> Result<(), OutputError> {
    let ids = column::<UInt32Array>(batch, "id", path)?;
    let (x, y) =
        (column::<Float64Array>(batch, "centroid_x_px", path)?, column::<Float64Array>(batch, "centroid_y_px", path)?);
    let boxes = column::<StructArray>(batch, "bbox", path)?;
    let side = |name: &str| {
        let side = boxes.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<Float64Array>());
        side.ok_or_else(|| OutputError::damaged("Parquet", path)(format!("no column `bbox.{name}`")))
    };
    let (x0, y0, x1, y1) = (side("xmin")?, side("ymin")?, side("xmax")?, side("ymax")?);
    for i in 0..batch.num_rows() {
        if ids.value(i) != *next {
            findings.push(format!("row `{next}` has id `{}`", ids.value(i)));
        }
        *next = next.saturating_add(1);
        let inside = x0.value(i) <= x.value(i)
            && x.value(i) <= x1.value(i)
            && y0.value(i) <= y.value(i)
            && y.value(i) <= y1.value(i);
        if !inside {
            findings.push(format!("id `{}` has its centroid outside its bounding box", ids.value(i)));
        }
    }
    Ok(())
}

/// What the masks say of each id.
struct MaskCounts {
    /// Pixels of id `i + 1`.
    px: Vec<u32>,
    /// Its value in the class mask.
    class: Vec<u8>,
    px_area_um2: f64,
    names: BTreeMap<u8, String>,
}

fn mask_counts(root: &Path, findings: &mut Vec<String>) -> Result<MaskCounts, OutputError> {
    let labels = root.join("labels");
    let ids = ZarrArray::<u32>::open(labels.join("instances/0"), 0, MAX_CHUNK_PX)?;
    let classes = ZarrArray::<u8>::open(labels.join("semantic/0"), 255, MAX_CHUNK_PX)?;
    let form = |w: u32, h: u32, chunk_px: u32, block_px: u32| (w, h, chunk_px, block_px);
    let (a, b) = (&ids.layout, &classes.layout);
    if form(a.w, a.h, a.chunk_px, a.block_px()) != form(b.w, b.h, b.chunk_px, b.block_px()) {
        return Err(OutputError::damaged("OME-Zarr", root)("the masks of instances and classes differ in size"));
    }
    let attributes = attributes(&labels.join("semantic"))?;
    let transform = &attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"];
    let um = |axis: usize| transform[axis].as_f64().unwrap_or(f64::NAN);
    let mut counts =
        MaskCounts { px: Vec::new(), class: Vec::new(), px_area_um2: um(0) * um(1), names: class_names(&attributes) };
    let most = u64::from(ids.layout.w) * u64::from(ids.layout.h);
    let mut mixed = 0_u64;
    let chunk_area = (ids.layout.chunk_px as usize).pow(2);
    for key in ids.layout.blocks() {
        let (id_block, class_block) = (ids.block(key)?, classes.block(key)?);
        if id_block.is_none() && class_block.is_none() {
            continue;
        }
        let side = ids.layout.block_chunks();
        for (row, col) in (0..side * side).map(|i| (i / side, i % side)) {
            let id_px = id_block.as_ref().map(|block| block.chunk(row, col)).transpose()?;
            let class_px = class_block.as_ref().map(|block| block.chunk(row, col)).transpose()?;
            let id_px = id_px.unwrap_or_else(|| vec![ids.layout.fill; chunk_area]);
            let class_px = class_px.unwrap_or_else(|| vec![classes.layout.fill; chunk_area]);
            for (&id, &class) in id_px.iter().zip(&class_px) {
                if id == 0 {
                    mixed += u64::from(class != 0 && class != 255);
                    continue;
                }
                let at = id as usize - 1;
                if u64::from(id) > most.min(MAX_ROWS) {
                    return Err(OutputError::damaged("OME-Zarr", root)(format!(
                        "id `{id}` is more than the mask has pixels"
                    )));
                }
                if at >= counts.px.len() {
                    counts.px.resize(at + 1, 0);
                    counts.class.resize(at + 1, class);
                }
                if counts.px[at] == 0 {
                    counts.class[at] = class;
                }
                counts.px[at] = counts.px[at].saturating_add(1);
                mixed += u64::from(counts.class[at] != class);
            }
        }
    }
    if mixed > 0 {
        findings.push(format!("`{mixed}` px disagree between the masks of instances and classes"));
    }
    Ok(counts)
}

pub(super) fn attributes(group: &Path) -> Result<Value, OutputError> {
    match read_json(&group.join("zarr.json")) {
        Ok(meta) => Ok(meta["attributes"]["ome"].clone()),
        Err(_) => read_json(&group.join(".zattrs")),
    }
}

fn read_json(path: &Path) -> Result<Value, OutputError> {
    let text = fs::read(path).map_err(OutputError::unreadable(path))?;
    serde_json::from_slice(&text).map_err(OutputError::damaged("JSON", path))
}
