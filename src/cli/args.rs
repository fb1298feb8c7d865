//! What may be written on the command line.
//!
//! Owns: the clap types, help texts. Must not know: what verbs do.

pub mod evaluate;
pub mod refine;

use super::style::ColorChoice;
use crate::{config::suggest, run::Shard};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

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
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Train a network from a training file (`train` may be left out)
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(TrainArgs),
    /// Say what a run or a training would do: tiles, samples, steps, bytes
    Plan(PipelineArgs),
    /// Print every key with its default, or the resolved settings of a pipeline
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Submit a pipeline to Slurm as an array of tasks, and a job that merges them
    #[command(after_help = SUBMIT_EXAMPLES)]
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
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(ConvertArgs),
    /// Say how good a model is on images of which the truth is known
    #[command(after_help = evaluate::EXAMPLES)]
    Evaluate(evaluate::EvaluateArgs),
    /// Correct what a model is least sure of, and train on the corrections
    #[command(subcommand, after_help = refine::EXAMPLES)]
    Refine(refine::RefineVerb),
    /// Time a network alone on this machine
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Print completions for a shell
    #[command(after_help = COMPLETION_EXAMPLES)]
    Completions(CompletionsArgs),
}

/// `wsi-run models`.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelsArgs {
    /// Print the table of networks in Markdown
    #[arg(long)]
    pub markdown: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  wsi-run pipeline.yaml
  wsi-run pipeline.yaml --set tiling.stride_px=128 --set pixels.stain=macenko
  wsi-run pipeline.yaml --output /scratch/run7 --threads 16 --memory 32GiB
  wsi-run pipeline.yaml --log-json 2> run.jsonl
  wsi-run pipeline.yaml --shard 3/16              the third of sixteen parts; `wsi-run merge` when all are done
  wsi-run pipeline.yaml --claim                   on as many hosts as you like, with one output directory
  wsi-run pipeline.yaml --watch /data/incoming    slides as they come, until SIGTERM

Running it again does only what is missing or has changed: slides, settings, weights.";

const TRAIN_EXAMPLES: &str = "\
Examples:
  wsi-run train.yaml                              train, or go on where it stopped
  wsi-run train.yaml --set train.learning_rate=3e-4 --output results/rate_3e-4
  wsi-run plan train.yaml                         samples, steps, parameters, memory
  wsi-run config --training > train.yaml          every key of a training file, to start from

Ctrl-C keeps everything; the same command goes on and ends in the same weights.
DIR/weights.safetensors are the best so far: `model: { network: { weights: DIR/weights.safetensors } }`.";

const SUBMIT_EXAMPLES: &str = "\
Examples:
  wsi-run submit pipeline.yaml --tasks 16 --dry-run          print the scripts, submit nothing
  wsi-run submit pipeline.yaml --tasks 16 --cpus 8 --time 12:00:00
  wsi-run submit pipeline.yaml --tasks 16 --sbatch=--partition=long --sbatch=--gres=gpu:1
  wsi-run status results                                     while it runs";

const CONFIG_EXAMPLES: &str = "\
Examples:
  wsi-run config > pipeline.yaml                every key with its default, to start from
  wsi-run config pipeline.yaml                  every setting of that run, and where each is from
  wsi-run config pipeline.yaml --set batch.size=32
  wsi-run config --markdown                     the keys as tables";

const CONVERT_EXAMPLES: &str = "\
Examples:
  HoVer-Net, PanNuke (vqdang/hover_net, TIAToolbox)
    wsi-run convert hovernet_fast_pannuke_type_tf2pytorch.tar --model hover_net_fast --classes pannuke -o hover.safetensors
  segmentation-models-pytorch, FPN on ResNet-34
    wsi-run convert fpn.pth --model crescent_seg_net --classes crescent=#c02020 --mpp 0.5 -o crescent.safetensors
  torchvision, DenseNet-121 trained for three classes
    wsi-run convert best.pth --model crescent_dense_net --classes a=#e0b000,b=#d06000,c=#a00000 --mpp 0.5 -o net.safetensors
  timm, ConvNeXt to start HistoNeXt from
    wsi-run convert model.safetensors --model histonext_tiny --encoder-only -o encoder.safetensors
  RetCCL, ResNet-50 to start from
    wsi-run convert best_ckpt.pth --model resnet_50 --encoder-only --mpp 1 -o retccl.safetensors
  MoCo, one of two encoders
    wsi-run convert moco.pth.tar --model resnet_50 --encoder-only --prefix module.encoder_q. --mpp 0.5 -o moco.safetensors

Checkpoints are read without running anything in them. Keras (.h5) is not read.";

