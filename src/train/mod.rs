//! How does a model learn? Data sets, augmentation, targets, losses, the loop.

pub mod augment;
mod batch;
mod checkpoint;
pub mod class_tree;
pub mod data;
mod ema;
mod error;
mod gradient;
mod history;
mod learner;
mod loader;
pub mod loss;
pub mod optimiser;
mod outcome;
mod picture;
mod progress;
pub mod rng;
pub mod sample;
pub mod schedule;
mod setup;
mod start;
pub mod target;
mod trainer;
mod validation;

pub use batch::{Batch, BatchMaker};
pub use checkpoint::Checkpoint;
pub use error::TrainError;
pub use history::{History, Table};
pub use learner::{Learner, StepResult};
pub use loader::Readers;
pub use outcome::Files;
pub use progress::{TrainEvent, TrainProgress};
pub use setup::{Setup, Watch};
pub use trainer::{Judge, Outcome, Trainer};
