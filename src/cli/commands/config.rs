//! `wsi-run config`: every key with its default, or the resolved settings of a pipeline.
//!
//! Owns: the verb. Must not know: what keys mean.

use super::pipeline::load_file;
use crate::cli::args::{CommonArgs, ConfigArgs, PipelineArgs};
use crate::cli::style::Style;
use crate::config::LoadedFile;
use crate::config::reference::{all_keys_yaml, all_training_keys_yaml, keys_markdown};
use crate::error::exit;
use std::io::Write;

/// Prints the keys or the settings.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn run(args: &ConfigArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let text = match &args.pipeline {
        Some(pipeline) => {
            let args = PipelineArgs { pipeline: pipeline.clone(), over: args.over.clone() };
            match load_file(&args, common, style) {
                Ok(LoadedFile::Pipeline(loaded)) => loaded.resolved_yaml,
                Ok(LoadedFile::Training(loaded)) => loaded.resolved_yaml,
                Err(code) => return Ok(code),
            }
        }
        None if !args.over.as_overrides().is_empty() => {
            let text =
                "error: no pipeline to set keys over: expected a file\nhint: `wsi-run config pipeline.yaml --set …`\n";
            std::io::stderr().write_all(style.paint(text).as_bytes())?;
            return Ok(exit::CONFIG);
        }
        None if args.markdown => keys_markdown(),
        None if args.training => all_training_keys_yaml(),
        None => all_keys_yaml(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(exit::OK)
}
