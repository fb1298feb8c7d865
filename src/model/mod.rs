//! What does the model say? Models, their outputs, and the list of them.

mod spec;

pub use spec::{ClassInfo, Head, HeadMap, HeadSpec, Model, ModelError, ModelSpec};
