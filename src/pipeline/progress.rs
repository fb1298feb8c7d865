//! What a run says of itself while it runs.
//!
//! Owns: [`Progress`], [`SlideEnd`]. Must not know: terminals, formats.

pub use crate::output::SlideStatus;

/// Hears what happens in a run. Called from many threads, once per batch: an implementation must be quick.
///
/// `slide` is the slide's id. For one slide the calls come in order: `slide_started`, `slide_warned` where there is
/// reason, any number of `tiles_done`, `slide_finished`; a slide that fails before its tiles are planned has only the last.
pub trait Progress: Send + Sync {
    /// The slides are known; nothing is open yet.
    fn run_started(&self, slides: u64);
    /// A slide is open and its tiles are planned.
    fn slide_started(&self, slide: &str, tiles: u64);
    /// Results of a slide are to be doubted: it does not look like what models are made for.
    fn slide_warned(&self, slide: &str, warning: &str);
    /// `tiles` more tiles are done, and `instances` more instances found (either may be 0).
    fn tiles_done(&self, slide: &str, tiles: u64, instances: u64);
    /// Nothing is to be done for a slide: it was done before, or is left for later.
    fn slide_passed(&self, slide: &str, status: SlideStatus);
    /// A slide is over, for good or bad.
    fn slide_finished(&self, end: &SlideEnd<'_>);
    /// Nothing more will come.
    fn run_finished(&self);
}

/// How a slide ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlideEnd<'a> {
    /// Its id.
    pub slide: &'a str,
    /// In one word.
    pub status: SlideStatus,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// What the user can do about it.
    pub hint: Option<&'a str>,
    /// Time from opening to the last file in place.
    pub secs: f64,
    /// Instances in its tables.
    pub instances: u64,
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn run_started(&self, _: u64) {}
    fn slide_started(&self, _: &str, _: u64) {}
    fn slide_warned(&self, _: &str, _: &str) {}
    fn tiles_done(&self, _: &str, _: u64, _: u64) {}
    fn slide_passed(&self, _: &str, _: SlideStatus) {}
    fn slide_finished(&self, _: &SlideEnd<'_>) {}
    fn run_finished(&self) {}
}
