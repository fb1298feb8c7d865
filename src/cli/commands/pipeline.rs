//! `wsi-run pipeline.yaml`: what the verbs that read a pipeline share, and the run itself.
//!
//! Owns: loading with its errors printed, exit codes of a run. Must not know: how a run is done.

use super::train;
use crate::cli::args::{self, CommonArgs, PipelineArgs, RunArgs};
use crate::cli::style::Style;
use crate::cli::{log, progress, signals};
use crate::config::settings::{ModelChoice, NetworkWeights, Settings};
use crate::config::{self, Diagnostic, Loaded, LoadedFile, suggest};
use crate::error::{RunError, exit};
use crate::model::convert::{Outputs, form};
use crate::pipeline::{self, CancelToken, Part, Request, RunContext};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Reads the pipeline, or prints everything that is wrong with it and gives the exit code.
///
/// # Errors
/// The exit code.
pub fn load(args: &PipelineArgs, common: &CommonArgs, style: Style) -> Result<Loaded, u8> {
    config::load(&args.pipeline, &args.over.as_overrides()).map_err(|found| refuse_file(args, found, common, style))
}

/// Reads a pipeline or a training file, as [`load`].
///
/// # Errors
/// The exit code.
pub(super) fn load_file(args: &PipelineArgs, common: &CommonArgs, style: Style) -> Result<LoadedFile, u8> {
    config::load_file(&args.pipeline, &args.over.as_overrides())
        .map_err(|found| refuse_file(args, found, common, style))
}

fn refuse_file(args: &PipelineArgs, mut found: Vec<Diagnostic>, common: &CommonArgs, style: Style) -> u8 {
    // A word that is no file may be a verb with a slip.
    let word = args.pipeline.to_string_lossy();
    if !args.pipeline.exists() && args.pipeline.extension().is_none() {
        let command = args::command();
        let verbs = command.get_subcommands().map(clap::Command::get_name);
        if let (Some(verb), Some(first)) = (suggest::nearest(&word, verbs), found.first_mut()) {
            first.hint = Some(format!("did you mean the verb `{verb}`?"));
        }
    }
    refuse(&found, common, style)
}

/// Prints what is wrong with a configuration and gives the exit code.
pub(super) fn refuse(found: &[Diagnostic], common: &CommonArgs, style: Style) -> u8 {
    let text = if common.log_json { as_json_lines(found) } else { style.paint(&as_text(found)) };
    // Standard error that is closed leaves the exit code.
    let _ = std::io::stderr().write_all(text.as_bytes());
    exit::CONFIG
}

fn as_text(found: &[Diagnostic]) -> String {
    let count = match found.len() {
        1 => String::new(),
        n => format!("\n{n} errors; nothing was run\n"),
    };
    format!("{}{count}", config::render(found))
}

fn as_json_lines(found: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let object = serde_json::json!({
            "event": "config_error",
            "file": d.file,
            "line": d.line,
            "column": d.column,
            "message": d.message,
            "hint": d.hint,
        });
        format!("{object}\n")
    };
    found.iter().map(line).collect()
}

/// Makes `run.threads` the threads among which everything is shared out; before anything is, once per process.
pub(super) fn use_threads(settings: &Settings) {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(settings.run.threads as usize);
    // Refused only when it was said before.
    let _ = threads.thread_name(|i| format!("shared {i}")).build_global();
}

/// What the run counts.
pub fn noun(settings: &Settings) -> &'static str {
    match &settings.model {
        ModelChoice::Hematoxylin(_) => "nuclei",
        ModelChoice::StainThreshold(_) => "lesions",
        ModelChoice::Network(m) if m.weights == NetworkWeights::Nuclei => "nuclei",
        ModelChoice::Network(m) => match m.name.as_deref().and_then(form).map(|form| form.outputs) {
            Some(Outputs::Types | Outputs::TypesOrNone) => "nuclei",
            Some(Outputs::Semantic | Outputs::One) => "lesions",
            Some(Outputs::Classes) => "tiles",
            None => "objects",
        },
    }
}

