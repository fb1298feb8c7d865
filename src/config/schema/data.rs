//! `data`: what a network learns from.
//!
//! Owns: the keys under `data` and their types. Must not know: files, how a network learns.

use crate::config::key::Key;
use crate::config::settings;
use serde::Deserialize;

pub(super) const KEYS: &[Key] = &[Key::section("data", "what a network learns from")];

/// `data`.
///
/// ```
/// let data: wsi_run::config::schema::Data = serde_saphyr::from_str("{}")?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {}

impl Data {
    pub(super) fn into_settings(self) -> settings::Data {
        settings::Data {}
    }
}
