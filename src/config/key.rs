//! One key of the YAML file: its path, kind, default, unit and meaning; and whether a value fits it.
//!
//! Owns: [`Key`], [`Kind`], [`Preset`]. Must not know: which keys exist (that is `schema`), how they were written.

use super::document::{Entry, Node, Value};

/// A key, as documented and as checked.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path: `tiling.tile_px`.
    pub path: &'static str,
    /// What fits.
    pub kind: Kind,
    /// What holds when it is not said.
    pub preset: Preset,
    /// Unit of the number, or empty.
    pub unit: &'static str,
    /// What it does, one line.
    pub meaning: &'static str,
    /// Whether it is one of the alternatives of its parent, of which exactly one holds.
    pub choice: bool,
}

/// What holds when a key is not said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Preset {
    /// This YAML value.
    Is(&'static str),
    /// Found out when the run starts, as described; and an example of a value.
    Found(&'static str, &'static str),
    /// Nothing: the key has no effect when left out; an example of a value.
    Unset(&'static str),
}

/// What fits a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A mapping of keys.
    Section,
    /// A mapping of keys; `true` is the mapping of defaults, `false` turns it off.
    Switch,
    /// `true` or `false`.
    Bool,
    /// A whole number, a multiple of `step`.
    Int {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// What it must be a multiple of.
        step: u64,
    },
    /// A power of two.
    PowerOfTwo {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A finite number.
    Real {
        /// Smallest.
        min: f64,
        /// Largest; may be infinite, the number may not.
        max: f64,
    },
    /// A list of finite numbers; one number is a list of one.
    Reals {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// Fewest of them.
        min_count: usize,
        /// Most of them.
        max_count: usize,
    },
    /// A resolution: a number, or `{ x: …, y: … }`.
    MppXy {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// Any text.
    Text,
    /// A path, relative to the current directory.
    Path,
    /// A path or pattern, or a list of them, at least `min_count`.
    Texts {
        /// Fewest.
        min_count: usize,
    },
    /// `"#rrggbb"`.
    Color,
    /// A number of bytes: `4GiB`, `1500MB`, `1073741824`.
    Bytes {
        /// Fewest.
        min: u64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl Key {
    /// A mapping of keys.
    pub const fn section(path: &'static str, meaning: &'static str) -> Self {
        Self { path, kind: Kind::Section, preset: Preset::Is("{}"), unit: "", meaning, choice: false }
    }

    /// A mapping that can be turned off; `preset` is `{}` or `false`.
    pub const fn switch(path: &'static str, preset: &'static str, meaning: &'static str) -> Self {
        Self { path, kind: Kind::Switch, preset: Preset::Is(preset), unit: "", meaning, choice: false }
    }

    /// A value.
    pub const fn value(
        path: &'static str,
        kind: Kind,
        preset: Preset,
        unit: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self { path, kind, preset, unit, meaning, choice: false }
    }

    /// A value without a unit that is `preset` when not said.
    pub const fn plain(path: &'static str, kind: Kind, preset: &'static str, meaning: &'static str) -> Self {
        Self::value(path, kind, Preset::Is(preset), "", meaning)
    }

    /// One of the alternatives of the parent. `Preset::Unset` unless it is the one that holds by default.
    pub const fn choice(path: &'static str, kind: Kind, preset: Preset, meaning: &'static str) -> Self {
        Self { path, kind, preset, unit: "", meaning, choice: true }
    }

    /// The last word of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the section it stands in; empty for the top.
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// Whether this is the key of `path`. In a key's path `*` stands for a name of the user's.
    pub fn is_at(&self, path: &str) -> bool {
        same_path(self.path, path)
    }

    /// Whether it stands directly in the section at `path`.
    pub fn is_in(&self, section: &str) -> bool {
        same_path(self.parent(), section)
    }

    /// What fits, in words with the unit: `a whole number from 32 to 8192 px`.
    pub fn expected(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match self.kind {
            Kind::Section => "a mapping of keys".to_owned(),
            Kind::Switch => "`true`, `false` or a mapping of keys".to_owned(),
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::Int { min, max, step: 1 } if max == u64::MAX => format!("a whole number, {min}{unit} or more"),
            Kind::Int { min, max, step: 1 } => format!("a whole number from {min} to {max}{unit}"),
            Kind::Int { min, max, step } => format!("a multiple of {step} from {min} to {max}{unit}"),
            Kind::PowerOfTwo { min, max } => format!("a power of two from {min} to {max}{unit}"),
            Kind::Real { min, max } if max.is_infinite() => format!("a finite number, {min}{unit} or more"),
            Kind::Real { min, max } => format!("a number from {min} to {max}{unit}"),
            Kind::Reals { min, max, min_count, max_count } => {
                let count = match (min_count, max_count) {
                    (least, most) if least == most => format!("{least}"),
                    (least, usize::MAX) => format!("at least {least}"),
                    (least, most) => format!("{least} to {most}"),
                };
                let range =
                    if max.is_infinite() { format!("of {min} or more") } else { format!("from {min} to {max}") };
                format!("a list of {count} numbers {range}{unit}")
            }
            Kind::MppXy { min, max } => format!("a number from {min} to {max}{unit}, or `{{ x: …, y: … }}`"),
            Kind::Text => "text".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Texts { min_count: 0 } => "text or a list of texts".to_owned(),
            Kind::Texts { .. } => "text or a list of at least one text".to_owned(),
            Kind::Color => "a colour such as `\"#c02020\"`".to_owned(),
            Kind::Bytes { min } => format!("a number of bytes such as `4GiB`, at least {}", mebibytes(min)),
            Kind::OneOf(words) => match words {
                [only] => format!("`{only}`"),
                _ => format!("one of {}", words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")),
            },
        }
    }

    /// Whether the value of a leaf fits; brings it to its one form (a list of texts, a number of bytes, `{ x, y }`).
    ///
    /// `null` fits where the key may be left unset.
    pub fn accept(&self, node: &mut Node) -> bool {
        if node.value == Value::Null {
            return !matches!(self.preset, Preset::Is(_)) && !self.choice;
        }
        match (self.kind, &mut node.value) {
            (Kind::Bool, Value::Bool(_)) => true,
            (Kind::Int { min, max, step }, Value::Int(i)) => {
                (i128::from(min)..=i128::from(max)).contains(i) && *i % i128::from(step) == 0
            }
            (Kind::PowerOfTwo { min, max }, Value::Int(i)) => {
                (i128::from(min)..=i128::from(max)).contains(i) && i.count_ones() == 1
            }
            (Kind::Real { min, max }, value) => number(value).is_some_and(|x| (min..=max).contains(&x)),
            (Kind::Reals { min, max, min_count, max_count }, value) => {
                if let Some(x) = number(value) {
                    *value = Value::List(vec![Node { value: Value::Float(x), span: node.span }]);
                }
                let fits = |item: &Node| number(&item.value).is_some_and(|x| (min..=max).contains(&x));
                matches!(value, Value::List(items)
                    if (min_count..=max_count).contains(&items.len()) && items.iter().all(fits))
            }
            (Kind::MppXy { min, max }, value) => accept_mpp(value, node.span, min, max),
            (Kind::Text, Value::Text(text)) => !text.trim().is_empty(),
            (Kind::Path, Value::Text(text)) => is_path(text),
            (Kind::Texts { .. }, Value::Text(text)) if is_path(text) => {
                node.value = Value::List(vec![node.clone()]);
                true
            }
            (Kind::Texts { min_count }, Value::List(items)) => {
                items.len() >= min_count
                    && items.iter().all(|item| matches!(&item.value, Value::Text(text) if is_path(text)))
            }
            (Kind::Color, Value::Text(text)) => parse_color(text).is_some(),
            (Kind::Bytes { min }, value) => {
                let bytes = match value {
                    Value::Int(i) => u64::try_from(*i).ok(),
                    Value::Text(text) => parse_bytes(text),
                    _ => None,
                };
                // A refused value stays as it was written, for the message.
                let Some(bytes) = bytes.filter(|&bytes| bytes >= min) else { return false };
                *value = Value::Int(bytes.into());
                true
            }
            (Kind::OneOf(words), Value::Text(text)) => words.contains(&text.as_str()),
            // `version: 0.5` is a number to YAML and a word to us.
            (Kind::OneOf(words), Value::Float(x)) => {
                let text = x.to_string();
                let fits = words.contains(&text.as_str());
                if fits {
                    node.value = Value::Text(text);
                }
                fits
            }
            _ => false,
        }
    }
}

/// Whether a path with names of the user's is that of a key, in which `*` stands for them.
fn same_path(of_key: &str, path: &str) -> bool {
    if !of_key.contains('*') {
        return of_key == path;
    }
    let (mut key, mut said) = (of_key.split('.'), path.split('.'));
    loop {
        match (key.next(), said.next()) {
            (None, None) => return true,
            (Some(key), Some(said)) if key == said || (key == "*" && !said.is_empty()) => {}
            _ => return false,
        }
    }
}

/// Not empty, and nothing the system would refuse or we would misread: `~` is the shell's.
fn is_path(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains('\0') && !is_home(text)
}

/// A path under the home directory as a shell would write it.
pub(super) fn is_home(text: &str) -> bool {
    text.starts_with("~/")
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(i) => Some(*i as f64),
        Value::Float(x) if x.is_finite() => Some(*x),
        _ => None,
    }
}

fn accept_mpp(value: &mut Value, span: super::document::Span, min: f64, max: f64) -> bool {
    if let Some(x) = number(value) {
        let axis =
            |key: &str| Entry { key: key.to_owned(), key_span: span, node: Node { value: Value::Float(x), span } };
        *value = Value::Map(vec![axis("x"), axis("y")]);
    }
    let Value::Map(entries) = value else { return false };
    let has = |key: &str| entries.iter().filter(|e| e.key == key).count() == 1;
    let fits = |e: &Entry| number(&e.node.value).is_some_and(|x| (min..=max).contains(&x));
    entries.len() == 2 && has("x") && has("y") && entries.iter().all(fits)
}

/// `#rrggbb` as red, green, blue.
pub(super) fn parse_color(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).ok();
    Some([byte(0)?, byte(2)?, byte(4)?])
}

/// `4GiB`, `1.5 GB`, `512MiB`, `1000` in bytes.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let amount: f64 = text[..split].parse().ok().filter(|x: &f64| x.is_finite() && *x >= 0.0)?;
    let unit: f64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "t" | "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    let bytes = amount * unit;
    (bytes < 9e18).then_some(bytes as u64)
}

fn mebibytes(bytes: u64) -> String {
    format!("{}MiB", bytes / 1_048_576)
}

#[cfg(test)]
mod tests {
    use super::super::document::Span;
    use super::*;

    fn accepts(kind: Kind, value: Value) -> bool {
        let key = Key::value("a.b", kind, Preset::Is("1"), "px", "");
        key.accept(&mut Node { value, span: Span::DEFAULT })
    }

    #[test]
    fn bytes_are_read_in_both_families_of_units() {
        assert_eq!(parse_bytes("4GiB"), Some(4 << 30));
        assert_eq!(parse_bytes("1.5 GB"), Some(1_500_000_000));
        assert_eq!(parse_bytes("512"), Some(512));
        for bad in ["", "GiB", "4 apples", "-1GiB", "1.2.3", "99999999999TiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_that_are_not_finite_never_fit() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!accepts(Kind::Real { min: 0.0, max: f64::MAX }, Value::Float(x)));
            assert!(!accepts(Kind::MppXy { min: 0.0, max: f64::MAX }, Value::Float(x)));
        }
        assert!(accepts(Kind::Real { min: 0.0, max: 1.0 }, Value::Int(1)));
    }

    #[test]
    fn whole_numbers_keep_to_range_step_and_power() {
        let step = Kind::Int { min: 256, max: 1024, step: 256 };
        assert!(accepts(step, Value::Int(512)));
        assert!(!accepts(step, Value::Int(500)));
        assert!(!accepts(step, Value::Int(i128::MAX)));
        assert!(!accepts(step, Value::Float(512.0)));
        let power = Kind::PowerOfTwo { min: 128, max: 4096 };
        assert!(accepts(power, Value::Int(128)) && accepts(power, Value::Int(4096)));
        assert!(!accepts(power, Value::Int(384)) && !accepts(power, Value::Int(64)));
    }

    #[test]
    fn an_ome_zarr_version_may_be_written_as_a_number() {
        assert!(accepts(Kind::OneOf(&["0.4", "0.5"]), Value::Float(0.5)));
        assert!(!accepts(Kind::OneOf(&["0.4", "0.5"]), Value::Float(0.6)));
    }
}
