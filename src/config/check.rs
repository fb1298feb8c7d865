//! Every key that was written against the table of keys.
//!
//! Owns: [`check`]. Must not know: defaults, what keys mean together.
//!
//! What does not fit is reported and taken out of the tree, so that the rest can be checked as if it had not been
//! written.

use super::diagnostic::Diagnostic;
use super::document::{Entry, Node, Sources, Span, Value};
use super::key::{Key, Kind, Preset, is_home};
use super::layers::{cropped, join, named_choice};
use super::schema::Table;
use super::suggest;

/// What `check` found.
#[derive(Debug, Default)]
pub struct Checked {
    /// One per fault.
    pub diagnostics: Vec<Diagnostic>,
    /// Paths of the keys whose values were taken out.
    pub bad: Vec<String>,
}

/// Checks the whole tree; afterwards it holds only known keys with values that fit, in their one form.
pub fn check(root: &mut Node, table: &'static Table, sources: &Sources) -> Checked {
    let mut walk = Walk { table, sources, checked: Checked::default() };
    if root.value == Value::Null {
        *root = Node::empty_map(root.span);
    }
    if root.entries().is_some() {
        walk.section("", root);
        walk.source_is_said(root);
    } else {
        let message = format!("the file does not hold keys: found {}, expected a mapping", describe(&root.value));
        let first = table.children("").next().map_or("", Key::name);
        let hint = format!("begin with `{first}:`; `wsi-run config` lists every key");
        walk.checked.diagnostics.push(sources.diagnostic(visible(root.span), message, Some(hint)));
        *root = Node::empty_map(root.span);
    }
    walk.checked
}

/// Where to underline an entry: its value, or its key when the value is a whole section or nothing.
pub fn place_of(entry: &Entry) -> Span {
    match entry.node.value {
        Value::Map(_) | Value::List(_) | Value::Null => entry.key_span,
        _ if entry.node.span.width == 0 => entry.key_span,
        _ => entry.node.span,
    }
}

struct Walk<'a> {
    table: &'static Table,
    sources: &'a Sources,
    checked: Checked,
}

