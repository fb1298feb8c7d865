//! GeoParquet 1.1 files of instances, a few row groups at a time.
//!
//! Owns: [`InstanceTable`], the `geo` metadata, the writer's properties. Must not know: what the columns mean.
//! Source: GeoParquet 1.1.0.
//!
//! The columns of some row groups are filled and encoded on all threads and appended in order, so bytes are the same
//! for any number of threads. Several only where groups are small; memory is those groups.

use super::{
    OutputError, ResultKind, SlideHeader,
    columns::{Column, Row, columns},
    spool::Outline,
};
use crate::config::settings;
use arrow_schema::{DataType, Schema};
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves},
    },
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::KeyValue,
        properties::{WriterProperties, WriterPropertiesBuilder},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};
use rayon::prelude::*;
use serde_json::json;
use std::{
    collections::HashMap,
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    sync::Arc,
};

const FORMAT: &str = "Parquet";
/// Rows that are encoded at once, if row groups are not larger.
const BATCH_ROWS: usize = 20_000;

/// A table of nuclei or lesions being written.
pub(super) struct InstanceTable {
    path: PathBuf,
    header: SlideHeader,
    columns: Vec<Column>,
    writer: SerializedFileWriter<BufWriter<File>>,
    groups: ArrowRowGroupWriterFactory,
    row_groups: usize,
    row_group_rows: usize,
}

/// Properties of every Parquet file of the project.
pub(super) fn properties(zstd_level: i32) -> Result<WriterPropertiesBuilder, String> {
    let level = ZstdLevel::try_new(zstd_level).map_err(|e| e.to_string())?;
    Ok(WriterProperties::builder()
        .set_created_by(concat!("wsi-run ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level)))
}

impl InstanceTable {
    /// A table without rows.
    pub(super) fn create(
        path: &Path,
        kind: ResultKind,
        header: &SlideHeader,
        outline: Outline,
        settings: &settings::Parquet,
    ) -> Result<Self, OutputError> {
        let columns = columns(kind, header);
        let mut metadata = vec![("geo", geo_metadata(header, outline))];
        metadata.extend(slide_metadata(header));
        // Twice: PyArrow looks at the Arrow schema's metadata only, others at the file's.
        let of_schema: HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let of_file = metadata.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
        let fields = columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new_with_metadata(fields, of_schema));
        let mut properties = properties(settings.zstd_level)
            .map_err(OutputError::format(FORMAT, path))?
            .set_key_value_metadata(Some(of_file))
            .set_max_row_group_row_count(Some(settings.row_group_rows as usize))
            // Measurements hardly repeat: a dictionary of them is built only to be given up.
            .set_dictionary_enabled(false);
        for column in &columns {
            let name = column.field.name();
            let at = |leaf: &str| ColumnPath::from(vec![name.clone(), leaf.to_owned()]);
            match column.field.data_type() {
                DataType::Dictionary(..) => {
                    properties = properties.set_column_dictionary_enabled(ColumnPath::from(name.as_str()), true);
                }
                DataType::Float64 | DataType::Float32 => {
                    properties = properties.set_column_encoding(name.as_str().into(), Encoding::BYTE_STREAM_SPLIT);
                }
                DataType::Struct(leaves) => {
                    for leaf in leaves {
                        properties = properties.set_column_encoding(at(leaf.name()), Encoding::BYTE_STREAM_SPLIT);
                    }
                }
                _ => {}
            }
        }
        let file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(OutputError::io(path))?);
        let writer = ArrowWriter::try_new(file, schema, Some(properties.build()))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(OutputError::format(FORMAT, path))?;
        let (writer, groups) = writer;
        let (path, header) = (path.to_owned(), header.clone());
        let row_group_rows = (settings.row_group_rows as usize).max(1);
        Ok(Self { path, header, columns, writer, groups, row_groups: 0, row_group_rows })
    }

    /// Rows that are best given at once: whole row groups.
    pub(super) fn batch_rows(settings: &settings::Parquet) -> usize {
        let rows = (settings.row_group_rows as usize).max(1);
        rows * (BATCH_ROWS / rows).max(1)
    }

    /// Writes row groups; all but the last call must give whole ones.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<(), OutputError> {
        self.write_groups(rows).map_err(OutputError::format(FORMAT, &self.path))
    }

    fn write_groups(&mut self, rows: &[Row]) -> parquet::errors::Result<()> {
        let mut jobs = Vec::new();
        for (index, rows) in (self.row_groups..).zip(rows.chunks(self.row_group_rows)) {
            let mut writers = self.groups.create_column_writers(index)?.into_iter();
            for column in &self.columns {
                let leaves = match column.field.data_type() {
                    DataType::Struct(leaves) => leaves.len(),
                    _ => 1,
                };
                jobs.push((column, rows, writers.by_ref().take(leaves).collect::<Vec<_>>()));
            }
        }
        let header = &self.header;
        let chunks = jobs
            .into_par_iter()
            .with_max_len(1)
            .map(|(column, rows, writers)| {
                let leaves = compute_leaves(&column.field, &column.array(header, rows))?;
                let encode = |(leaf, mut writer): (_, parquet::arrow::arrow_writer::ArrowColumnWriter)| {
                    writer.write(&leaf)?;
                    writer.close()
                };
                leaves.into_iter().zip(writers).map(encode).collect::<parquet::errors::Result<Vec<_>>>()
            })
            .collect::<parquet::errors::Result<Vec<_>>>()?;
        let mut chunks = chunks.into_iter();
        while chunks.len() > 0 {
            let mut group = self.writer.next_row_group()?;
            for chunk in chunks.by_ref().take(self.columns.len()).flatten() {
                chunk.append_to_row_group(&mut group)?;
            }
            group.close()?;
            self.row_groups += 1;
        }
        Ok(())
    }

    /// Writes the footer.
    pub(super) fn finish(self) -> Result<(), OutputError> {
        let file = self.writer.into_inner().map_err(OutputError::format(FORMAT, &self.path))?;
        file.into_inner().map_err(|e| OutputError::io(&self.path)(e.into_error()))?;
        Ok(())
    }
}