const BENCH_EXAMPLES: &str = "\
Examples:
  wsi-run bench hover_net_fast                  images per second with all CPUs this process may use
  wsi-run bench u_net --threads 1 --batch 1     how long one image takes on one core
  wsi-run bench stardist_unet --size 512 --plan every step: what was fused, memory, time
  wsi-run bench stardist_unet --train --batch 4 seconds per training step
  WSI_RUN_ISA=avx2 wsi-run bench resnet_50      as on a processor without AVX-512";

const COMPLETION_EXAMPLES: &str = "\
Examples:
  wsi-run completions bash > ~/.local/share/bash-completion/completions/wsi-run
  wsi-run completions zsh > ~/.zfunc/_wsi-run
  wsi-run completions fish > ~/.config/fish/completions/wsi-run.fish";

/// A pipeline file and what is said over it.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// The YAML file of the run
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// What is said over the file.
    #[command(flatten)]
    pub over: OverrideArgs,
}

/// What is said over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct OverrideArgs {
    /// Set a key over the file, for example `tiling.stride_px=128`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Directory of the results (output.dir)
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<String>,
    /// Compute threads (run.threads)
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Most memory a slide may ask for, for example 4GiB (run.memory)
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// When to end, whatever is left: 90m, 12h, or seconds (run.time_limit_secs)
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub time_limit: Option<u64>,
    /// Start no further slide after N failed ones (run.max_failures)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_failures: Option<u32>,
}

/// `90`, `90s`, `15m`, `12h`, `2d`, `1h30m`, `12:00:00` or `1-12:00:00` in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("found `{text}`, expected a time such as `90m`, `12h`, `12:00:00` or seconds");
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let mut total: u64 = days.parse::<u64>().map_err(|_| wrong())?.checked_mul(86_400).ok_or_else(wrong)?;
    if clock.contains(':') {
        let fields: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let clock = match fields[..] {
            [m, s] if s < 60 => m.checked_mul(60).and_then(|m| m.checked_add(s)),
            [h, m, s] if m < 60 && s < 60 => h.checked_mul(3600).and_then(|h| h.checked_add(m * 60 + s)),
            _ => None,
        };
        return clock.and_then(|clock| total.checked_add(clock)).filter(|&t| t > 0).ok_or_else(wrong);
    }
    let mut rest = clock;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest[digits..].chars().next() {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some(_) => return Err(wrong()),
        };
        total = number.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
        rest = rest.get(digits + 1..).unwrap_or("");
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}

impl OverrideArgs {
    /// All of it as `key.path=value`; the named options win over `--set`.
    pub fn as_overrides(&self) -> Vec<String> {
        let mut all = self.set.clone();
        all.extend(self.output.as_ref().map(|dir| format!("output.dir={dir}")));
        all.extend(self.threads.map(|threads| format!("run.threads={threads}")));
        all.extend(self.memory.as_ref().map(|memory| format!("run.memory={memory}")));
        all.extend(self.time_limit.map(|secs| format!("run.time_limit_secs={secs}")));
        all.extend(self.max_failures.map(|most| format!("run.max_failures={most}")));
        all
    }
}

/// `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Print plain lines instead of progress bars
    #[arg(long)]
    pub no_progress: bool,
    /// Run one part of the slides: the third of sixteen is `3/16`
    #[arg(long, value_name = "TASK/TASKS", conflicts_with = "claim")]
    pub shard: Option<Shard>,
    /// Deal the slides that were listed when the batch was submitted, not those there are now
    #[arg(long, requires = "shard")]
    pub listed: bool,
    /// Share the slides with any number of other processes that are given the same output directory
    #[arg(long)]
    pub claim: bool,
    /// Run the slides of a directory (slides.dir), and again whenever some come or change, until a signal ends it; a
    /// line of JSON on standard output tells of each round
    #[arg(long, value_name = "DIR", conflicts_with = "shard")]
    pub watch: Option<String>,
    /// How often a watched directory is looked at: 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = seconds, requires = "watch")]
    pub every: u64,
}

/// `train`.
#[derive(Debug, Clone, Args)]
pub struct TrainArgs {
    /// Which training.
    #[command(flatten)]
    pub training: PipelineArgs,
    /// Print plain lines instead of a progress bar
    #[arg(long)]
    pub no_progress: bool,
}

