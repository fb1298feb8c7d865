//! From a file, the environment and `--set` to [`Settings`], or to everything that is wrong.
//!
//! Owns: [`load`], [`load_text`], [`Loaded`]. Must not know: what the settings do.
//!
//! `--set` wins over the environment, that over the file, that over the defaults. Relative paths in the file are
//! relative to the current directory, not to the file; `~` is not expanded.

use super::check::{self, place_of, visible};
use super::diagnostic::Diagnostic;
use super::document::{self, MAX_TEXT_BYTES, Node, Sources, Span, Value};
use super::environment::Environment;
use super::settings::Settings;
use super::validate::{Problem, validate};
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

/// Reads and resolves a pipeline file.
///
/// `overrides` are the texts of `--set`: `tiling.stride_px=128`.
///
/// # Errors
/// Everything that is wrong with the file, the environment and the overrides, at once. No slide is touched.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, Vec<Diagnostic>> {
    let name = path.display().to_string();
    let text = read(path).map_err(|(message, hint)| vec![Diagnostic::of_file(&name, message, hint)])?;
    load_text(&name, &text, overrides, &Environment::read())
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
            found.extend(set_threads(&mut root, threads, &mut sources));
        }
        for text in overrides {
            found.extend(layers::set(&mut root, text, &mut sources));
        }
    }
    let mut checked = check::check(&mut root, &sources);
    if !readable {
        // Of a file that is not YAML nothing can be said to be missing.
        checked.diagnostics.retain(|d| d.file != name);
    }
    found.append(&mut checked.diagnostics);
    let written = root.clone();
    defaults::fill(&mut root);
    match serde_json::from_value::<schema::Document>(root.to_json()) {
        Ok(document) => {
            let settings = document.into_settings(environment.cpus);
            let problems = validate(&settings);
            if readable && is_mapping {
                found.extend(located(problems, &written, &checked.bad, &sources));
            }
            if found.is_empty() {
                let resolved_yaml = reference::resolved_yaml(&root, &sources, environment.cpus);
                return Ok(Loaded { settings, text: text.to_owned(), resolved_yaml });
            }
        }
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

fn set_threads(root: &mut Node, threads: &str, sources: &mut Sources) -> Vec<Diagnostic> {
    const NAME: &str = "WSI_RUN_THREADS";
    let Some(key) = schema::find("run.threads").filter(|_| !threads.trim().is_empty()) else { return Vec::new() };
    let source = sources.add("environment", &format!("{NAME}={threads}"));
    let width = |s: &str| u32::try_from(s.chars().count()).unwrap_or(u32::MAX);
    let key_span = Span { source: Some(source), line: 1, column: 1, width: width(NAME) };
    let span = Span { column: width(NAME) + 2, width: width(threads), ..key_span };
    layers::set_key(root, key, key_span, threads, span, sources)
}

/// Problems where the user wrote what causes them; those that stem from a value already refused are left out.
fn located(problems: Vec<Problem>, written: &Node, bad: &[String], sources: &Sources) -> Vec<Diagnostic> {
    let refused = |path: &str| bad.iter().any(|b| path == b || path.starts_with(&format!("{b}.")));
    problems
        .into_iter()
        .filter(|problem| !problem.paths.iter().any(|path| refused(path)))
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
