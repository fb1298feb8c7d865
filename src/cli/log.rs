//! Messages of the library, to standard error.
//!
//! Owns: [`start`]. Must not know: who says what.

use super::args::CommonArgs;
use indicatif::MultiProgress;
use std::io::Write;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Sends messages from here on to standard error: warnings, and more with `-v`, less with `-q`.
///
/// `bars` are lifted while a message is printed. Has no effect when messages already go somewhere.
pub fn start(common: &CommonArgs, bars: Option<MultiProgress>) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        (_, 2) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(Above { bars });
    // A second start in one process, as in tests, keeps the first.
    let _ = if common.log_json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.without_time().with_target(common.verbose > 1).with_ansi(false).try_init()
    };
}

/// Writes above the progress bars.
struct Above {
    bars: Option<MultiProgress>,
}

impl<'a> MakeWriter<'a> for Above {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bars: self.bars.as_ref() }
    }
}

/// One message.
struct Line<'a> {
    bars: Option<&'a MultiProgress>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let print = || std::io::stderr().write_all(bytes).map(|()| bytes.len());
        match self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