/// `submit`.
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// Which pipeline.
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Tasks of the array
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tasks: u32,
    /// CPUs per task
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cpus: u32,
    /// Memory per task as Slurm writes it, for example 16G; default: what the plan needs
    #[arg(long, value_name = "MEMORY")]
    pub mem: Option<String>,
    /// Time limit of a task; a task whose time is up is queued again and goes on. Default: three times what the largest
    /// task would take on this machine, half an hour at least; with --gpus or --unopened 12:00:00
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub time: Option<u64>,
    /// Seconds before the limit at which a task stops and saves what it has
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(10..=3600))]
    pub grace: u32,
    /// GPUs per task
    #[arg(long, value_name = "N")]
    pub gpus: Option<u32>,
    /// Another option for sbatch, for example `--sbatch=--partition=long`; may be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Deal slides by the size of their files instead of their tissue, without opening them; needs `--mem`
    #[arg(long, requires = "mem")]
    pub unopened: bool,
    /// Print the scripts and submit nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The output directory of the batch
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `merge`.
#[derive(Debug, Clone, Args)]
pub struct DirArgs {
    /// The output directory of the batch
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// The output directory of the batch
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Set a key over those of the batch, for example `run.memory=32GiB`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print plain lines instead of progress bars
    #[arg(long)]
    pub no_progress: bool,
}

/// `config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The YAML file of the run; without it, every key is printed with its default
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<PathBuf>,
    /// What is said over the file.
    #[command(flatten)]
    pub over: OverrideArgs,
    /// Print the keys as Markdown tables
    #[arg(long, conflicts_with = "pipeline")]
    pub markdown: bool,
    /// Print the keys of a training file
    #[arg(long, conflicts_with_all = ["pipeline", "markdown"])]
    pub training: bool,
}

/// `info`.
#[derive(Debug, Clone, Args)]
pub struct InfoArgs {
    /// The slide
    #[arg(value_name = "SLIDE")]
    pub slide: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `thumbnail`.
#[derive(Debug, Clone, Args)]
pub struct ThumbnailArgs {
    /// The slide
    #[arg(value_name = "SLIDE")]
    pub slide: PathBuf,
    /// The PNG to write; default: the name of the slide with .png, in the current directory
    #[arg(short, long, value_name = "PNG")]
    pub output: Option<PathBuf>,
    /// Longest side of the picture, px
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=16384))]
    pub max_px: u32,
}

/// `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The directory of a run, where run.json is
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `convert`.
#[derive(Debug, Clone, Args)]
pub struct ConvertArgs {
    /// The checkpoint: .pth, .pt, .tar, .bin of PyTorch (any version), or .safetensors
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The network it was trained as; `wsi-run models` lists them
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// The weights to write
    #[arg(short, long, value_name = "SAFETENSORS")]
    pub output: PathBuf,
    /// Classes in the order of the network's outputs, background left out: `tumour=#c02020,stroma=#20c020`, or a built-in
    /// set: pannuke, consep, monusac, kumar (nuclei without types)
    #[arg(long, value_name = "CLASSES", conflicts_with = "encoder_only")]
    pub classes: Option<String>,
    /// Classes from a `type_info.json` of HoVer-Net
    #[arg(long, value_name = "JSON", conflicts_with_all = ["classes", "encoder_only"])]
    pub classes_from: Option<PathBuf>,
    /// Resolution of the training images, µm/px; needed where the network has none of its own
    #[arg(long, value_name = "MPP")]
    pub mpp: Option<f64>,
    /// Normalisation of the training images: imagenet, unit (0–1), or `mean,mean,mean/std,std,std`; default: the
    /// network's own
    #[arg(long, value_name = "NAME")]
    pub normalisation: Option<String>,
    /// Licence of the weights, as their authors state it
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub licence: String,
    /// Data the weights were trained on
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub training_data: String,
    /// Take the encoder's tensors alone, to start a training from
    #[arg(long)]
    pub encoder_only: bool,
    /// Which dict of the checkpoint holds the tensors; state_dict, model, net, desc and the like are found without
    #[arg(long, value_name = "KEY")]
    pub entry: Option<String>,
    /// Take only tensors whose names start so, and take it off; module. and the like are found without
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
}

/// `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The network, as `wsi-run models` lists it
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Threads; default: WSI_RUN_THREADS, else the CPUs this process may use
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Images of a batch; default: as many as threads
    #[arg(short, long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// Side of the images; default: that of the network's paper
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub size: Option<u32>,
    /// Precision of products
    #[arg(long, value_enum, default_value_t, value_name = "P")]
    pub precision: BenchPrecision,
    /// Weights; default: values computed from the tensors' names
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// How long to measure after warming up
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub secs: f64,
    /// Print every step of the plan and how long it takes
    #[arg(long)]
    pub plan: bool,
    /// Time training steps: forward, backward, Adam; in single precision
    #[arg(long, conflicts_with_all = ["plan", "precision"])]
    pub train: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Precision of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BenchPrecision {
    /// Single precision
    #[default]
    F32,
    /// Factors rounded to bfloat16 where the processor multiplies them
    Bf16,
    /// bf16 where the processor multiplies it, else f32
    Auto,
}

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