impl Walk<'_> {
    fn report(&mut self, span: Span, message: String, hint: Option<String>) {
        let diagnostic = self.sources.diagnostic(span, message, hint);
        self.checked.diagnostics.push(diagnostic);
    }

    fn section(&mut self, path: &str, node: &mut Node) {
        let span = node.span;
        let Some(entries) = node.entries_mut() else { return };
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        for mut entry in std::mem::take(entries) {
            let child = join(path, &entry.key);
            match self.table.find(&child).filter(|key| key.is_in(path)) {
                None => self.unknown(path, &entry),
                Some(key) if self.fits(key, &child, &mut entry) => kept.push(entry),
                Some(_) => self.checked.bad.push(child),
            }
        }
        self.one_choice(path, &mut kept);
        self.choice_is_said(path, span, &kept);
        *entries = kept;
    }

    /// Whether the value at `path`, the path of `key` with the names of the user's in it, fits.
    fn fits(&mut self, key: &'static Key, path: &str, entry: &mut Entry) -> bool {
        if !matches!(key.kind, Kind::Section | Kind::Switch) {
            let fits = key.accept(&mut entry.node);
            if !fits {
                let message = format!("`{path}`: found {}, expected {}", describe(&entry.node.value), key.expected());
                self.report(place_of(entry), message, Some(value_hint(key, &entry.node.value)));
            }
            return fits;
        }
        let span = entry.node.span;
        match &entry.node.value {
            Value::Map(_) => {}
            Value::Bool(false) if key.kind == Kind::Switch => return true,
            Value::Bool(true) if key.kind == Kind::Switch || key.choice => entry.node = Node::empty_map(span),
            // A section whose keys are all left out or commented out.
            Value::Null => entry.node = Node::empty_map(span),
            Value::Text(name) if named_choice(self.table, path, name).is_some() => {
                let inner = Entry { key: name.clone(), key_span: span, node: Node::empty_map(span) };
                entry.node.value = Value::Map(vec![inner]);
            }
            other => {
                let expected = self.section_expected(key, path);
                let message = format!("`{path}`: found {}, expected {expected}", describe(other));
                let hint = self.section_hint(key, path, other);
                self.report(place_of(entry), message, Some(hint));
                return false;
            }
        }
        self.section(path, &mut entry.node);
        true
    }

    fn unknown(&mut self, path: &str, entry: &Entry) {
        let names = || self.table.children(path).map(Key::name);
        let within = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
        let key = cropped(&entry.key);
        let (expected, hint) = match suggest::nearest(&entry.key, names()) {
            Some(near) => (format!("`{near}`"), rename_hint(near)),
            None if names().eq(["*"]) => (
                "a name without `.`".to_owned(),
                "a `.` stands between the names of a path: write `_` or a space".to_owned(),
            ),
            None => {
                let listed: Vec<String> = names().map(|name| format!("`{name}`")).collect();
                let expected = match listed.len() {
                    0 => "nothing".to_owned(),
                    1 => listed.concat(),
                    _ => format!("one of {}", listed.join(", ")),
                };
                (expected, self.elsewhere_hint(&entry.key))
            }
        };
        self.report(visible(entry.key_span), format!("unknown key `{key}`{within}, expected {expected}"), Some(hint));
    }

    /// Of the alternatives of a section at most one holds; the first is kept.
    fn one_choice(&mut self, path: &str, kept: &mut Vec<Entry>) {
        let is_choice = |entry: &Entry| self.table.find(&join(path, &entry.key)).is_some_and(|key| key.choice);
        let Some(first) = kept.iter().find(|entry| is_choice(entry)).map(|entry| entry.key.clone()) else { return };
        let others: Vec<Entry> = kept.extract_if(.., |entry| is_choice(entry) && entry.key != first).collect();
        for other in others {
            let message = format!(
                "`{path}` has both `{first}` and `{}`, expected exactly one of {}",
                other.key,
                self.choices(path)
            );
            self.report(
                other.key_span,
                message,
                Some(format!("keep `{first}` or `{}`, and remove the other", other.key)),
            );
            self.checked.bad.push(join(path, &other.key));
        }
    }

    /// Where no alternative holds by default, one must be said. In a section that must be there, see
    /// [`Walk::source_is_said`].
    fn choice_is_said(&mut self, path: &str, span: Span, kept: &[Entry]) {
        let choices = || self.table.children(path).filter(|key| key.choice);
        let said = |key: &Key| kept.iter().any(|entry| entry.key == key.name()) || self.is_bad(&join(path, key.name()));
        let is_elsewhere = self.table.source().is_some_and(|(section, _)| section == path);
        if is_elsewhere || choices().next().is_none() || choices().any(|k| matches!(k.preset, Preset::Is(_)) || said(k))
        {
            return;
        }
        let example = choices().next().map_or(String::new(), |key| match key.preset {
            Preset::Is(value) | Preset::Found(_, value) | Preset::Unset(value) => format!("{}: {value}", key.name()),
        });
        let message = format!("`{path}` does not say which: expected exactly one of {}", self.choices(path));
        self.report(visible(span), message, Some(format!("for example `{example}`")));
    }

    fn is_bad(&self, path: &str) -> bool {
        self.checked.bad.iter().any(|bad| bad == path)
    }

    fn source_is_said(&mut self, root: &Node) {
        let Some((section, example)) = self.table.source() else { return };
        let entry = root.entry(section);
        let mut alternatives = self.table.children(section).filter(|key| key.choice);
        let said = alternatives.any(|k| {
            entry.is_some_and(|entry| entry.node.entry(k.name()).is_some()) || self.is_bad(&join(section, k.name()))
        });
        if said || self.is_bad(section) {
            return;
        }
        let span = entry.map_or(visible(root.span), |entry| entry.key_span);
        let message =
            format!("`{section}` does not say which {section}: expected exactly one of {}", self.choices(section));
        self.report(span, message, Some(format!("for example `{example}`")));
    }

    fn choices(&self, path: &str) -> String {
        let names: Vec<String> =
            self.table.children(path).filter(|key| key.choice).map(|key| format!("`{}`", key.name())).collect();
        names.join(", ")
    }

    fn section_expected(&self, key: &Key, path: &str) -> String {
        let names = self.choices(path);
        if names.is_empty() || key.kind == Kind::Switch { key.expected() } else { format!("one of {names}") }
    }

    fn section_hint(&self, key: &Key, path: &str, found: &Value) -> String {
        if let Value::Text(text) = found {
            let names = self.table.children(path).filter(|child| child.choice).map(Key::name);
            if let Some(near) = suggest::nearest(text, names) {
                return format!("did you mean `{near}`?");
            }
        }
        key.meaning.to_owned()
    }

    fn elsewhere_hint(&self, name: &str) -> String {
        let sections: Vec<String> = self
            .table
            .keys()
            .filter(|key| key.name() == name && !key.parent().is_empty())
            .map(|key| format!("`{}`", key.parent()))
            .collect();
        match sections.as_slice() {
            [] => "`wsi-run config` lists every key with its default".to_owned(),
            _ => format!("`{name}` belongs under {}", sections.join(" or ")),
        }
    }
}

