//! wsi-run: a directory of slides in, masks and tables out.
//!
//! Read the modules in the order of the flow; each answers one question.

#![warn(missing_docs)]

// ── ground: what everything stands on ──
pub mod error; // What can go wrong, and what can the user do?
pub mod units; // Which unit is this?
pub mod geometry; // Which coordinate space is this?
pub mod config; // What did the user ask for?

// ── flow: from slides to tables ──
pub mod slides; // Where are the pixels?
pub mod tissue; // Which of them matter?
pub mod tiling; // Which tiles are read?
pub mod pixels; // What does the model see?
pub mod kernels; // What can be done to a tensor?
pub mod model; // What does the model say?
pub mod infer; // How does it say it fast?
pub mod stitch; // How do tiles become a slide?
pub mod instances; // What is an object?
pub mod output; // Where does it go?

// ── who drives? ──
pub mod run; // Which slides are mine, and which are done?
pub mod pipeline; // In which order, on which threads?

// ── uses of the flow ──
pub mod train; // How does a model learn?
pub mod evaluate; // How good is it?
pub mod cli; // What does the user type and see?
