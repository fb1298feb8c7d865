//! The table of keys for people: as a YAML file, as Markdown; and a resolved run as YAML.
//!
//! Owns: [`all_keys_yaml`], [`all_training_keys_yaml`], [`keys_markdown`], `resolved_yaml`. Must not know: which keys exist.

use super::document::{Node, Sources, Value};
use super::key::{Key, Kind, Preset};
use super::schema::{PIPELINE, TRAINING, Table};
use std::fmt::Write;

/// The one source of slides that the file of all keys shows as chosen.
const SHOWN_SLIDES: &str = "slides.glob";
/// The column comments begin at, where the line is short enough.
const COMMENT_COLUMN: usize = 34;
/// The column comments are broken at.
const MAX_COLUMN: usize = 118;

/// A pipeline file with every key: default, unit, meaning. What does not hold by default is commented out.
pub fn all_keys_yaml() -> String {
    let mut text = String::from(
        "# Every key of a pipeline, with its default, unit and meaning, in the order of the flow.\n\
         # Only `slides` must be said. What is commented out is unset by default or another choice; its value is an example.\n\
         # Relative paths are relative to the current directory; `~` is not expanded.\n",
    );
    write_sections(&mut text, &PIPELINE);
    text
}

/// A training file with every key, as [`all_keys_yaml`].
pub fn all_training_keys_yaml() -> String {
    let mut text = String::from(
        "# Every key of a training file, with its default, unit and meaning. A file with `train` or `data` trains.\n\
         # What is commented out is unset by default or another choice; its value is an example, `name` a name of yours.\n\
         # Relative paths are relative to the current directory; `~` is not expanded.\n",
    );
    write_sections(&mut text, &TRAINING);
    text
}

fn write_sections(text: &mut String, table: &'static Table) {
    for section in table.children("") {
        let _ = write!(text, "\n# {}\n{}:\n", section.meaning, section.name());
        write_children(text, table, section.path, 1, None);
    }
}

/// The name of a key, or an example where the user names it.
fn shown_name(key: &Key) -> &'static str {
    if key.name() == "*" { "name" } else { key.name() }
}

/// Writes the keys of a section; from `off_depth` on they are commented out, so that a block is one to uncomment.
fn write_children(text: &mut String, table: &'static Table, path: &str, depth: usize, off_depth: Option<usize>) {
    for key in table.children(path) {
        let holds = key.path == SHOWN_SLIDES || matches!(key.preset, Preset::Is(_));
        let off = off_depth.or((!holds).then_some(depth));
        let (Preset::Is(value) | Preset::Found(_, value) | Preset::Unset(value)) = key.preset;
        let children = table.children(key.path).next().is_some();
        let off_switch = key.kind == Kind::Switch && value == "false";
        let value = if children && !off_switch { "" } else { value };
        let indent = match off {
            Some(off) => format!("{}# {}", "  ".repeat(off), "  ".repeat(depth - off)),
            None => "  ".repeat(depth),
        };
        let pad = if value.is_empty() { "" } else { " " };
        write_line(text, &format!("{indent}{}:{pad}{value}", shown_name(key)), &remark(key));
        if children {
            write_children(text, table, key.path, depth + 1, off.or(off_switch.then_some(depth + 1)));
        }
    }
}

/// Unit, meaning, the words that fit, and the default where it is not a value.
fn remark(key: &Key) -> String {
    let mut remark = if key.unit.is_empty() { String::new() } else { format!("{}: ", key.unit) };
    if key.choice && !matches!(key.preset, Preset::Is(_)) && key.path != SHOWN_SLIDES {
        remark.push_str("or ");
    }
    remark.push_str(key.meaning);
    match key.kind {
        Kind::OneOf(words) if words.len() > 1 => {
            let _ = write!(remark, "; {}", words.join(", "));
        }
        Kind::Int { step: 2.., .. } | Kind::PowerOfTwo { .. } => {
            let _ = write!(remark, "; {}", key.expected());
        }
        _ => {}
    }
    if let Preset::Found(what, _) = key.preset {
        let _ = write!(remark, "; default: {what}");
    }
    remark
}

/// One Markdown table per section: key, default, what fits, meaning; first those of pipelines, then those of training.
pub fn keys_markdown() -> String {
    let mut text = tables_markdown(&PIPELINE);
    text.push_str(
        "## Keys of a training file\n\nA file with `train` or `data` trains. `<name>` is a name of yours.\n\n",
    );
    text.push_str(&tables_markdown(&TRAINING));
    text
}

