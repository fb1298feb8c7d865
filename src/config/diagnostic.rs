//! One thing wrong with a configuration, and where: file, line, column, the line itself, a hint.
//!
//! Owns: [`Diagnostic`], [`render`]. Must not know: keys, the schema.

use std::fmt;

/// Most characters of a line that a snippet shows.
const MAX_SNIPPET_CHARS: usize = 110;

/// One thing wrong with a configuration. `Display` gives the whole block, hint included, without a final newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The YAML file, `--set` or `environment`.
    pub file: String,
    /// Line, counted from 1; 0 when no line is to blame (an unreadable file).
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// What failed, found, expected.
    pub message: String,
    /// The line and what to underline.
    pub snippet: Option<Snippet>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// A line of the source with the characters in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The line, cut to a readable length around the place; tabs and control characters are spaces.
    pub text: String,
    /// First underlined character, counted from 0.
    pub start: usize,
    /// Number of underlined characters, at least 1.
    pub width: usize,
}

impl Diagnostic {
    /// A diagnostic about a whole file.
    pub fn of_file(file: &str, message: impl fmt::Display, hint: Option<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, message: message.to_string(), snippet: None, hint }
    }
}

impl Snippet {
    /// The snippet of line `line` (from 1) of `text`, underlined from `column` (from 1) for `width` characters.
    pub fn cut(text: &str, line: u32, column: u32, width: u32) -> Option<Self> {
        let row: Vec<char> = text
            .lines()
            .nth((line as usize).checked_sub(1)?)?
            .trim_end()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let at = (column as usize).saturating_sub(1).min(row.len());
        let width = (width as usize).clamp(1, row.len().saturating_sub(at).max(1));
        if row.len() <= MAX_SNIPPET_CHARS {
            return Some(Self { text: row.into_iter().collect(), start: at, width });
        }
        let first = at.saturating_sub(MAX_SNIPPET_CHARS / 3).min(row.len() - MAX_SNIPPET_CHARS);
        let shown = &row[first..first + MAX_SNIPPET_CHARS];
        let (before, after) =
            (if first > 0 { "…" } else { "" }, if first + MAX_SNIPPET_CHARS < row.len() { "…" } else { "" });
        let start = at - first + before.chars().count();
        let width = width.min(MAX_SNIPPET_CHARS + before.chars().count() - start).max(1);
        Some(Self { text: format!("{before}{}{after}", shown.iter().collect::<String>()), start, width })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.snippet {
            Some(snippet) => {
                let number = self.line.to_string();
                let pad = " ".repeat(number.len());
                write!(f, "\n{pad}--> {}:{}:{}", self.file, self.line, self.column)?;
                write!(f, "\n{pad} |\n{number} | {}\n{pad} | ", snippet.text)?;
                write!(f, "{}{}", " ".repeat(snippet.start), "^".repeat(snippet.width))?;
            }
            None if self.line > 0 => write!(f, "\n --> {}:{}:{}", self.file, self.line, self.column)?,
            None => write!(f, "\n --> {}", self.file)?,
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// All diagnostics as the user sees them, one blank line between two.
pub fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for (i, diagnostic) in diagnostics.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { "\n" });
        text.push_str(&format!("{diagnostic}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_line_column_underline_and_hint() {
        let text = "tiling:\n  stride: 192\n";
        let d = Diagnostic {
            file: "a.yaml".into(),
            line: 2,
            column: 3,
            message: "unknown key `stride`, expected `stride_px`".into(),
            snippet: Snippet::cut(text, 2, 3, 6),
            hint: Some("rename it".into()),
        };
        let expected = "error: unknown key `stride`, expected `stride_px`\n --> a.yaml:2:3\n  |\n2 |   stride: 192\n  |   ^^^^^^\nhint: rename it";
        assert_eq!(d.to_string(), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let s = Snippet::cut(&line, 1, 501, 4).unwrap();
        let underlined: String = s.text.chars().skip(s.start).take(s.width).collect();
        assert_eq!(underlined, "HERE");
        assert!(s.text.chars().count() <= MAX_SNIPPET_CHARS + 2);
    }

    #[test]
    fn a_place_beyond_the_line_still_has_an_underline() {
        let s = Snippet::cut("ab\n", 1, 9, 0).unwrap();
        assert_eq!((s.start, s.width), (2, 1));
        assert_eq!(Snippet::cut("ab\n", 7, 1, 1), None);
    }
}
