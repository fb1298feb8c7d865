//! What does the model say? Models, their outputs, and the list of them.

mod density;
mod hematoxylin;
mod registry;
mod spec;
mod stain_threshold;

pub use hematoxylin::{HEMATOXYLIN_DEFAULTS, HematoxylinModel};
pub use registry::{ModelEntry, build, catalogue};
pub use spec::{ClassInfo, Head, HeadMap, HeadSpec, Model, ModelError, ModelSpec};
pub use stain_threshold::StainThresholdModel;
