//! Small Parquet tables: named columns of text and numbers.
//!
//! Owns: [`PlainColumn`], [`write_plain_table`]; [`described`] and [`encoded`] for other tables. Must not know: what the columns mean.

use super::{OutputError, parquet::properties, write_atomically};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use std::{collections::HashMap, path::Path, sync::Arc};

const FORMAT: &str = "Parquet";

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

/// Writes a table, whole or not at all.
///
/// # Errors
/// The file system's; columns of different lengths.
pub fn write_plain_table(path: &Path, columns: &[PlainColumn]) -> Result<(), OutputError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
    for column in columns {
        let array: ArrayRef = match &column.values {
            PlainValues::Text(values) => Arc::new(StringArray::from_iter(values.iter().map(Option::as_deref))),
            PlainValues::Number(values) => Arc::new(Float64Array::from_iter(values.iter().copied())),
        };
        fields.push(described(&column.name, array.data_type().clone(), (column.unit, &column.description), true));
        arrays.push(array);
    }
    let bytes = encoded(fields, arrays).map_err(OutputError::format(FORMAT, path))?;
    write_atomically(path, &bytes)
}

/// The field of a column, with its unit (`1` where there is none) and meaning as metadata.
pub(super) fn described(name: &str, data_type: DataType, (unit, meaning): (&str, &str), nullable: bool) -> Field {
    let meta = [("description", meaning), ("unit", unit)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    Field::new(name, data_type, nullable).with_metadata(HashMap::from(meta))
}

/// A small table as the bytes of a Parquet file.
///
/// # Errors
/// Columns of different lengths, or nulls where there are to be none.
pub(super) fn encoded(fields: Vec<Field>, arrays: Vec<ArrayRef>) -> Result<Vec<u8>, String> {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| e.to_string())?;
    let mut bytes = vec![];
    let mut writer =
        ArrowWriter::try_new(&mut bytes, schema, Some(properties(3)?.build())).map_err(|e| e.to_string())?;
    writer.write(&batch).map_err(|e| e.to_string())?;
    writer.close().map_err(|e| e.to_string())?;
    Ok(bytes)
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
        write_plain_table(&dir.path().join("t.parquet"), &columns).unwrap();
        let file = std::fs::File::open(dir.path().join("t.parquet")).unwrap();
        let batch = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
        let numbers = batch.column(1).as_any().downcast_ref::<Float64Array>().unwrap();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [None, Some(0.5)]);
        assert_eq!(batch.schema().field(0).metadata()["description"], "what");
        let uneven = [columns[0].clone(), column("c", PlainValues::Number(vec![]))];
        assert!(write_plain_table(&dir.path().join("u.parquet"), &uneven).is_err());
    }
}
