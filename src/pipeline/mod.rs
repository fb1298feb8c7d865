//! In which order, on which threads? Threads, queues, and what remains of a run.

mod progress; // What does a run say of itself?
mod cancel; // How is it asked to stop?
mod setup; // What does every slide of a run share?
mod disk; // How much room will its results take?
mod pace; // How long does a tile take?
mod prepare; // What is known of a slide before its first tile?
mod job; // What may every stage know of a slide?
mod heap; // Where does freed memory go?
mod stage; // What is a step?
mod stages; // Which steps?
mod work; // What is left to do?
mod feeder; // One slide after another.
mod beat; // What goes on meanwhile?
mod run; // On which threads?
mod record; // How did a slide end?
mod manifest; // What ran?
mod report; // What does the page of a batch say of it?
mod estimate; // How much work is each slide?
mod execute; // The main job from end to end.
mod watch; // And again when slides come.
mod merge; // One result of many tasks.

pub use cancel::{CancelToken, StopReason};
pub use execute::{Part, Request, execute, find_slides};
pub use manifest::{Manifest, rfc3339};
pub use merge::{Merged, merge};
pub use pace::secs_per_tile;
pub use prepare::{SlidePlan, plan_slide};
pub use progress::{Progress, Silent, SlideEnd, SlideStatus};
pub use run::{RunContext, RunSummary, Share, SlideResult, run};
pub use setup::Setup;
pub use watch::{Round, watch};
