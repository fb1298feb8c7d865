//! `wsi-run evaluate`: how good a model is on images of which the truth is known.
//!
//! Owns: the verb, the table it prints. Must not know: how anything is measured.

use super::pipeline::{refuse, use_threads};
use crate::{
    cli::{
        args::{
            CommonArgs,
            evaluate::{EvaluateArgs, MeasureArgs, Resample},
        },
        style::Style,
    },
    config::{
        self, LoadedFile,
        environment::Environment,
        settings::{Settings, Training},
    },
    error::exit,
    evaluate::{
        Before, EvaluateError, Evaluation, FolderCases, Judged, Options, OrganPredictor, ResultsJudge, SampleCases,
        TrueCases, TruthKind, evaluate,
    },
    model::{ClassInfo, convert::parse_classes},
    train::{
        class_tree::{ClassNode, ClassTree},
        data::build,
    },
    units::Mpp,
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Why the verb ends early.
pub(super) enum Stop {
    /// The command line or configuration makes no sense, and this was printed already.
    Refused(u8),
    /// Something could not be done.
    Failed(EvaluateError),
}

impl From<crate::train::TrainError> for Stop {
    fn from(error: crate::train::TrainError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<EvaluateError> for Stop {
    fn from(error: EvaluateError) -> Self {
        Self::Failed(error)
    }
}

/// Evaluates, writes, prints; exit code 2 for a configuration that makes no sense, 1 for what cannot be read or run.
///
/// # Errors
/// Standard output that cannot be written.
pub(super) fn run(args: &EvaluateArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    match evaluated(args, common, style) {
        Ok(evaluations) => {
            for (evaluation, dir) in &evaluations {
                print(evaluation, dir, common)?;
            }
            Ok(exit::OK)
        }
        Err(stop) => Ok(failed(stop, common, style)),
    }
}

/// What says something of images, as the command line names it.
pub(super) struct Judge<'a> {
    pub model: Option<&'a str>,
    pub weights: Option<&'a Path>,
    pub pipeline: Option<&'a Path>,
    pub set: &'a [String],
}

/// Prints why the verb ends early, if it was not printed already, and gives the exit code.
pub(super) fn failed(stop: Stop, common: &CommonArgs, style: Style) -> u8 {
    match stop {
        Stop::Refused(code) => code,
        Stop::Failed(error) => report(&error, common, style),
    }
}

/// A set of images and its name.
type Named = (String, Box<dyn TrueCases>);

/// Every set of images, and where its evaluation is.
fn evaluated(args: &EvaluateArgs, common: &CommonArgs, style: Style) -> Result<Vec<(Evaluation, PathBuf)>, Stop> {
    let training = args.training.as_deref().map(|path| training(path, common, style)).transpose()?;
    let (judged, model) = judged(args, common, style)?;
    let sets: Vec<Named> = match training {
        Some(training) => kept_back(&training, args.mpp, &judged)?,
        None => vec![(String::new(), Box::new(cases(args)?))],
    };
    let several = sets.len() > 1;
    let mut done = Vec::new();
    for (set, truth) in sets {
        let images = args.training.as_ref().or(args.images.as_ref()).map_or(String::new(), |p| p.display().to_string());
        let part = args.list.as_ref().map(|l| l.display().to_string()).or((!set.is_empty()).then(|| set.clone()));
        let data = part.map_or(images.clone(), |part| format!("{images} ({part})"));
        let within = |dir: &Path| if several { dir.join(&set) } else { dir.to_owned() };
        let before = args.before.as_deref().map(|dir| Before::read(&within(dir))).transpose()?;
        let options = Options { before, ..options(&args.how, model.clone(), data) };
        let (seen, count) = (AtomicUsize::new(0), truth.len());
        let progress = |n: usize| {
            let done = seen.fetch_add(n, Ordering::Relaxed) + n;
            tracing::debug!(done, count, "image evaluated");
        };
        let evaluation = evaluate(&*truth, &judged, &options, &progress)?;
        let dir = within(&args.output);
        evaluation.write(&dir, &*truth, &judged)?;
        done.push((evaluation, dir));
    }
    Ok(done)
}

fn training(path: &Path, common: &CommonArgs, style: Style) -> Result<Training, Stop> {
    match config::load_file(path, &[]) {
        Ok(LoadedFile::Training(loaded)) => Ok(loaded.settings),
        Ok(LoadedFile::Pipeline(_)) => {
            let message = format!("it is a pipeline, expected a training file: {}", path.display());
            Err(EvaluateError::new(message).hint("evaluate it with `--pipeline`, on images of `--images`").into())
        }
        Err(found) => Err(Stop::Refused(refuse(&found, common, style))),
    }
}

/// The pictures a training keeps back, by set; those without any are left out.
fn kept_back(training: &Training, mpp: Option<f64>, judged: &Judged) -> Result<Vec<Named>, EvaluateError> {
    let of_model = match judged {
        Judged::Model(model) => Some(model.plain().setup().input_mpp),
        Judged::Results(_) => None,
    };
    let mpp = mpp.and_then(Mpp::new).or(training.model.input_mpp).or(of_model).ok_or_else(|| {
        EvaluateError::new("no resolution is known to bring the pictures to").hint("state it with `--mpp`")
    })?;
    let mut organs = vec!["any".to_owned()];
    for organ in training.data.sets.iter().filter_map(|set| set.organ.clone()) {
        if !organs.contains(&organ) {
            organs.push(organ);
        }
    }
    let names: Vec<&str> = organs.iter().map(String::as_str).collect();
    let sets = build(&training.data, mpp, &names)?;
    let mut found: Vec<Named> = Vec::new();
    for (name, samples) in sets.validation_pictures {
        if !samples.is_empty() {
            found.push((name, Box::new(SampleCases::new(samples, sets.tree.clone(), organs.clone()))));
        }
    }
    if found.is_empty() {
        return Err(EvaluateError::new("the training keeps no picture back").hint("see `data.split`"));
    }
    Ok(found)
}

/// What is said of measuring.
fn options(how: &MeasureArgs, model: String, data: String) -> Options {
    Options {
        model,
        data,
        radius_um: how.radius_um,
        draws: how.draws,
        level: how.level,
        seed: how.seed,
        by_patient: how.resample == Resample::Patient,
        mpp: None,
        before: None,
    }
}

fn cases(args: &EvaluateArgs) -> Result<FolderCases, EvaluateError> {
    let kinds =
        [(&args.dots, TruthKind::Dots), (&args.instances, TruthKind::Instances), (&args.masks, TruthKind::Masks)];
    let (dir, kind) = kinds
        .into_iter()
        .find_map(|(dir, kind)| Some((dir.as_deref()?, kind)))
        .expect("clap asks for one of the group");
    let (images, mpp) = args.images.as_deref().zip(args.mpp).expect("clap asks for both");
    if Mpp::new(mpp).is_none() {
        return Err(EvaluateError::new(format!("`--mpp` is `{mpp}`, expected a number above 0")));
    }
    let nodes = classes(&args.classes)?.into_iter().map(|class| ClassNode { class, parent: None }).collect();
    let tree = ClassTree::new(nodes).map_err(EvaluateError::new)?;
    let cases = FolderCases::new(images, (dir, kind), (tree, mpp), args.list.as_deref())?;
    match &args.groups {
        Some(csv) => cases.with_groups(csv),
        None => Ok(cases),
    }
}

/// Classes by name, with colours or without, or a built-in set.
fn classes(text: &str) -> Result<Vec<ClassInfo>, EvaluateError> {
    let colored = |name: &str| if name.contains('=') { name.to_owned() } else { format!("{name}=#808080") };
    let with_colors: Vec<String> = text.split(',').map(colored).collect();
    parse_classes(text).or_else(|_| parse_classes(&with_colors.join(","))).map_err(EvaluateError::new)
}

/// What is evaluated, and its name.
fn judged(args: &EvaluateArgs, common: &CommonArgs, style: Style) -> Result<(Judged, String), Stop> {
    if let Some(dir) = &args.results {
        return Ok((Judged::Results(ResultsJudge::open(dir)?), dir.display().to_string()));
    }
    let judge = Judge {
        model: args.model.as_deref(),
        weights: args.weights.as_deref(),
        pipeline: args.pipeline.as_deref(),
        set: &args.set,
    };
    let (settings, name) = settings(&judge, common, style)?;
    use_threads(&settings);
    Ok((Judged::Model(Box::new(OrganPredictor::new(&settings)?)), name))
}

/// The settings a model is asked with, and its name.
pub(super) fn settings(judge: &Judge<'_>, common: &CommonArgs, style: Style) -> Result<(Settings, String), Stop> {
    let refused = |found: Vec<config::Diagnostic>| Stop::Refused(refuse(&found, common, style));
    if let Some(path) = judge.pipeline {
        let loaded = config::load(path, judge.set).map_err(refused)?;
        return Ok((loaded.settings, path.display().to_string()));
    }
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (model, name) = match (judge.model, judge.weights) {
        (Some("nuclei"), _) => ("network: { weights: nuclei }".to_owned(), "nuclei".to_owned()),
        (Some(name), _) => (format!("{}: {{}}", quoted(name)), name.to_owned()),
        (None, Some(path)) => {
            let path = path.display().to_string();
            (format!("network: {{ weights: {} }}", quoted(&path)), path)
        }
        (None, None) => unreachable!("clap asks for one of the group"),
    };
    let text = format!("slides: {{ dir: . }}\nmodel: {{ {model} }}\n");
    let loaded = config::resolve::load_text("command line", &text, judge.set, &Environment::read()).map_err(refused)?;
    Ok((loaded.settings, name))
}

/// Prints what was measured and where the page is.
fn print(evaluation: &Evaluation, dir: &Path, common: &CommonArgs) -> std::io::Result<()> {
    if common.quiet {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} on {}", evaluation.model, evaluation.data)?;
    writeln!(out, "{}", evaluation.sentence())?;
    if let Some(words) = evaluation.change_sentence() {
        writeln!(out, "{words}")?;
    }
    let of = |m: &crate::evaluate::Measure| {
        let of = [m.class.as_deref(), m.organ.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(", ");
        if of.is_empty() { m.name.to_owned() } else { format!("{} [{of}]", m.name) }
    };
    let width = evaluation.measures.iter().map(|m| of(m).chars().count()).max().unwrap_or(0);
    for m in &evaluation.measures {
        let value = m.value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"));
        let interval = m.interval.map_or_else(String::new, |i| format!("  {:.3} – {:.3}", i.low, i.high));
        writeln!(out, "  {:width$}  {value}{interval}", of(m))?;
    }
    writeln!(out, "{}", dir.join("report.html").display())
}

/// Prints why it could not be done and gives the exit code.
fn report(error: &EvaluateError, common: &CommonArgs, style: Style) -> u8 {
    let text = if common.log_json {
        format!("{}\n", serde_json::json!({ "event": "error", "message": error.message, "hint": error.hint }))
    } else {
        let hint = error.hint.as_ref().map_or(String::new(), |h| format!("hint: {h}\n"));
        style.paint(&format!("error: {}\n{hint}", error.message))
    };
    // Standard error that is closed leaves the exit code.
    let _ = std::io::stderr().write_all(text.as_bytes());
    exit::RUN
}
