//! What a training was like, step by step and epoch by epoch.
//!
//! Owns: [`History`], [`Table`]. Must not know: formats of files.

/// Rows of numbers under names. A number that is not known is NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Names of the columns, with their units.
    pub columns: Vec<String>,
    /// Row by row.
    pub values: Vec<f64>,
}

/// Both tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// A row per step: [`STEP_COLUMNS`], then the loss of each output.
    pub steps: Table,
    /// A row per epoch: [`EPOCH_COLUMNS`], then the validation loss of each output, then metrics.
    pub epochs: Table,
}

/// First columns of the steps.
pub const STEP_COLUMNS: [&str; 6] = ["step", "epoch", "learning_rate", "loss", "gradient_norm", "secs"];
/// First columns of the epochs.
pub const EPOCH_COLUMNS: [&str; 7] = ["epoch", "step", "training_loss", "validation_loss", "score", "is_best", "secs"];

impl Table {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = String>) -> Self {
        Self { columns: columns.into_iter().collect(), values: vec![] }
    }

    /// Adds a row; what is missing is NaN.
    pub fn push(&mut self, row: impl IntoIterator<Item = f64>) {
        let before = self.values.len();
        self.values.extend(row.into_iter().take(self.columns.len()));
        self.values.resize(before + self.columns.len(), f64::NAN);
    }

    /// The rows.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[f64]> + ExactSizeIterator {
        self.values.chunks_exact(self.columns.len().max(1))
    }

    /// A column by its position.
    pub fn column(&self, at: usize) -> Vec<f64> {
        self.rows().map(|row| row[at]).collect()
    }
}

impl History {
    /// No rows yet, of a network with these outputs.
    pub fn new(outputs: &[&str], metrics: &[String]) -> Self {
        let named = |columns: &[&str]| columns.iter().map(|&c| c.to_owned()).collect::<Vec<_>>();
        let losses = |prefix: &str| outputs.iter().map(|o| format!("{prefix}loss_{o}")).collect::<Vec<_>>();
        let metrics = metrics.iter().cloned();
        Self {
            steps: Table::new(named(&STEP_COLUMNS).into_iter().chain(losses(""))),
            epochs: Table::new(named(&EPOCH_COLUMNS).into_iter().chain(losses("validation_")).chain(metrics)),
        }
    }

    /// Mean of the known losses of the steps of an epoch.
    pub fn training_loss(&self, epoch: u32) -> f64 {
        let of_epoch = self.steps.rows().rev().take_while(|row| row[1] == f64::from(epoch)).map(|row| row[3]);
        let known: Vec<f64> = of_epoch.filter(|loss| !loss.is_nan()).collect();
        known.iter().sum::<f64>() / known.len() as f64
    }
}
