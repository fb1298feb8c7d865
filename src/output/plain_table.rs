//! Small Parquet tables: named columns of text and numbers.
//!
//! Owns: [`PlainColumn`], [`write_plain_table`]. Must not know: what the columns mean.

use super::{Artifact, OutputError, commit::write_whole, parquet::properties};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

/// A column of a small table.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainColumn {
    /// Its name.
    pub name: String,
    /// Unit; `1` where there is none.
    pub unit: &'static str,
    /// What it means.
    pub description: String,
    /// One value per row.
    pub values: PlainValues,
}

/// Values of a column; `None` is not known.
#[derive(Debug, Clone, PartialEq)]
pub enum PlainValues {
    /// Text.
    Text(Vec<Option<String>>),
    /// Numbers.
    Number(Vec<Option<f64>>),
}

/// Writes `relative` below `dir`, whole or not at all.
///
/// # Errors
/// The file system's; columns of different lengths.
pub fn write_plain_table(dir: &Path, relative: &Path, columns: &[PlainColumn]) -> Result<Artifact, OutputError> {
    write_whole(dir, relative, &mut |path| {
        let file = File::create(path).map_err(OutputError::io(path))?;
        let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
        for column in columns {
            arrays.push(match &column.values {
                PlainValues::Text(values) => Arc::new(StringArray::from_iter(values.iter().map(Option::as_deref))),
                PlainValues::Number(values) => Arc::new(Float64Array::from_iter(values.iter().copied())),
            });
            let meta = [("description", column.description.as_str()), ("unit", column.unit)];
            let meta: HashMap<String, String> = meta.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let data_type = arrays[arrays.len() - 1].data_type().clone();
            fields.push(Field::new(&column.name, data_type, true).with_metadata(meta));
        }
        let schema = Arc::new(Schema::new(fields));
        let write = || -> Result<(), String> {
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| e.to_string())?;
            let mut writer =
                ArrowWriter::try_new(file, schema, Some(properties(3)?.build())).map_err(|e| e.to_string())?;
            writer.write(&batch).map_err(|e| e.to_string())?;
            writer.close().map_err(|e| e.to_string())?;
            Ok(())
        };
        write().map_err(OutputError::format("Parquet", path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn a_table_keeps_its_values_and_what_they_mean() {
        let dir = tempfile::tempdir().unwrap();
        let column =
            |name: &str, values| PlainColumn { name: name.into(), unit: "1", description: "what".into(), values };
        let columns = [
            column("a", PlainValues::Text(vec![Some("x".into()), None])),
            column("b", PlainValues::Number(vec![None, Some(0.5)])),
        ];
        write_plain_table(dir.path(), Path::new("t.parquet"), &columns).unwrap();
        let file = File::open(dir.path().join("t.parquet")).unwrap();
        let batch = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
        let numbers = batch.column(1).as_any().downcast_ref::<Float64Array>().unwrap();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [None, Some(0.5)]);
        assert_eq!(batch.schema().field(0).metadata()["description"], "what");
        let uneven = [columns[0].clone(), column("c", PlainValues::Number(vec![]))];
        assert!(write_plain_table(dir.path(), Path::new("u.parquet"), &uneven).is_err());
    }
}
