//! What did the user ask for? From YAML, command line and environment to [`settings::Settings`].
//!
//! A run is resolved in steps, one file each: [`document`] (text to a tree that knows its lines), [`layers`]
//! (environment and `--set` over the file), [`check`] (every key against the table of keys), [`defaults`] (what was
//! not said), [`schema`] (serde types, one per key), [`validate`] (what no key can tell alone), [`resolve`] (all of it).
//! Every step collects what it finds; the user sees all errors at once.

pub mod check;
pub mod defaults;
pub mod diagnostic;
pub mod document;
pub mod environment;
pub mod key;
pub mod layers;
pub mod reference;
pub mod resolve;
pub mod schema;
pub mod settings;
pub mod suggest;
pub mod validate;

pub use diagnostic::{Diagnostic, render};
pub use resolve::{Loaded, LoadedFile, LoadedTraining, load, load_file};
