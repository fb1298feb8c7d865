//! A YAML text as a tree whose every key and value knows its place.
//!
//! Owns: [`Node`], [`Span`], [`Sources`], [`parse`]. Must not know: which keys exist.
//!
//! YAML comes from anywhere: size, depth, number of nodes and what aliases unfold to are all bounded, far above any
//! real pipeline and far below what would hurt.

use super::diagnostic::{Diagnostic, Snippet};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};
use std::collections::HashMap;
use std::fmt;

/// Largest file that is read.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Deepest nesting; the deepest key of ours is at 4.
const MAX_DEPTH: usize = 16;

/// Where something was written: which source, line and column from 1, width in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Index into [`Sources`]; `None` for a default.
    pub source: Option<u16>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters to underline.
    pub width: u32,
}

impl Span {
    /// The place of what nobody wrote.
    pub const DEFAULT: Self = Self { source: None, line: 0, column: 0, width: 0 };
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    pub span: Span,
}

/// What YAML can say, with keys that are text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number, infinities and NaN included.
    Float(f64),
    /// Text.
    Text(String),
    /// `[…]` or `- …`.
    List(Vec<Node>),
    /// `{…}` or `key: …`, in the order written.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Node {
    /// An empty mapping at `span`.
    pub fn empty_map(span: Span) -> Self {
        Self { value: Value::Map(Vec::new()), span }
    }

    /// The entries, when it is a mapping.
    pub fn entries(&self) -> Option<&Vec<Entry>> {
        if let Value::Map(entries) = &self.value { Some(entries) } else { None }
    }

    /// The entries, when it is a mapping.
    pub fn entries_mut(&mut self) -> Option<&mut Vec<Entry>> {
        if let Value::Map(entries) = &mut self.value { Some(entries) } else { None }
    }

    /// The entry of `key` in this mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    /// The entry at a dotted path.
    pub fn at(&self, path: &str) -> Option<&Entry> {
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        let entry = self.entry(first)?;
        rest.map_or(Some(entry), |rest| entry.node.at(rest))
    }

    /// The same as JSON; numbers that JSON lacks are null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => match (u64::try_from(*i), i64::try_from(*i)) {
                (Ok(unsigned), _) => Json::from(unsigned),
                (_, Ok(signed)) => Json::from(signed),
                _ => Json::Null,
            },
            Value::Float(x) => Json::from(*x),
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect(),
        }
    }
}

/// The texts a configuration was put together from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    items: Vec<(String, String)>,
}

impl Sources {
    /// Adds a text under a name shown to the user; the index goes into [`Span::source`].
    pub fn add(&mut self, name: &str, text: &str) -> u16 {
        self.items.push((name.to_owned(), text.to_owned()));
        // More than 65,535 `--set` do not fit a command line.
        u16::try_from(self.items.len() - 1).unwrap_or(u16::MAX)
    }

    /// The name of a source; `default` for none.
    pub fn name(&self, source: Option<u16>) -> &str {
        source.and_then(|i| self.items.get(usize::from(i))).map_or("default", |(name, _)| name)
    }

    /// A diagnostic at a place.
    pub fn diagnostic(&self, span: Span, message: impl fmt::Display, hint: Option<String>) -> Diagnostic {
        let text = span.source.and_then(|i| self.items.get(usize::from(i))).map_or("", |(_, text)| text);
        Diagnostic {
            file: self.name(span.source).to_owned(),
            line: span.line,
            column: span.column,
            message: message.to_string(),
            snippet: Snippet::cut(text, span.line, span.column, span.width),
            hint,
        }
    }
}

