//! `slides.parquet`: one row per slide of a run, whatever became of it.
//!
//! Owns: [`SlideRecord`], [`SlideStatus`], the columns. Must not know: how a slide is run.

use super::{
    Artifact, OutputError,
    commit::write_whole,
    plain_table::{described, encoded},
};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, StringArray, UInt32Array, UInt64Array};
use arrow_schema::Field;
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

/// What became of a slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlideStatus {
    /// All results are there.
    Complete,
    /// Nothing to do; the results are there and empty.
    NoTissue,
    /// It could not be finished; `error` says why.
    Failed,
    /// The run was stopped before it was finished.
    Interrupted,
    /// It is still being written, and left for a later run.
    Deferred,
}

impl SlideStatus {
    /// The name written into tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::NoTissue => "no_tissue",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Deferred => "deferred",
        }
    }
}

impl std::fmt::Display for SlideStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One slide of a run. What is not known is `None`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct SlideRecord {
    /// Name in every table and file name.
    pub id: String,
    /// File it was read from, as the user gave it.
    pub path: String,
    /// Identity by content: the reader's quickhash, or the sha256 of the file.
    pub sha: Option<String>,
    /// The format, in OpenSlide's words.
    pub vendor: Option<String>,
    /// Width of level 0, px.
    pub width_px: Option<u32>,
    /// Height of level 0, px.
    pub height_px: Option<u32>,
    /// Resolution along x, µm/px.
    pub mpp_x: Option<f64>,
    /// Resolution along y, µm/px.
    pub mpp_y: Option<f64>,
    /// Where the resolution came from.
    pub mpp_source: Option<String>,
    /// Resolution of masks and measurements, µm/px.
    pub mask_mpp: Option<f64>,
    /// Area of tissue, µm².
    pub tissue_area_um2: Option<f64>,
    /// Area that was computed, µm².
    pub computed_area_um2: Option<f64>,
    /// Tiles of the plan.
    pub tiles_planned: u64,
    /// Tiles that went through the model.
    pub tiles_done: u64,
    /// Tiles that could not be read, and are marked not computed.
    pub tiles_failed: u64,
    /// Nuclei or lesions.
    pub instances: u64,
    /// Number and area (µm²) of each class.
    pub classes: Vec<(String, u64, f64)>,
    /// What became of it.
    pub status: Option<SlideStatus>,
    /// Why it failed.
    pub error: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// What the user should know though nothing failed.
    pub notes: Option<String>,
    /// Whether stain was normalised, and if not why: `fitted`, `identity`, `off`.
    pub stain: Option<String>,
    /// What the colours look like: `he`, `ihc`, `fluorescence`, `other`.
    pub color_kind: Option<String>,
    /// Seconds of work per stage.
    pub seconds: Vec<(String, f64)>,
    /// Wall-clock seconds from first to last.
    pub wall_secs: Option<f64>,
    /// Most memory the process had while the slide was under way, bytes.
    pub peak_rss_bytes: Option<u64>,
}

struct Columns<'a> {
    records: &'a [SlideRecord],
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns<'_> {
    fn add(&mut self, name: &str, array: ArrayRef, unit: &str, what: &str, nullable: bool) {
        self.fields.push(described(name, array.data_type().clone(), (unit, what), nullable));
        self.arrays.push(array);
    }

    fn text(&mut self, name: &str, what: &str, value: impl Fn(&SlideRecord) -> Option<&str>) {
        let array = StringArray::from_iter(self.records.iter().map(value));
        let nullable = !matches!(name, "id" | "path" | "status");
        self.add(name, Arc::new(array), "1", what, nullable);
    }

    fn number(&mut self, name: &str, unit: &str, what: &str, value: impl Fn(&SlideRecord) -> Option<f64>) {
        let array = Float64Array::from_iter(self.records.iter().map(value));
        self.add(name, Arc::new(array), unit, what, true);
    }

    fn size(&mut self, name: &str, what: &str, value: impl Fn(&SlideRecord) -> Option<u32>) {
        let array = UInt32Array::from_iter(self.records.iter().map(value));
        self.add(name, Arc::new(array), "px", what, true);
    }

    fn count(&mut self, name: &str, what: &str, value: impl Fn(&SlideRecord) -> u64) {
        let array = UInt64Array::from_iter_values(self.records.iter().map(value));
        self.add(name, Arc::new(array), "1", what, false);
    }
}

