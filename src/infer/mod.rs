//! Networks compiled for inference.
//!
//! Owns: how a network runs fast. Must not know: slides, training.

pub mod cpu;