/// Parses `text`, which is source number `source` of `sources`.
///
/// An empty text is an empty mapping. A key given twice is reported and the later value kept, so that the rest can
/// still be checked.
///
/// # Errors
/// What the YAML parser cannot go past: bad syntax, or a document beyond the bounds.
pub fn parse(text: &str, source: u16, sources: &Sources) -> (Option<Node>, Vec<Diagnostic>) {
    if text.len() > MAX_TEXT_BYTES {
        let span = Span { source: Some(source), line: 1, column: 1, width: 1 };
        let message =
            format!("the document is too large: found {} bytes, expected at most {MAX_TEXT_BYTES}", text.len());
        return (None, vec![sources.diagnostic(span, message, None)]);
    }
    match serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options()) {
        Ok(tree) => {
            let mut twice = Vec::new();
            let node = tree.into_node(source, &mut twice);
            let report = |(key, span): &(String, Span)| {
                let message = format!("key `{key}` is given twice, expected once");
                sources.diagnostic(*span, message, Some("remove one of the two".to_owned()))
            };
            (Some(node), twice.iter().map(report).collect())
        }
        Err(error) => (None, vec![syntax_diagnostic(&error, source, sources)]),
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_events: 40_000,
            max_nodes: 20_000,
            max_aliases: 200,
            max_anchors: 200,
            max_merge_keys: 200,
            max_recorded_anchor_events: 20_000,
            max_recorded_anchor_bytes: MAX_TEXT_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        // Mappings then hand over every pair, and `into_node` reports all that are there twice.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// The parser's own error in our words where its words are about its insides.
fn syntax_diagnostic(error: &serde_saphyr::Error, source: u16, sources: &Sources) -> Diagnostic {
    let span = span_of(error.location().unwrap_or(Location::UNKNOWN), source);
    let full = error.without_snippet().to_string();
    let plain = full.split(" at line ").next().unwrap_or(&full);
    let (message, hint) = if plain.contains("Documents {") {
        ("the file holds more than one document, expected one".to_owned(), "one file is one run: remove `---`")
    } else if plain.contains("Depth {") || plain.contains("recursion limit") {
        (format!("the document is nested too deeply: expected at most {MAX_DEPTH} levels"), "no key of ours is so deep")
    } else if plain.contains("budget breached") || plain.contains("limit exceeded") {
        let message = "the document is too large when its anchors and aliases are unfolded".to_owned();
        (message, "write the values out; a pipeline needs few anchors or none")
    } else if plain.starts_with("cannot deserialize null into string") {
        ("a key is empty, expected a name".to_owned(), "write the name before the colon")
    } else if plain.starts_with("tabs") {
        (format!("not valid YAML: {plain}"), "indent with spaces")
    } else {
        (
            format!("not valid YAML: {plain}"),
            "check indentation, colons, brackets and quotes here and on the line before",
        )
    };
    sources.diagnostic(span, message, Some(hint.to_owned()))
}

fn span_of(place: Location, source: u16) -> Span {
    let clamp = |x: u64| u32::try_from(x).unwrap_or(u32::MAX);
    let (line, column) = (clamp(place.line()).max(1), clamp(place.column()).max(1));
    Span { source: Some(source), line, column, width: clamp(place.span().len()) }
}

/// What serde sees, before places are turned into spans.
enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

trait IntoNode {
    fn into_node(self, source: u16, twice: &mut Vec<(String, Span)>) -> Node;
}

impl IntoNode for Spanned<Tree> {
    fn into_node(self, source: u16, twice: &mut Vec<(String, Span)>) -> Node {
        let value = match self.value {
            Tree::Leaf(value) => value,
            Tree::List(items) => Value::List(items.into_iter().map(|item| item.into_node(source, twice)).collect()),
            Tree::Map(pairs) => {
                let mut places: HashMap<String, usize> = HashMap::with_capacity(pairs.len());
                let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
                for (key, node) in pairs {
                    let key_span = span_of(key.defined, source);
                    let entry = Entry { key: key.value, key_span, node: node.into_node(source, twice) };
                    match places.get(&entry.key) {
                        Some(&first) => {
                            twice.push((entry.key.clone(), key_span));
                            entries[first] = entry;
                        }
                        None => {
                            places.insert(entry.key.clone(), entries.len());
                            entries.push(entry);
                        }
                    }
                }
                Value::Map(entries)
            }
        };
        Node { value, span: span_of(self.defined, source) }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(b)))
    }
    fn visit_i64<E>(self, i: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Int(i.into())))
    }
    fn visit_u64<E>(self, i: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Int(i.into())))
    }
    fn visit_i128<E>(self, i: i128) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Int(i)))
    }
    fn visit_u128<E>(self, i: u128) -> Result<Tree, E> {
        Ok(Tree::Leaf(i128::try_from(i).map_or(Value::Float(i as f64), Value::Int)))
    }
    fn visit_f64<E>(self, x: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Float(x)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Text(text.to_owned())))
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Text(String::from_utf8_lossy(bytes).into_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(pair) = pairs.next_entry()? {
            map.push(pair);
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
        let mut sources = Sources::default();
        let source = sources.add("test.yaml", text);
        parse(text, source, &sources)
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let (node, errors) = parsed("tiling:\n  tile_px: 512\n");
        assert!(errors.is_empty());
        let node = node.unwrap();
        let entry = node.at("tiling.tile_px").unwrap();
        assert_eq!((entry.key_span.line, entry.key_span.column, entry.key_span.width), (2, 3, 7));
        assert_eq!((entry.node.span.line, entry.node.span.column, entry.node.span.width), (2, 12, 3));
        assert_eq!(entry.node.value, Value::Int(512));
    }

    #[test]
    fn an_alias_bomb_is_refused_quickly() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let items = vec![format!("*a{}", i - 1); 9].join(",");
            text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        let started = std::time::Instant::now();
        let (node, errors) = parsed(&text);
        assert!(node.is_none());
        assert!(errors[0].message.contains("unfolded"), "{}", errors[0]);
        assert!(started.elapsed().as_secs() < 2);
    }

    #[test]
    fn deep_nesting_and_huge_documents_are_refused() {
        for text in ["[".repeat(100_000), "{a: ".repeat(10_000), "- ".repeat(50_000), "a".repeat(MAX_TEXT_BYTES + 1)] {
            let (node, errors) = parsed(&text);
            assert!(node.is_none());
            assert_eq!(errors.len(), 1, "{}", &text[..20]);
        }
        assert!(parsed(&"- 1\n".repeat(100_000)).0.is_none());
        assert!(parsed("a: 1\n---\nb: 2\n").0.is_none());
    }

    #[test]
    fn every_key_given_twice_is_reported_and_the_last_value_holds() {
        let (node, errors) = parsed("a: 1\nb: {c: 1, c: 2}\na: 3\n");
        let messages: Vec<_> = errors.iter().map(|e| (e.message.as_str(), e.line)).collect();
        let said = |key: &str| format!("key `{key}` is given twice, expected once");
        assert_eq!(messages, [(said("c").as_str(), 2), (said("a").as_str(), 3)]);
        assert_eq!(node.unwrap().at("a").unwrap().node.value, Value::Int(3));
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let (node, errors) = parsed("a: &x {k: 1}\nb: *x\nc: {<<: *x, z: 1}\nd: {<<: *x, k: 2}\ne: {k: 3, <<: *x}\n");
        assert!(errors.is_empty());
        let node = node.unwrap();
        assert_eq!(node.at("b.k").unwrap().node.value, Value::Int(1));
        for (path, value) in [("c.k", 1), ("d.k", 2), ("e.k", 3)] {
            assert_eq!(node.at(path).unwrap().node.value, Value::Int(value), "{path}");
        }
    }
}
