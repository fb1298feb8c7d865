//! The environment and `--set key.path=value` laid over the file.
//!
//! Owns: [`set`], [`set_key`]. Must not know: whether values fit (that is `check`).
//!
//! A later layer wins. Where a layer picks one of several alternatives (`--set tissue.fixed.threshold=0.1` over a file
//! that says `otsu`), the others of that place are gone.

use super::diagnostic::Diagnostic;
use super::document::{self, Entry, Node, Sources, Span, Value};
use super::key::{Key, Kind, Preset};
use super::schema::Table;
use super::suggest;

/// Lays one `key.path=value` of the command line over the tree.
pub fn set(root: &mut Node, table: &'static Table, text: &str, sources: &mut Sources) -> Vec<Diagnostic> {
    let source = sources.add("--set", text);
    let width = |s: &str| u32::try_from(s.chars().count()).unwrap_or(u32::MAX);
    let span = |column: u32, width: u32| Span { source: Some(source), line: 1, column, width };
    let Some((path, value)) = text.split_once('=') else {
        let hint = "for example `--set tiling.stride_px=128`".to_owned();
        let message = format!("`--set` without a value: found `{}`, expected `key.path=value`", cropped(text));
        return vec![sources.diagnostic(span(1, width(text)), message, Some(hint))];
    };
    let key_span = span(1, width(path));
    let Some(key) = table.find(path.trim()) else {
        return vec![sources.diagnostic(key_span, unknown_path(table, path), Some(path_hint(table, path)))];
    };
    let at = At { table, key, path: path.trim() };
    set_key(root, at, key_span, value, span(width(path) + 2, width(value)), sources)
}

/// A key of a table, and its path with the names of the user's.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Where the key stands.
    pub table: &'static Table,
    /// The key.
    pub key: &'static Key,
    /// Its path.
    pub path: &'a str,
}

/// Lays a value, written as text at `span`, over the tree.
pub fn set_key(
    root: &mut Node,
    at: At<'_>,
    key_span: Span,
    value: &str,
    span: Span,
    sources: &Sources,
) -> Vec<Diagnostic> {
    let (node, found) = read_value(at.key, value, span, sources);
    if let Some(node) = node {
        place(root, at.table, "", at.path, Entry { key: String::new(), key_span, node });
    }
    found
}

/// Text where text is wanted, so that `--set slides.glob=**/*.svs` needs no quotes; YAML elsewhere.
fn read_value(key: &Key, value: &str, span: Span, sources: &Sources) -> (Option<Node>, Vec<Diagnostic>) {
    let as_text = match key.kind {
        Kind::Text | Kind::Path | Kind::Color | Kind::OneOf(_) => true,
        Kind::Texts { .. } => !value.trim_start().starts_with('['),
        _ => false,
    };
    let unset = value.trim().is_empty() || (value.trim() == "null" && !matches!(key.preset, Preset::Is(_)));
    if unset {
        return (Some(Node { value: Value::Null, span }), Vec::new());
    }
    if as_text {
        return (Some(Node { value: Value::Text(value.trim().to_owned()), span }), Vec::new());
    }
    let source = span.source.unwrap_or_default();
    // Spaces in front of the value put it where it stands in the argument, and the parser counts right by itself.
    let padded = format!("{}{value}", " ".repeat(span.column.saturating_sub(1) as usize));
    document::parse(&padded, source, sources)
}

/// Puts `entry` at `path`, making sections on the way.
fn place(node: &mut Node, table: &'static Table, section: &str, path: &str, entry: Entry) {
    open(node, table, section, entry.key_span);
    let Some(entries) = node.entries_mut() else { return };
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let is_choice = |name: &str| table.find(&join(section, name)).is_some_and(|key| key.choice);
    if is_choice(name) {
        entries.retain(|other| other.key == name || !is_choice(&other.key));
    }
    let at = entries.iter().position(|other| other.key == name).unwrap_or_else(|| {
        let key_span = entry.key_span;
        entries.push(Entry { key: name.to_owned(), key_span, node: Node::empty_map(key_span) });
        entries.len() - 1
    });
    match rest {
        Some(rest) => place(&mut entries[at].node, table, &join(section, name), rest, entry),
        None => entries[at] = Entry { key: name.to_owned(), ..entry },
    }
}

/// Makes a mapping of what stands for one: nothing, `true`, the bare name of an alternative.
fn open(node: &mut Node, table: &'static Table, section: &str, span: Span) {
    if node.entries().is_some() {
        return;
    }
    let named = match &node.value {
        Value::Text(name) => named_choice(table, section, name),
        _ => None,
    };
    let (old, mut map) = (node.span, Node::empty_map(span));
    if let (Some(key), Some(entries)) = (named, map.entries_mut()) {
        entries.push(Entry { key: key.name().to_owned(), key_span: old, node: Node::empty_map(old) });
    }
    *node = map;
}

/// The alternative of `section` that may be named without its keys: `stain: macenko`.
pub(super) fn named_choice(table: &'static Table, section: &str, name: &str) -> Option<&'static Key> {
    table.children(section).find(|key| key.choice && key.kind == Kind::Section && key.name() == name)
}

pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// A user's text, short enough for a message.
pub(super) fn cropped(text: &str) -> String {
    let mut short: String = text.chars().take(48).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(48).is_some() {
        short.push('…');
    }
    short
}

fn unknown_path(table: &'static Table, path: &str) -> String {
    match nearest_path(table, path) {
        Some(near) => format!("unknown key `{}`, expected `{near}`", cropped(path)),
        None if path.is_empty() => "`--set` without a key: expected `key.path=value`".to_owned(),
        None => format!("unknown key `{}`", cropped(path)),
    }
}

fn path_hint(table: &'static Table, path: &str) -> String {
    match nearest_path(table, path) {
        Some(near) => format!("write `--set {near}=…`"),
        None => "`wsi-run config` lists every key".to_owned(),
    }
}

fn nearest_path(table: &'static Table, path: &str) -> Option<&'static str> {
    suggest::nearest(path, table.keys().map(|key| key.path)).or_else(|| {
        // The right name in the wrong section, or the name alone.
        let name = path.rsplit('.').next().unwrap_or(path).trim();
        let mut same = table.keys().filter(|key| key.name() == name);
        same.next().filter(|_| same.next().is_none()).map(|key| key.path)
    })
}
