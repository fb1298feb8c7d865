//! Where does it go? Masks, tables, pictures; written aside, then renamed.

mod sink;

pub use sink::{Artifact, OutputError, SlideHeader};
