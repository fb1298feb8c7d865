//! What holds when nothing was said.
//!
//! Owns: [`fill`]. Must not know: where a default is used.

use super::document::{self, Entry, Node, Sources, Span, Value};
use super::key::{Key, Kind, Preset};
use super::layers::join;
use super::schema::Table;

/// Fills in, under a checked tree, every key that has a default, in the order of the table.
///
/// Of alternatives only the one that was chosen is filled, or the one that holds by default.
pub fn fill(root: &mut Node, table: &'static Table) {
    fill_section(table, "", root);
}

fn fill_section(table: &'static Table, path: &str, node: &mut Node) {
    let Some(entries) = node.entries_mut() else { return };
    let chosen = table
        .children(path)
        .filter(|key| key.choice)
        .find(|key| entries.iter().any(|entry| entry.key == key.name()))
        .or_else(|| table.children(path).find(|key| key.choice && matches!(key.preset, Preset::Is(_))));
    let mut filled = Vec::with_capacity(entries.len());
    for key in table.children(path) {
        if key.name() == "*" {
            // Names of the user's keep their order.
            for mut entry in std::mem::take(entries) {
                fill_section(table, &join(path, &entry.key), &mut entry.node);
                filled.push(entry);
            }
            continue;
        }
        let written = entries.iter().position(|entry| entry.key == key.name()).map(|i| entries.remove(i));
        let entry = match written {
            Some(entry) => Some(entry),
            None if key.choice && chosen.is_none_or(|c| c.path != key.path) => None,
            None => default_entry(key),
        };
        let Some(mut entry) = entry else { continue };
        if matches!(key.kind, Kind::Section | Kind::Switch) {
            fill_section(table, &join(path, key.name()), &mut entry.node);
        }
        filled.push(entry);
    }
    *entries = filled;
}

fn default_entry(key: &Key) -> Option<Entry> {
    let Preset::Is(text) = key.preset else { return None };
    let mut node = value_of(text);
    if !matches!(key.kind, Kind::Section | Kind::Switch) {
        // Brings it to its one form; that every default fits its key is tested.
        key.accept(&mut node);
    }
    Some(Entry { key: key.name().to_owned(), key_span: Span::DEFAULT, node })
}

/// A YAML text of the table as a value without a place.
pub(super) fn value_of(text: &str) -> Node {
    let (node, _) = document::parse(text, 0, &Sources::default());
    let mut node = node.unwrap_or(Node { value: Value::Null, span: Span::DEFAULT });
    forget_places(&mut node);
    node
}

fn forget_places(node: &mut Node) {
    node.span = Span::DEFAULT;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(forget_places),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_span = Span::DEFAULT;
                forget_places(&mut entry.node);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{PIPELINE, TRAINING};
    use super::*;

    const TABLES: [&Table; 2] = [&PIPELINE, &TRAINING];

    #[test]
    fn every_default_and_every_example_fits_its_key() {
        for key in TABLES.iter().flat_map(|table| table.keys()) {
            let (Preset::Is(text) | Preset::Found(_, text) | Preset::Unset(text)) = key.preset;
            let mut node = value_of(text);
            let fits = match key.kind {
                Kind::Section => node.entries().is_some(),
                Kind::Switch => node.entries().is_some() || node.value == Value::Bool(false),
                _ => key.accept(&mut node),
            };
            assert!(fits, "{}: {text}", key.path);
        }
    }

    #[test]
    fn every_group_of_alternatives_but_the_slides_and_the_data_sets_has_one_default() {
        for table in TABLES {
            for section in table.keys().filter(|key| table.children(key.path).any(|child| child.choice)) {
                let defaults =
                    table.children(section.path).filter(|k| k.choice && matches!(k.preset, Preset::Is(_))).count();
                let is_said = section.path == "slides" || section.path == "data.sets.*";
                assert_eq!(defaults, usize::from(!is_said), "{}", section.path);
            }
        }
    }
}
