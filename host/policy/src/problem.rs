//! Problems of a policy, with file, line, column, field and the expected value.

use std::fmt;
use std::ops::Range;

/// The maximum number of problems in one error.
const SHOWN_MAX: usize = 20;
/// The maximum number of characters of the policy's text that one message repeats.
const ECHO_MAX: usize = 60;

/// A location in the text of a policy. Lines and columns start at 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One problem of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The location; `None` if the problem concerns the whole file.
    pub location: Option<Location>,
    /// The field in TOML notation, such as `secrets."db-*".max-uses`; empty if there is none.
    pub field: String,
    /// The problem and the expected value. Never contains a value of `[environment]`.
    pub message: String,
}

/// An invalid policy. `Display` writes one line per problem in file order, at most twenty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyError {
    origin: String,
    problems: Vec<Problem>,
    more: usize,
}

impl PolicyError {
    /// Returns an error with these problems; `None` if there are none.
    pub(crate) fn unless_empty(origin: &str, mut problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() {
            return None;
        }
        problems.sort_by_key(|problem| problem.location);
        let more = problems.len().saturating_sub(SHOWN_MAX);
        problems.truncate(SHOWN_MAX);
        Some(Self { origin: visible(origin, usize::MAX), problems, more })
    }

    /// Returns the problems in file order, at most twenty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.origin)?;
            if let Some(location) = problem.location {
                write!(f, ":{}:{}", location.line, location.column)?;
            }
            if !problem.field.is_empty() {
                write!(f, ": {}", problem.field)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        if self.more > 0 {
            write!(f, "\n{}: and {} more", self.origin, self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Converts byte offsets to lines and columns.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1))
            .collect();
        Self { text, starts }
    }

    /// Returns the line in which a span begins, without its line break.
    pub(crate) fn line(&self, span: &Range<usize>) -> &'a str {
        let next = self.starts.partition_point(|start| *start <= span.start);
        let start = self.starts.get(next.saturating_sub(1)).copied().unwrap_or(0);
        self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default()
    }

    /// Returns the location at which a span begins.
    pub(crate) fn location(&self, span: &Range<usize>) -> Location {
        let line = self.starts.partition_point(|start| *start <= span.start).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..span.start).map_or(0, |before| before.chars().count()) + 1;
        Location { line, column }
    }
}

/// Returns text of the policy for a message: truncated, and with control characters escaped.
pub(crate) fn visible(text: &str, max: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count >= max {
            shown.push_str("...");
            break;
        }
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

/// Returns a key in TOML notation: bare if possible, otherwise quoted.
pub(crate) fn key(text: &str) -> String {
    let bare =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let shown = visible(text, ECHO_MAX);
    if bare { shown } else { format!("\"{shown}\"") }
}

/// Quotes a string value for a message.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", visible(text, ECHO_MAX))
}

/// Formats words as `a`, `b` and `c`.
pub(crate) fn comma_separated(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            format!("{} and `{last}`", first.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Returns the known word that was probably meant.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // A word this long is no typing error, and its distance would be expensive to compute.
    if word.len() > 40 {
        return None;
    }
    let folded = word.to_lowercase().replace(['_', ' '], "-");
    known
        .iter()
        .map(|candidate| (distance(&folded, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 2 < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            left = (left + 1).min(*cell + 1).min(diagonal + usize::from(ca != *cb));
            diagonal = std::mem::replace(cell, left);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_within_two_edits() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("memry", "memory", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        assert_eq!(nearest("max_uses", &["allow", "max-uses"]), Some("max-uses"));
        assert_eq!(nearest("Memry", &["memory", "time"]), Some("memory"));
        assert_eq!(nearest("x", &["get", "set"]), None);
        assert_eq!(nearest("colour", &["memory", "time"]), None);
    }

    #[test]
    fn location_counts_lines_and_characters_from_one() {
        let lines = Lines::new("a\nä = 1\r\n\nx");
        let location = |offset: usize| lines.location(&(offset..offset));
        assert_eq!(location(0), Location { line: 1, column: 1 });
        assert_eq!(location(2), Location { line: 2, column: 1 });
        assert_eq!(location(5), Location { line: 2, column: 3 });
        assert_eq!(location(11), Location { line: 4, column: 1 });
        assert_eq!(location(12), Location { line: 4, column: 2 });
        assert_eq!(location(999).line, 4);
        assert_eq!((lines.line(&(0..0)), lines.line(&(5..6)), lines.line(&(10..10))), ("a", "ä = 1", ""));
    }

    #[test]
    fn visible_text_has_no_control_characters() {
        assert_eq!(visible("a\u{1b}[31m\n\u{202e}", 99), "a\\u{1b}[31m\\n\\u{202e}");
        assert_eq!(visible("abcdef", 3), "abc...");
    }
}
