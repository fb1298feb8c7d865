//! One file per verb: what it reads, what it calls, what it prints.
//!
//! Owns: [`dispatch`]. Must not know: how anything is computed.

mod batch;
mod bench;
mod completions;
mod config;
mod convert;
mod evaluate;
mod models;
mod pipeline;
mod plan;
mod refine;
mod slide;
mod status;
mod submit;
mod train;
mod verify;

pub use pipeline::{load, noun};

use super::args::{Cli, Verb};
use super::style::Style;

/// Does what the verb says and gives the exit code.
///
/// # Errors
/// What stops the verb and has no exit code of its own: standard output that cannot be written, a file that cannot.
pub fn dispatch(cli: &Cli, style: Style) -> anyhow::Result<u8> {
    match &cli.verb {
        Verb::Config(args) => config::run(args, &cli.common, style),
        Verb::Completions(args) => completions::run(args),
        Verb::Run(args) => pipeline::run(args, &cli.common, style),
        Verb::Train(args) => Ok(train::run(args, &cli.common, style)),
        Verb::Submit(args) => submit::run(args, &cli.common, style),
        Verb::Status(args) => status::run(args, &cli.common, style),
        Verb::Merge(args) => batch::merge(args, &cli.common, style),
        Verb::Retry(args) => batch::retry(args, &cli.common, style),
        Verb::Plan(args) => plan::run(args, &cli.common, style),
        Verb::Info(args) => slide::info(args, style),
        Verb::Thumbnail(args) => slide::picture(args, style),
        Verb::Verify(args) => verify::run(args, &cli.common, style),
        Verb::Models(args) => models::run(args),
        Verb::Convert(args) => convert::run(args, &cli.common, style),
        Verb::Evaluate(args) => evaluate::run(args, &cli.common, style),
        Verb::Refine(verb) => refine::run(verb, &cli.common, style),
        Verb::Bench(args) => bench::run(args),
    }
}
