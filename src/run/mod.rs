//! Which slides are mine, and which are already done? What runs leave for each other in the output directory.

mod fingerprint; // Is a result still of this slide and these settings?
mod place; // Is the output directory still there?
mod state; // What became of each slide?
mod list; // Which slides does a batch have?
mod estimate; // How much work is each of them?
mod shard; // Which of them are this task's?
mod claim; // Who works on what?
mod workers; // How far is everybody?

pub use claim::{Claim, Claims, Owner, Taking};
pub use estimate::{Estimates, WorkEstimate, in_one_unit};
pub use fingerprint::{Fingerprint, OUTPUT_VERSION, SettingsDigest};
pub use list::{ListedSlide, SlideList};
pub use place::OutputPlace;
pub use shard::{Shard, deal};
pub use state::{SlideState, StateDir};
pub use workers::{SlideInWork, Worker};
