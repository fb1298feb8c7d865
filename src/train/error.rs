//! Why training or its data cannot be used.
//!
//! Owns: [`TrainError`]. Must not know: the terminal.

/// What failed, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TrainError {
    /// What failed, found, expected; path last.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl TrainError {
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
