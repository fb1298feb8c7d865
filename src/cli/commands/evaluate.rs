//! `wsi-run evaluate`: how good a model is on images of which the truth is known.
//!
//! Owns: the verb, the table it prints. Must not know: how anything is measured.

use super::pipeline::refuse;
use crate::{
    cli::{
        args::{
            CommonArgs,
            evaluate::{EvaluateArgs, MeasureArgs, Resample},
        },
        style::Style,
    },
    config::{self, environment::Environment, settings::Settings},
    error::exit,
    evaluate::{
        EvaluateError, Evaluation, FolderCases, Judged, Options, Predictor, ResultsJudge, TrueCases, TruthKind,
        evaluate,
    },
    model::convert::parse_classes,
    train::class_tree::{ClassNode, ClassTree},
    units::Mpp,
};
use std::{
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Why the verb ends early.
pub(super) enum Stop {
    /// The command line or configuration makes no sense, and this was printed already.
    Refused(u8),
    /// Something could not be done.
    Failed(EvaluateError),
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
        Ok(evaluation) => {
            print(&evaluation, &args.output, common)?;
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

fn evaluated(args: &EvaluateArgs, common: &CommonArgs, style: Style) -> Result<Evaluation, Stop> {
    let truth = cases(args)?;
    let (judged, model) = judged(args, common, style)?;
    let data = match &args.list {
        Some(list) => format!("{} ({})", args.images.display(), list.display()),
        None => args.images.display().to_string(),
    };
    let options = options(&args.how, model, data);
    let done = AtomicUsize::new(0);
    let count = truth.len();
    let progress = |n: usize| {
        let done = done.fetch_add(n, Ordering::Relaxed) + n;
        tracing::debug!(done, count, "image evaluated");
    };
    let evaluation = evaluate(&truth, &judged, &options, &progress)?;
    evaluation.write(&args.output, &truth, &judged)?;
    Ok(evaluation)
}

/// What is said of measuring.
pub(super) fn options(how: &MeasureArgs, model: String, data: String) -> Options {
    Options {
        model,
        data,
        radius_um: how.radius_um,
        draws: how.draws,
        level: how.level,
        seed: how.seed,
        by_patient: how.resample == Resample::Patient,
        mpp: None,
    }
}

fn cases(args: &EvaluateArgs) -> Result<FolderCases, EvaluateError> {
    let kinds =
        [(&args.dots, TruthKind::Dots), (&args.instances, TruthKind::Instances), (&args.masks, TruthKind::Masks)];
    let (dir, kind) = kinds
        .into_iter()
        .find_map(|(dir, kind)| Some((dir.as_deref()?, kind)))
        .expect("clap asks for one of the group");
    if Mpp::new(args.mpp).is_none() {
        return Err(EvaluateError::new(format!("`--mpp` is `{}`, expected a number above 0", args.mpp)));
    }
    let classes = parse_classes(&args.classes).map_err(EvaluateError::new)?;
    let nodes = classes.into_iter().map(|class| ClassNode { class, parent: None }).collect();
    let tree = ClassTree::new(nodes).map_err(EvaluateError::new)?;
    let cases = FolderCases::new(&args.images, (dir, kind), (tree, args.mpp), args.list.as_deref())?;
    match &args.groups {
        Some(csv) => cases.with_groups(csv),
        None => Ok(cases),
    }
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
    Ok((Judged::Model(Box::new(Predictor::new(&settings)?)), name))
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
