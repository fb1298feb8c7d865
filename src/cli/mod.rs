//! The command line: parse, dispatch, print, exit code.
//!
//! Owns: [`main`], everything printed. Must not know: how anything is computed. The only user of clap and anyhow.

pub mod amount;
pub mod args;
pub mod commands;
pub mod log;
pub mod progress;
pub mod signals;
pub mod style;

use crate::error::exit;
use args::Cli;
use clap::{FromArgMatches, error::ErrorKind};
use std::ffi::OsString;
use std::io::Write;

/// Runs the program with `arguments` (the program's name first) and gives its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let command = args::command();
    let arguments = args::with_implied_run(&command, arguments.into_iter().collect());
    let matches = command.try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure. A closed pipe is none of ours.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::OK,
                _ => exit::CONFIG,
            };
        }
    };
    let style = style::Style::of_stderr(cli.common.color);
    match commands::dispatch(&cli, style) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => exit::OK,
        Err(error) => {
            let message = match cli.common.log_json {
                true => format!("{}\n", serde_json::json!({ "event": "error", "message": format!("{error:#}") })),
                false => style.paint(&format!("error: {error:#}\n")),
            };
            let _ = std::io::stderr().write_all(message.as_bytes());
            exit::RUN
        }
    }
}

/// `wsi-run config | head` ends the reader first; that is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