fn tables_markdown(table: &'static Table) -> String {
    let mut text = String::new();
    for section in table.children("") {
        let _ = write!(text, "### `{}`\n\n{}.\n\n", section.name(), capitalised(section.meaning));
        text.push_str("| key | default | fits | meaning |\n|---|---|---|---|\n");
        for key in table.keys().filter(|key| key.path.starts_with(&format!("{}.", section.path))) {
            let default = match key.preset {
                Preset::Is("{}") if key.kind == Kind::Switch => "on".to_owned(),
                Preset::Is("false") if key.kind == Kind::Switch => "off".to_owned(),
                Preset::Is("{}") if key.choice => "chosen".to_owned(),
                Preset::Is("{}") => String::new(),
                Preset::Is(value) => format!("`{}`", value.trim_matches('"')),
                Preset::Found(what, _) => what.to_owned(),
                Preset::Unset(_) => "–".to_owned(),
            };
            let fits = if key.kind == Kind::Section { String::new() } else { key.expected() };
            let _ = writeln!(text, "| `{}` | {default} | {fits} | {} |", key.path.replace('*', "<name>"), key.meaning);
        }
        text.push('\n');
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// A filled tree as YAML; each value says where it is from.
pub(super) fn resolved_yaml(root: &Node, table: &'static Table, sources: &Sources, cpus: u32) -> String {
    let mut text = String::new();
    Resolved { table, sources, cpus }.write(&mut text, "", root, 0);
    text
}

struct Resolved<'a> {
    table: &'static Table,
    sources: &'a Sources,
    cpus: u32,
}

impl Resolved<'_> {
    fn write(&self, text: &mut String, path: &str, node: &Node, depth: usize) {
        for entry in node.entries().into_iter().flatten() {
            let child = super::layers::join(path, &entry.key);
            let indent = "  ".repeat(depth);
            let key = self.table.find(&child);
            let is_section = key.is_some_and(|key| matches!(key.kind, Kind::Section | Kind::Switch));
            // `run` has its threads below it at least.
            let is_filled = entry.node.entries().is_some_and(|entries| !entries.is_empty() || child == "run");
            let name = if key.is_some_and(|key| key.name() == "*") { quoted(&entry.key) } else { entry.key.clone() };
            let line = match (is_section && is_filled, &entry.node.value) {
                (true, _) => format!("{indent}{name}:"),
                (false, Value::Null) => continue,
                (false, value) => format!("{indent}{name}: {}", inline(value)),
            };
            let span = entry.node.span;
            let origin = match (span.source, is_section && is_filled) {
                (_, true) => String::new(),
                (None, _) => "default".to_owned(),
                // Source 0 is the file.
                (Some(0), _) => format!("{}:{}", self.sources.name(span.source), span.line),
                (Some(_), _) => self.sources.name(span.source).to_owned(),
            };
            write_line(text, &line, &origin);
            if is_section {
                self.write(text, &child, &entry.node, depth + 1);
            }
        }
        if path == "run" && node.entry("threads").is_none_or(|entry| entry.node.value == Value::Null) {
            write_line(text, &format!("  threads: {}", self.cpus), "the CPUs this process may use");
        }
    }
}

/// A name of the user's, in quotes unless it can be nothing but a name.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&name.to_lowercase().as_str());
    if is_plain { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// A line and its comment, which goes on below itself where it is long.
fn write_line(text: &mut String, line: &str, comment: &str) {
    text.push_str(line);
    let mut column = line.chars().count();
    let mut room = 0;
    let comment = comment.replace(|c: char| c.is_control(), " ");
    for word in comment.split_whitespace() {
        let width = word.chars().count() + 1;
        if column == line.chars().count() || width > room {
            if column > line.chars().count() {
                text.push('\n');
                column = 0;
            }
            let fill = COMMENT_COLUMN.saturating_sub(column).max(1);
            text.extend(std::iter::repeat_n(' ', fill).chain(['#']));
            column += fill + 1;
            room = MAX_COLUMN.saturating_sub(column);
        }
        text.push(' ');
        text.push_str(word);
        column += width;
        room = room.saturating_sub(width);
    }
    text.push('\n');
}

/// A value on one line.
fn inline(value: &Value) -> String {
    let listed = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(x) => format!("{x:?}"),
        // JSON's quoted text is YAML's.
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::List(items) => format!("[{}]", listed(items.iter().map(|item| inline(&item.value)).collect())),
        Value::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Map(entries) => {
            format!(
                "{{ {} }}",
                listed(entries.iter().map(|e| format!("{}: {}", e.key, inline(&e.node.value))).collect())
            )
        }
    }
}
