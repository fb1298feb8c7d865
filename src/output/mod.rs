//! Where does it go? Masks, tables, pictures; written aside, then renamed.

mod sink;
mod life; // Whose is it?
mod commit; // Written aside, then renamed.
mod shard; // One file of many chunks.
mod zarr_array; // One array on disk.
mod assembly; // Parts in any order become whole chunks.
mod pyramid; // An array and its coarser levels.
mod ome_zarr; // What stands around the arrays.
mod record; // An instance as bytes.
mod spool; // Instances into their canonical order.
mod journal; // Finished parts outlive the process.
mod paint; // Instances into masks.
mod columns; // What the tables say.
mod parquet; // Tables of instances.
mod geojson; // For QuPath.
mod text; // Letters on pictures.
mod shape; // Rectangles on pictures.
mod legend; // Its numbers in words.
mod overview; // The picture of a slide.
mod slide; // Everything written for one slide.
mod slides_table; // One row per slide of a run.
mod plot; // Curves as a picture.
mod report; // The batch on one page.
mod verify; // Do outputs agree?
mod read_back; // Results read again.
mod plain_table; // Small tables.

pub use commit::{PARTIAL_DIR, is_plain_name, sweep, sweep_aside, unique_token, write_atomically, write_whole};
pub use life::{is_over, life_of};
pub use plain_table::{PlainColumn, PlainValues, write_plain_table};
pub use plot::{Curve, Panel, write_plot};
pub use read_back::{ClassMask, NucleusRow, Results};
// For those who feed it strange bytes; nobody else reads a journal but the writer of its slide.
#[doc(hidden)]
pub use journal::replay as replay_journal;
pub use report::{ReportRun, ReportSlide, write_report};
pub use sink::{Artifact, Committed, OutputError, ResultKind, SlideHeader, SlidePart};
pub use slide::{SlideWriter, TakeClassRow};
pub use slides_table::{SlideRecord, SlideStatus, write_slides_table};
pub use verify::{SlideFindings, VerifyReport, verify};
