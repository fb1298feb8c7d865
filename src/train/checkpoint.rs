//! A training as it stood after a step, in one file.
//!
//! Owns: [`Checkpoint`]. Must not know: what the numbers in it mean.
//!
//! The format is safetensors with one JSON text in its metadata. A file is written aside, flushed, renamed into place, and
//! the folder is flushed: whenever the process or the machine is stopped, the file is the old one or the new one, whole.

use super::TrainError;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

const STATE: &str = "state";

/// Numbers by name, and a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// JSON.
    pub state: String,
    /// Values of the network and of the optimiser.
    pub values: BTreeMap<String, Vec<f32>>,
    /// Tables.
    pub tables: BTreeMap<String, Vec<f64>>,
}

impl Checkpoint {
    /// Writes the file; what was there before is there until all of the new one is.
    ///
    /// # Errors
    /// A file that cannot be written; the one before is still there.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_aside(path, |file| {
            let (mut header, mut at) = (serde_json::Map::new(), 0);
            header.insert("__metadata__".to_owned(), json!({ STATE: self.state }));
            let f32s = self.values.iter().map(|(name, v)| (name, "F32", v.len(), 4));
            let f64s = self.tables.iter().map(|(name, v)| (name, "F64", v.len(), 8));
            // Wide numbers first: each lies at a multiple of its size.
            for (name, dtype, len, bytes) in f64s.chain(f32s) {
                let end = at + len * bytes;
                header.insert(name.clone(), json!({ "dtype": dtype, "shape": [len], "data_offsets": [at, end] }));
                at = end;
            }
            let mut header = serde_json::to_vec(&header)?;
            header.resize(header.len().next_multiple_of(8), b' ');
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            for values in self.tables.values() {
                values.iter().try_for_each(|v| file.write_all(&v.to_le_bytes()))?;
            }
            for values in self.values.values() {
                values.iter().try_for_each(|v| file.write_all(&v.to_le_bytes()))?;
            }
            Ok(())
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or is none of ours.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let fail = |why: String| {
            TrainError::new(format!("checkpoint cannot be read: {why}: {}", path.display()))
                .hint("remove it to begin the training anew")
        };
        let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let (_, info) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
        let state = info.metadata().as_ref().and_then(|map| map.get(STATE)).cloned();
        let mut read = Self { state: state.ok_or_else(|| fail("it has no state".to_owned()))?, ..Self::default() };
        for (name, view) in file.iter() {
            match view.dtype() {
                Dtype::F32 => {
                    let values = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
                    read.values.insert(name.to_owned(), values);
                }
                Dtype::F64 => {
                    let values = view.data().as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect();
                    read.tables.insert(name.to_owned(), values);
                }
                other => return Err(fail(format!("`{name}` is of type `{other:?}`"))),
            }
        }
        Ok(read)
    }
}

/// Writes a file aside, flushes it and renames it into place.
///
/// # Errors
/// A file that cannot be written; what was there before is still there.
pub fn write_aside(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), TrainError> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // One name: what a killed process left is overwritten, not gathered.
    let aside = path.with_file_name(format!(".{name}.partial"));
    let written = || -> std::io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&aside)?);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&aside, path)?;
        match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    written().map_err(|e| {
        let _ = std::fs::remove_file(&aside);
        TrainError::new(format!("cannot be written: {e}: {}", path.display()))
            .hint("make room or choose another `output.dir`; the same command goes on from the last checkpoint")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            state: "{\"step\":3}".to_owned(),
            values: [("b".to_owned(), vec![1.5, f32::MIN_POSITIVE]), ("a".to_owned(), vec![])].into(),
            tables: [("steps".to_owned(), vec![0.1, f64::NAN, -0.0])].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_bit_by_bit_and_written_alike() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        checkpoint().write(&a).unwrap();
        let read = Checkpoint::read(&a).unwrap();
        assert_eq!((&read.state, &read.values), (&checkpoint().state, &checkpoint().values));
        let bits = |c: &Checkpoint| c.tables["steps"].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&checkpoint()));
        read.write(&b).unwrap();
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn a_write_that_fails_leaves_the_file_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        checkpoint().write(&path).unwrap();
        let failed = write_aside(&path, |file| {
            file.write_all(b"half")?;
            Err(std::io::Error::other("no room"))
        });
        assert!(failed.unwrap_err().message.contains("no room"));
        assert_eq!(Checkpoint::read(&path).unwrap().values, checkpoint().values);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        checkpoint().write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in [0, 7, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(Checkpoint::read(&path).unwrap_err().message.contains("cannot be read"), "{len}");
        }
    }
}
