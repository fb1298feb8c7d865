//! The errors that cross module boundaries, and the hint each carries for the user.
//!
//! Owns: [`SlideError`] (kept with its slide, the run goes on), [`RunError`] (stops the run), exit codes.
//! Must not know: the insides of any module. Configuration errors live in `config::diagnostic`.

use std::fmt;

/// Where in the flow something happened; the same nouns as the YAML keys and the folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// Finding and opening slides.
    Slides,
    /// Finding tissue.
    Tissue,
    /// Planning tiles.
    Tiling,
    /// Reading, resampling and stain-normalising pixels.
    Pixels,
    /// Gathering tiles into batches.
    Batch,
    /// Running the model.
    Model,
    /// Putting tile predictions together.
    Stitch,
    /// Turning head maps into instances.
    Instances,
    /// Writing results.
    Output,
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slides => "slides",
            Self::Tissue => "tissue",
            Self::Tiling => "tiling",
            Self::Pixels => "pixels",
            Self::Batch => "batch",
            Self::Model => "model",
            Self::Stitch => "stitch",
            Self::Instances => "instances",
            Self::Output => "output",
        })
    }
}

/// Why one slide failed. The slide becomes one row saying so; the other slides go on.
///
/// The message follows `what failed: what was found, what was expected`, path last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{stage}: {message}")]
pub struct SlideError {
    /// The stage that found it.
    pub stage: StageName,
    /// What failed, found, expected.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl SlideError {
    /// An error without a hint; add one with [`SlideError::hint`].
    pub fn new(stage: StageName, message: impl fmt::Display) -> Self {
        Self { stage, message: one_line(message), hint: None }
    }

    /// The same error, with advice the user can act on.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// `text` with control characters spelled out: what is told of files stands in logs, on terminals and in tables, and names
/// of strangers may hold line ends and worse.
pub fn one_line(text: impl fmt::Display) -> String {
    let text = text.to_string();
    if !text.contains(char::is_control) {
        return text;
    }
    let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(plain).collect()
}

/// Why the whole run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The model failed on a batch; a batch may mix slides and a device may be lost, so nothing after it is trusted.
    #[error("model: forward pass failed: {0}")]
    Forward(String),
    /// The output directory cannot be used.
    #[error("output: {message}")]
    Output {
        /// What failed, found, expected.
        message: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
    /// A stage panicked: a bug of ours.
    #[error("{stage} panicked: {message}")]
    Panicked {
        /// The stage that panicked.
        stage: StageName,
        /// The panic's message.
        message: String,
    },
    /// Something the run needs before any slide could not be made ready.
    #[error("{message}")]
    Setup {
        /// What failed, found, expected.
        message: String,
        /// What the user can do about it.
        hint: Option<String>,
    },
    /// Another run has the output directory.
    #[error("another run is at work in the output directory: {0}")]
    Locked(String),
    /// Nothing to do.
    #[error("no slide found: {0}")]
    NoSlide(String),
    /// The user or the scheduler asked the run to stop.
    #[error("interrupted")]
    Interrupted,
}

impl RunError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Output { hint, .. } | Self::Setup { hint, .. } => hint.as_deref(),
            Self::Locked(_) => Some(
                "wait for it, or run both with `--claim`; the lock of a process that died on another host runs out after `run.lease_secs`",
            ),
            Self::NoSlide(_) => Some(
                "paths and globs are relative to the current directory; slides are known by their extension; \
                 `slides.exclude` takes files away",
            ),
            _ => None,
        }
    }

    /// Exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setup { .. } => exit::CONFIG,
            Self::Locked(_) => exit::LOCKED,
            Self::NoSlide(_) => exit::NO_SLIDE,
            Self::Interrupted => exit::INTERRUPTED,
            _ => exit::RUN,
        }
    }
}

/// Exit codes, documented in the README and meant for scripts.
pub mod exit {
    /// Every slide is complete or has no tissue.
    pub const OK: u8 = 0;
    /// The run stopped: nothing after the error was done.
    pub const RUN: u8 = 1;
    /// The configuration or the command line is wrong; no slide was touched.
    pub const CONFIG: u8 = 2;
    /// The run finished, and at least one slide failed or lost tiles.
    pub const SLIDES: u8 = 3;
    /// No slide matched.
    pub const NO_SLIDE: u8 = 4;
    /// Nothing failed, and not every slide was run: time was up, or slides are still being written. Run again.
    pub const UNFINISHED: u8 = 5;
    /// Another run has the output directory.
    pub const LOCKED: u8 = 6;
    /// Interrupted by a signal.
    pub const INTERRUPTED: u8 = 130;
}