/// An underline of at least one character, in the file when nobody wrote it.
pub fn visible(span: Span) -> Span {
    Span {
        source: span.source.or(Some(0)),
        line: span.line.max(1),
        column: span.column.max(1),
        width: span.width.max(1),
    }
}

/// A value as the user would recognise it.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => format!("`{b}`"),
        Value::Int(i) => format!("`{i}`"),
        Value::Float(x) => format!("`{x:?}`"),
        Value::Text(text) if text.is_empty() => "an empty text".to_owned(),
        Value::Text(text) => format!("the text `{}`", cropped(text)),
        Value::List(items) if items.is_empty() => "an empty list".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

fn rename_hint(near: &str) -> String {
    let unit = ["_px", "_um", "_um2", "_od"].iter().any(|suffix| near.ends_with(suffix));
    let reason = if unit { "; lengths, areas and densities carry their unit" } else { "" };
    format!("rename it to `{near}`{reason}")
}

fn mentions_home(value: &Value) -> bool {
    match value {
        Value::Text(text) => is_home(text),
        Value::List(items) => items.iter().any(|item| mentions_home(&item.value)),
        _ => false,
    }
}

/// Advice on a value that does not fit its key.
fn value_hint(key: &Key, found: &Value) -> String {
    let wants_number =
        matches!(key.kind, Kind::Int { .. } | Kind::PowerOfTwo { .. } | Kind::Real { .. } | Kind::MppXy { .. });
    match (key.kind, found) {
        (_, Value::Null) if key.choice => return "give it a value; `~` alone is none".to_owned(),
        (_, Value::Null) => return "give it a value, or remove the line for the default".to_owned(),
        (Kind::OneOf(words), Value::Text(text)) => {
            if let Some(near) = suggest::nearest(text, words.iter().copied()) {
                return format!("did you mean `{near}`?");
            }
        }
        (Kind::Path | Kind::Texts { .. }, value) if mentions_home(value) => {
            return "`~` is not expanded; write the whole path".to_owned();
        }
        (Kind::Bool, Value::Text(_) | Value::Int(_)) => return "write `true` or `false`, without quotes".to_owned(),
        (Kind::Text | Kind::Path | Kind::Color, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
            return "put it in quotes to make it text".to_owned();
        }
        (_, Value::Text(text)) if wants_number => {
            if text.parse::<f64>().is_ok() {
                return "write the number without quotes".to_owned();
            }
            if text.replace(',', ".").parse::<f64>().is_ok() {
                return "write a point, not a comma".to_owned();
            }
            if text.starts_with(|c: char| c.is_ascii_digit()) && !key.unit.is_empty() {
                return format!("write the number alone; it is in {}", key.unit);
            }
        }
        _ => {}
    }
    match key.preset {
        Preset::Is(default) => format!("{}; the default is `{}`", key.meaning, default.trim_matches('"')),
        Preset::Found(what, _) => format!("{}; the default is {what}", key.meaning),
        Preset::Unset(example) => format!("{}; for example `{example}`", key.meaning),
    }
}
