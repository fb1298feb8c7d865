//! From a file, the environment and `--set` to [`Settings`], or to everything that is wrong.
//!
//! Owns: [`load_file`], [`load`], [`load_text`], [`load_training_text`], [`Loaded`], [`LoadedTraining`]. Must not know: what the settings do.
//!
//! `--set` wins over the environment, that over the file, that over the defaults. Relative paths in the file are
//! relative to the current directory, not to the file; `~` is not expanded.

use super::check::{self, place_of, visible};
use super::diagnostic::Diagnostic;
use super::document::{self, MAX_TEXT_BYTES, Node, Sources, Span, Value};
use super::environment::Environment;
use super::schema::Table;
use super::settings::{Settings, Training};
use super::validate::{Problem, validate, validate_training};
use super::{defaults, layers, reference, schema};
use std::io::Read;
use std::path::Path;

/// A run as the user asked for it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Every choice made.
    pub settings: Settings,
    /// The text of the file, to be kept with the results.
    pub text: String,
    /// Every key with its value and where the value is from, as YAML that loads to the same settings.
    pub resolved_yaml: String,
}

/// A training as the user asked for it.
#[derive(Debug, Clone)]
pub struct LoadedTraining {
    /// Every choice made.
    pub settings: Training,
    /// The text of the file, to be kept with the results.
    pub text: String,
    /// Every key with its value and where the value is from, as YAML that loads to the same settings.
    pub resolved_yaml: String,
}

/// What a file asks for.
#[derive(Debug, Clone)]
pub enum LoadedFile {
    /// A run over slides.
    Pipeline(Box<Loaded>),
    /// A training.
    Training(Box<LoadedTraining>),
}

/// Reads and resolves a file, whatever it asks for.
///
/// # Errors
/// As [`load`].
pub fn load_file(path: &Path, overrides: &[String]) -> Result<LoadedFile, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|(message, hint)| vec![Diagnostic::of_file(&name, message, hint)])?;
    let environment = Environment::read();
    if is_training(&text) {
        let loaded = load_training_text(&name, &text, overrides, &environment)?;
        return Ok(LoadedFile::Training(Box::new(loaded)));
    }
    load_text(&name, &text, overrides, &environment).map(|loaded| LoadedFile::Pipeline(Box::new(loaded)))
}

/// Reads and resolves a pipeline file.
///
/// `overrides` are the texts of `--set`: `tiling.stride_px=128`.
///
/// # Errors
/// Everything that is wrong with the file, the environment and the overrides, at once. No slide is touched.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|(message, hint)| vec![Diagnostic::of_file(&name, message, hint)])?;
    if is_training(&text) {
        let message = "this file describes a training, expected a pipeline";
        let hint = "`wsi-run train.yaml` trains, `wsi-run plan train.yaml` says what it would do".to_owned();
        return Err(vec![Diagnostic::of_file(&name, message, Some(hint))]);
    }
    load_text(&name, &text, overrides, &Environment::read())
}

/// Whether a text describes a training: it has `train` or `data` at its top.
pub fn is_training(text: &str) -> bool {
    let mut sources = Sources::default();
    let file = sources.add("", text);
    let (root, _) = document::parse(text, file, &sources);
    root.is_some_and(|root| root.entry("train").is_some() || root.entry("data").is_some())
}

/// Resolves a pipeline given as text; `name` is shown in diagnostics.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_text(
    name: &str,
    text: &str,
    overrides: &[String],
    environment: &Environment,
) -> Result<Loaded, Vec<Diagnostic>> {
    let of = |document: schema::Document| {
        let settings = document.into_settings(environment.cpus);
        let problems = validate(&settings);
        (settings, problems)
    };
    let (settings, resolved_yaml) = resolve(name, text, overrides, environment, &schema::PIPELINE, of)?;
    Ok(Loaded { settings, text: text.to_owned(), resolved_yaml })
}

/// Resolves a training file given as text; `name` is shown in diagnostics.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_training_text(
    name: &str,
    text: &str,
    overrides: &[String],
    environment: &Environment,
) -> Result<LoadedTraining, Vec<Diagnostic>> {
    let of = |document: schema::TrainingDocument| {
        let settings = document.into_settings(environment.cpus);
        let problems = validate_training(&settings);
        (settings, problems)
    };
    let (settings, resolved_yaml) = resolve(name, text, overrides, environment, &schema::TRAINING, of)?;
    Ok(LoadedTraining { settings, text: text.to_owned(), resolved_yaml })
}

