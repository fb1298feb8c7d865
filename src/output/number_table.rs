//! A plain table of numbers as Parquet.
//!
//! Owns: [`write_numbers`]. Must not know: what the numbers mean.

use super::{OutputError, parquet::properties, write_atomically};
use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use std::{path::Path, sync::Arc};

const FORMAT: &str = "Parquet";

/// Writes columns of equal length; a NaN is a null. The file is whole, or the one before.
///
/// # Errors
/// [`OutputError`] when it cannot be written.
pub fn write_numbers(path: &Path, columns: &[(String, Vec<f64>)]) -> Result<(), OutputError> {
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(name, DataType::Float64, true)).collect();
    let array = |values: &Vec<f64>| -> ArrayRef {
        Arc::new(values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect::<Float64Array>())
    };
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(_, values)| array(values)).collect();
    let rows = RecordBatch::try_new(schema.clone(), arrays).map_err(OutputError::format(FORMAT, path))?;
    let properties = properties(3).map_err(OutputError::format(FORMAT, path))?.build();
    let mut bytes = vec![];
    let mut writer =
        ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(OutputError::format(FORMAT, path))?;
    writer.write(&rows).map_err(OutputError::format(FORMAT, path))?;
    writer.close().map_err(OutputError::format(FORMAT, path))?;
    write_atomically(path, &bytes)
}
