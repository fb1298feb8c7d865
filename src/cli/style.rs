//! How what is printed looks: colour where it is wanted, large numbers in groups.
//!
//! Owns: [`Style`], [`ColorChoice`], [`grouped`]. Must not know: what is printed.

use std::io::IsTerminal;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether text to one stream is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colour is on.
    pub color: bool,
}

impl Style {
    /// The style of standard error.
    pub fn of_stderr(choice: ColorChoice) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => std::io::stderr().is_terminal() && !plain,
        };
        Self { color }
    }

    /// `text` with its errors, hints, places and underlines coloured.
    pub fn paint(self, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let mut painted = String::with_capacity(text.len() * 2);
        for line in text.split_inclusive('\n') {
            let body = line.trim_end_matches('\n');
            let end = &line[body.len()..];
            let colored = if let Some(rest) = body.strip_prefix("error:") {
                format!("\x1b[1;31merror:\x1b[0;1m{rest}\x1b[0m")
            } else if let Some(rest) = body.strip_prefix("hint:") {
                format!("\x1b[1;36mhint:\x1b[0m{rest}")
            } else if body.trim_start().starts_with("-->") {
                format!("\x1b[34m{body}\x1b[0m")
            } else if let Some((bar, carets)) = body.split_once('|').filter(|(_, c)| is_underline(c)) {
                format!("\x1b[34m{bar}|\x1b[1;31m{carets}\x1b[0m")
            } else {
                body.to_owned()
            };
            painted.push_str(&colored);
            painted.push_str(end);
        }
        painted
    }
}

fn is_underline(text: &str) -> bool {
    text.contains('^') && text.chars().all(|c| c == '^' || c == ' ')
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_no_character_that_is_seen() {
        let text = "error: a\n --> f:1:2\n  |\n1 | x ^ y\n  |   ^^\nhint: b\nplain\n";
        let painted = Style { color: true }.paint(text);
        let mut seen = String::new();
        let mut rest = painted.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            seen.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        seen.push_str(rest);
        assert_eq!(seen, text);
        assert!(painted.len() > text.len());
        assert_eq!(Style { color: false }.paint(text), text);
    }
}
