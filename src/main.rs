//! Parse, dispatch, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(wsi_run::cli::main(std::env::args_os()))
}