fn columns(records: &[SlideRecord]) -> Columns<'_> {
    let mut c = Columns { records, fields: Vec::new(), arrays: Vec::new() };
    c.text("id", "name of the slide in every table and file name", |r| Some(&r.id));
    c.text("path", "file it was read from, as given", |r| Some(&r.path));
    c.text("sha", "identity by content", |r| r.sha.as_deref());
    c.text("vendor", "format of the file", |r| r.vendor.as_deref());
    c.size("width_px", "width of level 0", |r| r.width_px);
    c.size("height_px", "height of level 0", |r| r.height_px);
    c.number("mpp_x", "um/px", "resolution of level 0 along x", |r| r.mpp_x);
    c.number("mpp_y", "um/px", "resolution of level 0 along y", |r| r.mpp_y);
    c.text("mpp_source", "where the resolution came from", |r| r.mpp_source.as_deref());
    c.number("mask_mpp", "um/px", "resolution of masks and measurements", |r| r.mask_mpp);
    c.number("tissue_area_um2", "um2", "area of tissue", |r| r.tissue_area_um2);
    c.number("computed_area_um2", "um2", "area that was computed", |r| r.computed_area_um2);
    c.count("tiles_planned", "tiles of the plan", |r| r.tiles_planned);
    c.count("tiles_done", "tiles that went through the model", |r| r.tiles_done);
    c.count("tiles_failed", "tiles that could not be read and are marked not computed", |r| r.tiles_failed);
    c.count("instances", "nuclei, or lesions", |r| r.instances);
    let classes: BTreeSet<&str> = records.iter().flat_map(|r| &r.classes).map(|(name, ..)| name.as_str()).collect();
    for class in classes {
        let of =
            move |r: &SlideRecord| r.classes.iter().find(|(name, ..)| name == class).map(|&(_, n, area)| (n, area));
        let counts = UInt64Array::from_iter(records.iter().map(|r| of(r).map(|(n, _)| n)));
        let what = format!("nuclei, or lesions, of class {class}");
        c.add(&format!("instances_{class}"), Arc::new(counts), "1", &what, true);
        let what = format!("area of the pixels of class {class}");
        c.number(&format!("area_{class}_um2"), "um2", &what, |r| of(r).map(|(_, area)| area));
    }
    c.text("status", "complete, no_tissue, failed, interrupted or deferred", |r| {
        Some(r.status.map_or("failed", SlideStatus::name))
    });
    let is_whole = |r: &SlideRecord| {
        matches!(r.status, Some(SlideStatus::Complete | SlideStatus::NoTissue)) && r.tiles_failed == 0
    };
    let whole = BooleanArray::from_iter(records.iter().map(|r| Some(is_whole(r))));
    c.add("is_whole", Arc::new(whole), "1", "whether nothing is missing: no failure, no lost tile", false);
    c.text("error", "why it failed", |r| r.error.as_deref());
    c.text("hint", "what can be done about it", |r| r.hint.as_deref());
    c.text("notes", "what should be known though nothing failed", |r| r.notes.as_deref());
    c.text("stain", "whether stain was normalised: fitted, identity or off", |r| r.stain.as_deref());
    c.text("color_kind", "what the colours look like: he, ihc, fluorescence, other", |r| r.color_kind.as_deref());
    let stages: Vec<&str> = records.iter().flat_map(|r| &r.seconds).fold(Vec::new(), |mut all, (stage, _)| {
        if !all.contains(&stage.as_str()) {
            all.push(stage);
        }
        all
    });
    for stage in stages {
        let of = move |r: &SlideRecord| r.seconds.iter().find(|(name, _)| name == stage).map(|&(_, secs)| secs);
        c.number(&format!("{stage}_secs"), "s", &format!("seconds of work in stage {stage}"), of);
    }
    c.number("wall_secs", "s", "wall-clock seconds from first to last", |r| r.wall_secs);
    let rss = UInt64Array::from_iter(records.iter().map(|r| r.peak_rss_bytes));
    c.add("peak_rss_bytes", Arc::new(rss), "B", "most memory of the process while the slide was under way", true);
    c
}

/// Writes `slides.parquet` into `out_dir`, rows sorted by id.
///
/// # Errors
/// [`OutputError`] when the disk says no; an older table then still stands.
pub fn write_slides_table(out_dir: &Path, records: &[SlideRecord]) -> Result<Artifact, OutputError> {
    let mut records = records.to_vec();
    records.sort_by(|a, b| a.id.cmp(&b.id));
    write_whole(out_dir, Path::new("slides.parquet"), &mut |path| {
        let columns = columns(&records);
        let bytes = encoded(columns.fields, columns.arrays).map_err(OutputError::format("Parquet", path))?;
        fs::write(path, bytes).map_err(OutputError::io(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::DataType;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn a_table_has_a_row_per_slide_in_order_of_ids() {
        let dir = tempfile::tempdir().unwrap();
        let good = SlideRecord {
            id: "b".to_owned(),
            status: Some(SlideStatus::Complete),
            classes: vec![("tumour".to_owned(), 3, 12.5)],
            seconds: vec![("model".to_owned(), 1.5)],
            ..SlideRecord::default()
        };
        let error = Some("no mpp".to_owned());
        let bad =
            SlideRecord { id: "a".to_owned(), status: Some(SlideStatus::Failed), error, ..SlideRecord::default() };
        write_slides_table(dir.path(), &[good, bad]).unwrap();
        let file = fs::File::open(dir.path().join("slides.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        let column = |name: &str| batches[0].column_by_name(name).unwrap().clone();
        let ids = column("id");
        let ids = ids.as_any().downcast_ref::<StringArray>().unwrap();
        assert_eq!(ids.iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(column("instances_tumour").null_count(), 1);
        assert_eq!(column("error").null_count(), 1);
        assert_eq!(column("model_secs").data_type(), &DataType::Float64);
        for field in batches[0].schema().fields() {
            assert!(field.metadata().contains_key("unit") && field.metadata().contains_key("description"));
        }
    }

    #[test]
    fn a_run_without_slides_gives_a_table_without_rows() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write_slides_table(dir.path(), &[]).unwrap().bytes > 0);
    }
}