/// The `geo` value: level-0 px are no place on Earth, hence a `crs` of null, written out.
fn geo_metadata(header: &SlideHeader, [left, top, right, bottom]: Outline) -> String {
    let mut geometry = json!({
        "encoding": "WKB",
        "geometry_types": [],
        "crs": null,
        "edges": "planar",
        "covering": {"bbox": {
            "xmin": ["bbox", "xmin"], "ymin": ["bbox", "ymin"],
            "xmax": ["bbox", "xmax"], "ymax": ["bbox", "ymax"]
        }}
    });
    if left <= right {
        let (x0, y0) = header.grid.level0_from_target_point(left, top);
        let (x1, y1) = header.grid.level0_from_target_point(right, bottom);
        geometry["geometry_types"] = json!(["Polygon"]);
        geometry["bbox"] = json!([x0, y0, x1, y1]);
    }
    json!({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}).to_string()
}

/// What a table says of its slide, as key and JSON value.
fn slide_metadata(header: &SlideHeader) -> Vec<(&'static str, String)> {
    let grid = &header.grid;
    let mut pairs = vec![
        ("wsi-run.slide", header.id.clone()),
        ("wsi-run.path", header.path.display().to_string()),
        ("wsi-run.model", header.model.clone()),
        ("wsi-run.mpp-x", grid.slide_mpp.x.um_per_px().to_string()),
        ("wsi-run.mpp-y", grid.slide_mpp.y.um_per_px().to_string()),
        ("wsi-run.input-mpp", grid.input_mpp.um_per_px().to_string()),
        ("wsi-run.width-px", grid.level0.w.to_string()),
        ("wsi-run.height-px", grid.level0.h.to_string()),
        ("wsi-run.classes", json!(header.classes).to_string()),
    ];
    if let Some(bounds) = header.bounds {
        pairs.push(("bounds-x", bounds.x.to_string()));
        pairs.push(("bounds-y", bounds.y.to_string()));
        pairs.push(("bounds-width", bounds.w.to_string()));
        pairs.push(("bounds-height", bounds.h.to_string()));
    }
    pairs
}
