//! Why something cannot be evaluated or refined.
//!
//! Owns: [`EvaluateError`]. Must not know: the terminal.

use crate::{error::RunError, output::OutputError, train::TrainError};

/// What failed, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvaluateError {
    /// What failed, found, expected; path last.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl EvaluateError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The error with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<TrainError> for EvaluateError {
    fn from(error: TrainError) -> Self {
        Self { message: error.message, hint: error.hint }
    }
}

impl From<OutputError> for EvaluateError {
    fn from(error: OutputError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<RunError> for EvaluateError {
    fn from(error: RunError) -> Self {
        Self { message: error.to_string(), hint: error.hint().map(|hint| hint.to_string()) }
    }
}