/// The steps that every kind of file goes through. `of` makes settings of a document, and finds what cannot work.
fn resolve<D: serde::de::DeserializeOwned, S>(
    name: &str,
    text: &str,
    overrides: &[String],
    environment: &Environment,
    table: &'static Table,
    of: impl FnOnce(D) -> (S, Vec<Problem>),
) -> Result<(S, String), Vec<Diagnostic>> {
    let mut sources = Sources::default();
    let file = sources.add(name, text);
    let (root, mut found) = document::parse(text, file, &sources);
    let readable = root.is_some();
    let mut root = root.unwrap_or(Node::empty_map(Span { source: Some(file), line: 1, column: 1, width: 1 }));
    if root.value == Value::Null {
        root = Node::empty_map(root.span);
    }
    let is_mapping = root.entries().is_some();
    if is_mapping {
        if let Some(threads) = &environment.threads {
            found.extend(set_threads(&mut root, table, threads, &mut sources));
        }
        for text in overrides {
            found.extend(layers::set(&mut root, table, text, &mut sources));
        }
    }
    let mut checked = check::check(&mut root, table, &sources);
    if !readable {
        // Of a file that is not YAML nothing can be said to be missing.
        checked.diagnostics.retain(|d| d.file != name);
    }
    found.append(&mut checked.diagnostics);
    let written = root.clone();
    defaults::fill(&mut root, table);
    match serde_json::from_value::<D>(root.to_json()) {
        Ok(document) => {
            let (settings, problems) = of(document);
            if readable && is_mapping {
                found.extend(located(problems, &written, &checked.bad, &sources));
            }
            if found.is_empty() {
                let resolved_yaml = reference::resolved_yaml(&root, table, &sources, environment.cpus);
                return Ok((settings, resolved_yaml));
            }
        }
        // A data set that does not say which layout it has is reported already, and has no type.
        Err(_) if !found.is_empty() => {}
        // Only when the table of keys and the types disagree, which the tests rule out.
        Err(error) => found.push(Diagnostic::of_file(name, format!("the configuration does not fit: {error}"), None)),
    }
    found.sort_by_key(|d| (d.file != name, d.line, d.column));
    Err(found)
}

fn read(path: &Path) -> Result<String, (String, Option<String>)> {
    let cannot = |reason: &dyn std::fmt::Display| format!("cannot read the pipeline: {reason}");
    let list = "`wsi-run config > pipeline.yaml` writes one with every key".to_owned();
    let inside = || Some("slides are named inside a pipeline file; `wsi-run info SLIDE` opens one".to_owned());
    if path.is_dir() {
        return Err((cannot(&"found a folder, expected a YAML file"), inside()));
    }
    let file = std::fs::File::open(path).map_err(|e| (cannot(&e), Some(list)))?;
    let mut bytes = Vec::new();
    // One byte more than may be is enough to know that it is too large.
    file.take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| (cannot(&e), None))?;
    if bytes.len() > MAX_TEXT_BYTES {
        let message = format!("found more than {MAX_TEXT_BYTES} bytes, expected a YAML file");
        return Err((cannot(&message), inside()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        (cannot(&format!("byte {at} is not UTF-8, expected a YAML file")), inside())
    })
}

fn set_threads(root: &mut Node, table: &'static Table, threads: &str, sources: &mut Sources) -> Vec<Diagnostic> {
    const NAME: &str = "WSI_RUN_THREADS";
    const PATH: &str = "run.threads";
    let Some(key) = table.find(PATH).filter(|_| !threads.trim().is_empty()) else { return Vec::new() };
    let source = sources.add("environment", &format!("{NAME}={threads}"));
    let width = |s: &str| u32::try_from(s.chars().count()).unwrap_or(u32::MAX);
    let key_span = Span { source: Some(source), line: 1, column: 1, width: width(NAME) };
    let span = Span { column: width(NAME) + 2, width: width(threads), ..key_span };
    layers::set_key(root, layers::At { table, key, path: PATH }, key_span, threads, span, sources)
}

/// Problems where the user wrote what causes them; those that stem from a value already refused are left out.
fn located(problems: Vec<Problem>, written: &Node, bad: &[String], sources: &Sources) -> Vec<Diagnostic> {
    let refused = |path: &str| bad.iter().any(|b| path == b || path.starts_with(&format!("{b}.")));
    problems
        .into_iter()
        .filter(|problem| !problem.paths.iter().any(|path| refused(path.as_ref())))
        .map(|problem| {
            let span = problem
                .paths
                .iter()
                .find_map(|path| written.at(path).map(place_of))
                .or_else(|| {
                    let section = problem.paths.first()?.split('.').next()?;
                    written.at(section).map(place_of)
                })
                .unwrap_or(written.span);
            sources.diagnostic(visible(span), problem.message, Some(problem.hint))
        })
        .collect()
}
