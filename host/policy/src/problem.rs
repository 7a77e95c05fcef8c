//! What is wrong with a policy, said so that a person can mend it: file, line, column, field, and what would be right.

use std::fmt;
use std::ops::Range;

/// How many problems one error lists.
const SHOWN_MAX: usize = 20;
/// How many characters of the policy's own text one message repeats.
const ECHO_MAX: usize = 60;

/// A place in a policy's text, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where; none where it concerns the file as a whole.
    pub place: Option<Place>,
    /// The field as TOML writes it, such as `secrets."db-*".max-uses`; empty where there is none.
    pub field: String,
    /// What is wrong and what would be right. Never a value out of `[environment]`.
    pub message: String,
}

/// A policy was not accepted. `Display` gives one line for each problem, in the order of the file, at most twenty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyError {
    origin: String,
    problems: Vec<Problem>,
    more: usize,
}

impl PolicyError {
    /// An error over the problems, or none where there are none.
    pub(crate) fn unless_empty(origin: &str, mut problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() {
            return None;
        }
        problems.sort_by_key(|problem| problem.place);
        let more = problems.len().saturating_sub(SHOWN_MAX);
        problems.truncate(SHOWN_MAX);
        Some(Self { origin: visible(origin, usize::MAX), problems, more })
    }

    /// The problems, in the order of the file; at most twenty.
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
            if let Some(place) = problem.place {
                write!(f, ":{}:{}", place.line, place.column)?;
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

/// Finds lines and columns of byte offsets.
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

    /// The line in which a span begins, without its end.
    pub(crate) fn line(&self, span: &Range<usize>) -> &'a str {
        let next = self.starts.partition_point(|start| *start <= span.start);
        let start = self.starts.get(next.saturating_sub(1)).copied().unwrap_or(0);
        self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default()
    }

    /// Where a span begins.
    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        let line = self.starts.partition_point(|start| *start <= span.start).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..span.start).map_or(0, |before| before.chars().count()) + 1;
        Place { line, column }
    }
}

/// Text out of the policy for use in a message: cut to a bearable length, nothing that a terminal would obey.
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

/// A key as TOML would write it: bare where that is possible.
pub(crate) fn key(text: &str) -> String {
    let bare =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let shown = visible(text, ECHO_MAX);
    if bare { shown } else { format!("\"{shown}\"") }
}

/// A string value as a message quotes it.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", visible(text, ECHO_MAX))
}

/// `a`, `b` and `c`.
pub(crate) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            format!("{} and `{last}`", first.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The known word that somebody may have meant.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer than anything known by far: not a slip of the pen, and the distance would be costly.
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

/// Levenshtein's edit distance.
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
    fn distances() {
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
    fn places_count_lines_and_characters() {
        let lines = Lines::new("a\nä = 1\r\n\nx");
        let place = |at: usize| lines.place(&(at..at));
        assert_eq!(place(0), Place { line: 1, column: 1 });
        assert_eq!(place(2), Place { line: 2, column: 1 });
        assert_eq!(place(5), Place { line: 2, column: 3 });
        assert_eq!(place(11), Place { line: 4, column: 1 });
        assert_eq!(place(12), Place { line: 4, column: 2 });
        assert_eq!(place(999).line, 4);
        assert_eq!((lines.line(&(0..0)), lines.line(&(5..6)), lines.line(&(10..10))), ("a", "ä = 1", ""));
    }

    #[test]
    fn nothing_a_terminal_obeys_is_shown() {
        assert_eq!(visible("a\u{1b}[31m\n\u{202e}", 99), "a\\u{1b}[31m\\n\\u{202e}");
        assert_eq!(visible("abcdef", 3), "abc...");
    }
}
