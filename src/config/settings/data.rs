//! What a network learns from, as plain data.
//!
//! Owns: [`Data`]. Must not know: files, how a network learns.

use serde::Serialize;

/// What a network learns from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Data {}
