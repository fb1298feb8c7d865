//! The table of keys for people: as a YAML file, as Markdown; and a resolved run as YAML.
//!
//! Owns: [`all_keys_yaml`], [`keys_markdown`], `resolved_yaml`. Must not know: which keys exist.

use super::document::{Node, Sources, Value};
use super::key::{Key, Kind, Preset};
use super::schema;
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
    for section in schema::children("") {
        let _ = write!(text, "\n# {}\n{}:\n", section.meaning, section.name());
        write_children(&mut text, section.path, 1, None);
    }
    text
}

/// Writes the keys of a section; from `off_depth` on they are commented out, so that a block is one to uncomment.
fn write_children(text: &mut String, path: &str, depth: usize, off_depth: Option<usize>) {
    for key in schema::children(path) {
        let holds = key.path == SHOWN_SLIDES || matches!(key.preset, Preset::Is(_));
        let off = off_depth.or((!holds).then_some(depth));
        let (Preset::Is(value) | Preset::Found(_, value) | Preset::Unset(value)) = key.preset;
        let children = schema::children(key.path).next().is_some();
        let off_switch = key.kind == Kind::Switch && value == "false";
        let value = if children && !off_switch { "" } else { value };
        let indent = match off {
            Some(off) => format!("{}# {}", "  ".repeat(off), "  ".repeat(depth - off)),
            None => "  ".repeat(depth),
        };
        let pad = if value.is_empty() { "" } else { " " };
        write_line(text, &format!("{indent}{}:{pad}{value}", key.name()), &remark(key));
        if children {
            write_children(text, key.path, depth + 1, off.or(off_switch.then_some(depth + 1)));
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

/// One Markdown table per section: key, default, what fits, meaning.
pub fn keys_markdown() -> String {
    let mut text = String::new();
    for section in schema::children("") {
        let _ = write!(text, "### `{}`\n\n{}.\n\n", section.name(), capitalised(section.meaning));
        text.push_str("| key | default | fits | meaning |\n|---|---|---|---|\n");
        for key in schema::keys().filter(|key| key.path.starts_with(&format!("{}.", section.path))) {
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
            let _ = writeln!(text, "| `{}` | {default} | {fits} | {} |", key.path, key.meaning);
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
pub(super) fn resolved_yaml(root: &Node, sources: &Sources, cpus: u32) -> String {
    let mut text = String::new();
    write_resolved(&mut text, "", root, 0, sources, cpus);
    text
}

fn write_resolved(text: &mut String, path: &str, node: &Node, depth: usize, sources: &Sources, cpus: u32) {
    for entry in node.entries().into_iter().flatten() {
        let child = super::layers::join(path, &entry.key);
        let indent = "  ".repeat(depth);
        let is_section = schema::find(&child).is_some_and(|key| matches!(key.kind, Kind::Section | Kind::Switch));
        let is_filled = entry.node.entries().is_some_and(|entries| !entries.is_empty());
        let line = match (is_section && is_filled, &entry.node.value) {
            (true, _) => format!("{indent}{}:", entry.key),
            (false, Value::Null) => continue,
            (false, value) => format!("{indent}{}: {}", entry.key, inline(value)),
        };
        let span = entry.node.span;
        let origin = match (span.source, is_section && is_filled) {
            (_, true) => String::new(),
            (None, _) => "default".to_owned(),
            // Source 0 is the file.
            (Some(0), _) => format!("{}:{}", sources.name(span.source), span.line),
            (Some(_), _) => sources.name(span.source).to_owned(),
        };
        write_line(text, &line, &origin);
        if is_section {
            write_resolved(text, &child, &entry.node, depth + 1, sources, cpus);
        }
    }
    if path == "run" && node.entry("threads").is_none_or(|entry| entry.node.value == Value::Null) {
        write_line(text, &format!("  threads: {cpus}"), "the CPUs this process may use");
    }
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
