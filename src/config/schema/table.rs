//! The keys that one kind of file may hold.
//!
//! Owns: [`Table`]. Must not know: which keys there are.

use crate::config::key::Key;

/// Every key of a kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Keys of its sections, sections before what is in them.
    pub(super) parts: &'static [&'static [Key]],
    /// The section in which one of several alternatives must be said, and how to say one.
    pub(super) source: Option<(&'static str, &'static str)>,
}

impl Table {
    /// Every key, sections before what is in them, in the order of the flow.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone + use<> {
        self.parts.iter().copied().flatten()
    }

    /// The key of a dotted path.
    pub fn find(&self, path: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.is_at(path))
    }

    /// The keys that stand directly in a section; the sections themselves for `""`.
    pub fn children<'a>(&self, section: &'a str) -> impl Iterator<Item = &'static Key> + Clone + use<'a> {
        self.keys().filter(move |key| key.is_in(section))
    }

    /// The section in which one of several alternatives must be said whatever the rest, and how to say one.
    pub fn source(&self) -> Option<(&'static str, &'static str)> {
        self.source
    }
}
