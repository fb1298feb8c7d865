//! The files of a training.
//!
//! Owns: [`Files`]. Must not know: how a network learns.
//!
//! | file | |
//! |---|---|
//! | `weights.safetensors` | the best weights so far, ready to be used |
//! | `last.safetensors` | those of the last step, when it has ended |
//! | `steps.parquet`, `epochs.parquet` | the history |
//! | `curves.png` | a picture of it |
//! | `samples.png` | what the network is shown first, and what is asked of it |
//! | `checkpoint.safetensors` | what the same command goes on from |
//! | `training.yaml` | the settings, each with where it is from |

use super::{
    TrainError,
    history::{History, Table},
};
use crate::{
    model::weights::Weights,
    output::{Curve, OutputError, Panel, PlainColumn, PlainValues, write_atomically, write_plain_table, write_plot},
    pixels::RgbImage,
};
use std::path::{Path, PathBuf};

/// The files of a training.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

fn not_written(e: OutputError) -> TrainError {
    TrainError::new(e.to_string()).hint("make room or choose another `output.dir`")
}

const BLUE: [u8; 3] = [0, 114, 178];
const PALE: [u8; 3] = [150, 200, 235];
const RED: [u8; 3] = [213, 94, 0];
const GREEN: [u8; 3] = [0, 158, 115];

impl Files {
    /// Those of a directory, which is made when it is not there.
    ///
    /// # Errors
    /// A directory that cannot be made.
    pub fn new(dir: &Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(dir).map_err(|e| {
            TrainError::new(format!("output cannot be made: {e}: {}", dir.display()))
                .hint("choose another `output.dir`")
        })?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Those of a training that is only planned.
    pub(super) fn nowhere() -> Self {
        Self { dir: PathBuf::new() }
    }

    /// Keeps every other process out of the directory while the result lives; `None` when one is there already.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn lock(&self) -> Result<Option<std::fs::File>, TrainError> {
        let path = self.dir.join(".lock");
        let fail = |e: std::io::Error| TrainError::new(format!("cannot be written: {e}: {}", path.display()));
        let file = std::fs::File::create(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(e)) => Err(fail(e)),
        }
    }

    /// What a training goes on from.
    pub fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint.safetensors")
    }

    /// The best weights.
    pub fn weights(&self) -> PathBuf {
        self.dir.join("weights.safetensors")
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_settings(&self, resolved_yaml: &str) -> Result<(), TrainError> {
        write_atomically(&self.dir.join("training.yaml"), resolved_yaml.as_bytes()).map_err(not_written)
    }

    /// Writes the best weights.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_weights(&self, weights: &Weights) -> Result<(), TrainError> {
        weights.write(&self.weights()).map_err(|e| TrainError::new(e.to_string()))
    }

    /// Writes the last weights.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_last(&self, weights: &Weights) -> Result<(), TrainError> {
        weights.write(&self.dir.join("last.safetensors")).map_err(|e| TrainError::new(e.to_string()))
    }

    /// Writes the picture of the first samples.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_samples(&self, picture: &RgbImage) -> Result<(), TrainError> {
        let png = picture.png().map_err(TrainError::new)?;
        write_atomically(&self.dir.join("samples.png"), &png).map_err(not_written)
    }

    /// Writes tables and picture.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_history(&self, history: &History) -> Result<(), TrainError> {
        for (name, table) in [("steps", &history.steps), ("epochs", &history.epochs)] {
            write_plain_table(&self.dir.join(format!("{name}.parquet")), &columns(table)).map_err(not_written)?;
        }
        write_plot(&self.dir.join("curves.png"), &panels(history)).map_err(not_written)
    }
}

fn columns(table: &Table) -> Vec<PlainColumn> {
    let column = |(at, (name, meaning)): (usize, (&String, &String))| PlainColumn {
        name: name.clone(),
        unit: if name == "secs" { "s" } else { "1" },
        description: meaning.clone(),
        values: PlainValues::Number(table.column(at).into_iter().map(|v| (!v.is_nan()).then_some(v)).collect()),
    };
    table.columns.iter().zip(&table.meanings).enumerate().map(column).collect()
}

fn panels(history: &History) -> Vec<Panel> {
    let steps: Vec<(f64, f64)> = history.steps.rows().map(|row| (row[0], row[3])).collect();
    let epochs = |column: usize| history.epochs.rows().map(|row| (row[1], row[column])).collect::<Vec<_>>();
    let curve = |name: &str, color, points, is_marked| Curve { name: name.to_owned(), color, points, is_marked };
    let panel = |title: &str, curves| Panel { title: title.to_owned(), x_name: "step".to_owned(), curves };
    let rates = history.steps.rows().map(|row| (row[0], row[2])).collect();
    vec![
        panel(
            "loss",
            vec![
                curve("step", PALE, thinned(&steps), false),
                curve("training", BLUE, epochs(2), true),
                curve("validation", RED, epochs(3), true),
            ],
        ),
        panel("score on the validation split", vec![curve("score", GREEN, epochs(4), true)]),
        panel("learning rate", vec![curve("learning rate", BLUE, thinned_ends(rates), false)]),
    ]
}

/// Means of neighbours, at most a few hundred points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let known: Vec<(f64, f64)> = points.iter().filter(|p| p.1.is_finite()).copied().collect();
    let each = known.len().div_ceil(400).max(1);
    let mean = |c: &[(f64, f64)]| {
        let n = c.len() as f64;
        (c.iter().map(|p| p.0).sum::<f64>() / n, c.iter().map(|p| p.1).sum::<f64>() / n)
    };
    known.chunks(each).map(mean).collect()
}

fn thinned_ends(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(800).max(1);
    points.into_iter().step_by(each).collect()
}
