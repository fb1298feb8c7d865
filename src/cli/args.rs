//! What may be written on the command line.
//!
//! Owns: [`Cli`], [`Verb`], what every verb may be told; a verb's own is in a file of its name. Must not know: what verbs
//! do.

mod batch;
mod bench;
mod config;
mod convert;
pub mod evaluate;
mod pipeline;
pub mod refine;
mod run;
mod slide;
mod time;
mod train;

pub use batch::{DirArgs, RetryArgs, StatusArgs, SubmitArgs, VerifyArgs};
pub use bench::{BenchArgs, BenchPrecision};
pub use config::ConfigArgs;
pub use convert::ConvertArgs;
pub use pipeline::{OverrideArgs, PipelineArgs};
pub use run::RunArgs;
pub use slide::{InfoArgs, ThumbnailArgs};
pub use train::TrainArgs;

use super::style::ColorChoice;
use crate::config::suggest;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;

/// A directory of whole-slide images in, masks and tables out.
#[derive(Debug, Parser)]
#[command(
    name = "wsi-run",
    version,
    about = "A directory of whole-slide images in; masks (OME-Zarr), tables (Parquet) and pictures out.\n\n\
        One YAML file is a run: `wsi-run pipeline.yaml`. `wsi-run config` prints a file with every key.",
    override_usage = "wsi-run [OPTIONS] PIPELINE.yaml\n       wsi-run [OPTIONS] <COMMAND>",
    after_help = EXAMPLES,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The verb; `run` when the first word is a file.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  wsi-run pipelines/quickstart.yaml                       a first run, nothing to download
  wsi-run nuclei.yaml --set slides.dir=/data/slides       the same pipeline on other slides
  wsi-run plan nuclei.yaml                                what would be done, and how much memory and disk it takes
  wsi-run config > pipeline.yaml                          every key with its default, unit and meaning
  wsi-run info slide.svs                                  size, levels, resolution, properties

Exit codes:
  0  every slide is complete            4  no slide matched
  1  the run stopped                    5  not every slide was run: time was up, or a slide is still being copied
  2  configuration or command line      6  another run is at work in the output directory
  3  at least one slide failed        130  interrupted
After 1, 5 and 130 the same command goes on where it stopped.";

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Say less: only errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more: -v what is done, -vv details, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Print progress and messages as one JSON object per line
    #[arg(long, global = true, help_heading = "Global options")]
    pub log_json: bool,
    /// When to use colour: auto, always, never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
}

/// The verbs.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Run a pipeline (`run` may be left out)
    #[command(after_help = run::EXAMPLES)]
    Run(RunArgs),
    /// Train a network from a training file (`train` may be left out)
    #[command(after_help = train::EXAMPLES)]
    Train(TrainArgs),
    /// Say what a run or a training would do: tiles, samples, steps, bytes
    Plan(PipelineArgs),
    /// Print every key with its default, or the resolved settings of a pipeline
    #[command(after_help = config::EXAMPLES)]
    Config(ConfigArgs),
    /// Submit a pipeline to Slurm as an array of tasks, and a job that merges them
    #[command(after_help = batch::EXAMPLES)]
    Submit(SubmitArgs),
    /// Say how far a batch is: done, failed and why, running where, rate, time left
    Status(StatusArgs),
    /// Check that the shards of a batch are complete and disjoint, and write slides.parquet and report.html
    Merge(DirArgs),
    /// Run again what failed or lost tiles
    Retry(RetryArgs),
    /// Describe a slide: size, levels, resolution and where it is from, properties
    Info(InfoArgs),
    /// Write a picture of a slide
    Thumbnail(ThumbnailArgs),
    /// Check that the outputs of a run agree with each other and with its manifest
    Verify(VerifyArgs),
    /// List the models, and what networks cost
    Models(ModelsArgs),
    /// Make weights from a checkpoint of PyTorch or from safetensors
    #[command(after_help = convert::EXAMPLES)]
    Convert(ConvertArgs),
    /// Say how good a model is on images of which the truth is known
    #[command(after_help = evaluate::EXAMPLES)]
    Evaluate(evaluate::EvaluateArgs),
    /// Correct what a model is least sure of, and train on the corrections
    #[command(subcommand, after_help = refine::EXAMPLES)]
    Refine(refine::RefineVerb),
    /// Time a network alone on this machine
    #[command(after_help = bench::EXAMPLES)]
    Bench(BenchArgs),
    /// Print completions for a shell
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completions(CompletionsArgs),
}

/// `models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Print the table of networks in Markdown
    #[arg(long)]
    pub markdown: bool,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  wsi-run completions bash > ~/.local/share/bash-completion/completions/wsi-run
  wsi-run completions zsh > ~/.zfunc/_wsi-run
  wsi-run completions fish > ~/.config/fish/completions/wsi-run.fish";

/// `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The clap command, with its own `help` verb in place.
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// `arguments` with `run` put in front of the first word when that is no verb.
///
/// Values of options (`--threads 4 pipeline.yaml`) are not taken for words: which options have one, clap knows.
pub fn with_implied_run(command: &clap::Command, arguments: Vec<OsString>) -> Vec<OsString> {
    let is_verb = |word: &str| command.find_subcommand(word).is_some();
    let run = command.find_subcommand("run");
    let options: Vec<&clap::Arg> =
        command.get_arguments().chain(run.into_iter().flat_map(clap::Command::get_arguments)).collect();
    let takes_value = |word: &str| {
        options.iter().any(|arg| {
            let long = word.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
            let short = word.strip_prefix('-').is_some_and(|name| {
                !name.starts_with('-') && name.chars().last() == arg.get_short() && arg.get_short().is_some()
            });
            (long || short) && arg.get_action().takes_values()
        })
    };
    let mut at = 1;
    while let Some(word) = arguments.get(at) {
        let text = word.to_string_lossy();
        if text == "--" || !text.starts_with('-') || text == "-" {
            break;
        }
        at += if takes_value(&text) { 2 } else { 1 };
    }
    let mut arguments = arguments;
    match arguments.get(at) {
        // A slip in a verb that has words of its own is told as one.
        Some(word) if arguments.len() > at + 1 && is_near_verb(command, word) => arguments,
        Some(word) if !is_verb(&word.to_string_lossy()) => {
            // In front of everything: `--set` in front of the file belongs to `run` too.
            arguments.insert(1, "run".into());
            arguments
        }
        _ => arguments,
    }
}

/// Whether `word` is no file and no verb, but nearly one.
fn is_near_verb(command: &clap::Command, word: &std::ffi::OsStr) -> bool {
    let (text, path) = (word.to_string_lossy(), std::path::Path::new(word));
    let verbs = || command.get_subcommands().map(clap::Command::get_name);
    let is_word = path.extension().is_none() && !path.exists() && verbs().all(|verb| verb != text);
    is_word && suggest::nearest(&text, verbs()).is_some()
}