/// Prints why a run could not be done and gives the exit code.
pub fn report(error: &RunError, common: &CommonArgs, style: Style) -> u8 {
    let text = if common.log_json {
        let object = serde_json::json!({ "event": "error", "message": error.to_string(), "hint": error.hint() });
        format!("{object}\n")
    } else {
        let hint = error.hint().map_or(String::new(), |h| format!("hint: {h}\n"));
        style.paint(&format!("error: {error}\n{hint}"))
    };
    // Standard error that is closed leaves the exit code.
    let _ = std::io::stderr().write_all(text.as_bytes());
    error.exit_code()
}

/// Runs a pipeline.
///
/// # Errors
/// What stops the run.
pub(super) fn run(args: &RunArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let mut pipeline = args.pipeline.clone();
    pipeline.over.set.extend(args.watch.as_ref().map(|dir| format!("slides.dir={dir}")));
    let loaded = match load_file(&pipeline, common, style) {
        Ok(LoadedFile::Pipeline(loaded)) => loaded,
        Ok(LoadedFile::Training(_)) if args.shard.is_some() || args.claim || args.watch.is_some() => {
            anyhow::bail!("a training is not dealt out: `--shard`, `--claim` and `--watch` are for runs over slides");
        }
        Ok(LoadedFile::Training(loaded)) => return Ok(train::execute(&loaded, args.no_progress, common, style)),
        Err(code) => return Ok(code),
    };
    let part = match (args.shard, args.claim) {
        (Some(shard), _) => Part::Shard { shard, is_listed: args.listed },
        (None, true) => Part::Claim,
        (None, false) => Part::Whole,
    };
    let overrides = pipeline.over.as_overrides();
    let what = (&*pipeline.pipeline, &*loaded, &overrides[..]);
    Ok(match args.watch {
        Some(_) => watch(what, part, Duration::from_secs(args.every), common, style),
        None => execute(what, part, args.no_progress, common, style),
    })
}

/// Runs a pipeline over and over and gives the exit code.
fn watch(
    (path, loaded, overrides): (&Path, &Loaded, &[String]),
    part: Part,
    every: Duration,
    common: &CommonArgs,
    style: Style,
) -> u8 {
    use_threads(&loaded.settings);
    // Bars are for one who sits before them.
    let (progress, bars) = progress::choose(common, true, noun(&loaded.settings));
    log::start(common, bars);
    let cancel = CancelToken::default();
    signals::listen(cancel.clone(), |message| tracing::warn!("{message}"));
    let settings = &loaded.settings;
    let request = Request { config_path: path, config_text: &loaded.text, overrides, settings, part };
    let mut tell = |round: &pipeline::Round| {
        let line = serde_json::to_string(round).expect("a round has only string keys");
        // Standard output that is closed stops nothing.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    match pipeline::watch(&request, &RunContext { cancel, progress }, every, &mut tell) {
        Ok(code) => code,
        Err(error) => report(&error, common, style),
    }
}

/// Runs a part of a pipeline and gives the exit code.
pub(super) fn execute(
    (path, loaded, overrides): (&Path, &Loaded, &[String]),
    part: Part,
    no_progress: bool,
    common: &CommonArgs,
    style: Style,
) -> u8 {
    use_threads(&loaded.settings);
    let (progress, bars) = progress::choose(common, no_progress, noun(&loaded.settings));
    log::start(common, bars);
    let cancel = CancelToken::default();
    signals::listen(cancel.clone(), |message| tracing::warn!("{message}"));
    let settings = &loaded.settings;
    let request = Request { config_path: path, config_text: &loaded.text, overrides, settings, part };
    match pipeline::execute(&request, &RunContext { cancel, progress }) {
        Ok((_, code)) => code,
        Err(error) => report(&error, common, style),
    }
}
