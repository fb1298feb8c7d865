//! What is an object? From stitched maps to instances, and what is measured of each.

mod instance;

pub use instance::{Features, Instance, Run};
