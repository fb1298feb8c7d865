//! What a training was like, step by step and epoch by epoch.
//!
//! Owns: [`History`], [`Table`]. Must not know: formats of files.

/// Rows of numbers under names. A number that is not known is NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Names of the columns, with their units.
    pub columns: Vec<String>,
    /// What each column means.
    pub meanings: Vec<String>,
    /// Row by row.
    pub values: Vec<f64>,
}

/// Both tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// A row per step: its loss, then that of each output.
    pub steps: Table,
    /// A row per epoch: its losses, then the validation loss of each output, then metrics.
    pub epochs: Table,
}

/// First columns of the steps, with their meanings.
const STEP_COLUMNS: [(&str, &str); 6] = [
    ("step", "steps so far"),
    ("epoch", "epoch it belongs to, from 0"),
    ("learning_rate", "learning rate of the step"),
    ("loss", "loss of the batch; null where nothing was known of it"),
    ("gradient_norm", "length of the gradient over all weights, before it is shortened"),
    ("secs", "wall-clock seconds of the training so far"),
];
/// First columns of the epochs, with their meanings.
const EPOCH_COLUMNS: [(&str, &str); 7] = [
    ("epoch", "number of the epoch, from 0"),
    ("step", "steps so far"),
    ("training_loss", "mean loss of the epoch's steps"),
    ("validation_loss", "loss on the validation split"),
    ("score", "score of the network's task on the validation split"),
    ("is_best", "1 where the weights were the best so far, else 0"),
    ("secs", "wall-clock seconds of the training so far"),
];

impl Table {
    /// A table without rows; of columns, their names and meanings.
    pub fn new(columns: impl IntoIterator<Item = (String, String)>) -> Self {
        let (columns, meanings) = columns.into_iter().unzip();
        Self { columns, meanings, values: vec![] }
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
        let owned = |&(name, meaning): &(&str, &str)| (name.to_owned(), meaning.to_owned());
        let losses = |prefix: &str, of: &str| -> Vec<(String, String)> {
            outputs.iter().map(|o| (format!("{prefix}loss_{o}"), format!("loss of output {o}{of}"))).collect()
        };
        let validation = " on the validation split";
        let metrics = metrics.iter().map(|name| (name.clone(), format!("{name}{validation}")));
        let epochs = EPOCH_COLUMNS.iter().map(owned).chain(losses("validation_", validation)).chain(metrics);
        Self { steps: Table::new(STEP_COLUMNS.iter().map(owned).chain(losses("", ""))), epochs: Table::new(epochs) }
    }

    /// Mean of the known losses of the steps of an epoch.
    pub fn training_loss(&self, epoch: u32) -> f64 {
        let of_epoch = self.steps.rows().rev().take_while(|row| row[1] == f64::from(epoch)).map(|row| row[3]);
        let known: Vec<f64> = of_epoch.filter(|loss| !loss.is_nan()).collect();
        known.iter().sum::<f64>() / known.len() as f64
    }
}
