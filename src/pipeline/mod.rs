//! Who drives? Threads, queues and stages around the folders of the flow.

pub mod progress;

pub use progress::{Progress, SlideEnd, SlideStatus};
