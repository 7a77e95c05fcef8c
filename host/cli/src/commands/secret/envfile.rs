//! Parses `.env` files.
//!
//! Programs disagree about much of this format: expansion of `$`, comments, backslashes. A value
//! that they commonly read differently is an error here, because a wrongly stored password is
//! noticed only when it is needed. `docs/command-line.md` has the grammar. Nothing is expanded, and
//! messages never quote the file: if quotes are missing, any text may be part of a value. Values
//! are zeroized.

use std::fmt;

use zeroize::Zeroizing;

/// A variable.
pub(super) struct Entry {
    /// Its first line, from 1.
    pub(super) line: usize,
    /// The name as written.
    pub(super) name: String,
    /// The value.
    pub(super) value: Zeroizing<String>,
}

/// A problem in a line. Its text does not quote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong and how to correct it.
    pub(super) what: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

const NO_EQUALS: &str = "missing `=`: expected `NAME=value`; a value that spans several lines must be in quotes";
const NO_NAME: &str = "invalid name before `=`: use letters, digits, `_`, `-` and `.`";
const AMBIGUOUS: &str = "programs read this value differently: put it in single quotes";
const DOLLAR: &str = "variables are not expanded: put the value in single quotes if the dollar sign is part of it";
const ESCAPE: &str =
    "a backslash in double quotes must be followed by one of n r t \" \\ $ `: use single quotes for a literal one";
const OPEN: &str = "the quote that starts here is not closed";
const AFTER: &str = "text after the closing quote: quote the whole value or none of it";
const CONTROL: &str = "control character: put the value in quotes";

/// Parses a file, without a leading byte order mark. Reports all problems.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Vec<Problem>> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    while !reader.rest.is_empty() {
        match reader.entry() {
            Ok(entry) => entries.extend(entry),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}

struct Reader<'a> {
    rest: &'a str,
    /// The line number at which `rest` starts.
    line: usize,
}

impl<'a> Reader<'a> {
    /// Returns the rest of this line, without its line end.
    fn line(&self) -> &'a str {
        let line = self.rest.split_once('\n').map_or(self.rest, |(line, _)| line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        self.line += 1;
    }

    /// Parses a line, or several lines if a quoted value spans them.
    fn entry(&mut self) -> Result<Option<Entry>, Problem> {
        let first_line = self.line;
        let problem = |what| Problem { line: first_line, what };
        let line = self.line().trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            self.skip_line();
            return Ok(None);
        }
        let Some((before, _)) = line.split_once('=') else {
            self.skip_line();
            return Err(problem(NO_EQUALS));
        };
        let name = match before.strip_prefix("export") {
            Some(after) if after.starts_with(BLANK) => after,
            _ => before,
        };
        let name = name.trim_matches(BLANK);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || !name.chars().all(allowed) {
            self.skip_line();
            return Err(problem(NO_NAME));
        }
        // The text after `=`, including the following lines.
        let after = self.rest.split_once('=').map_or("", |(_, after)| after);
        let after = after.trim_start_matches(BLANK);
        let value = if let Some(inside) = after.strip_prefix('\'') {
            self.quoted(inside, single)
        } else if let Some(inside) = after.strip_prefix('"') {
            self.quoted(inside, double)
        } else {
            let value = plain(line.split_once('=').map_or("", |(_, value)| value));
            self.skip_line();
            value
        };
        Ok(Some(Entry { line: first_line, name: name.to_owned(), value: value.map_err(problem)? }))
    }

    /// Parses a value after its opening quote, and continues after its last line even if the value
    /// is invalid.
    fn quoted(&mut self, text: &'a str, read: Quoted) -> Result<Zeroizing<String>, &'static str> {
        // Allocated at the maximum size, so that it is never moved and leaves no copies.
        let mut value = Zeroizing::new(String::with_capacity(text.len().min(VALUE_ROOM)));
        let Some((length, wrong)) = read(text, &mut value) else {
            // The end of an unclosed quote is unknown, so parsing stops.
            self.rest = "";
            return Err(OPEN);
        };
        let (inside, after) = text.split_at_checked(length).unwrap_or((text, ""));
        let (end, rest) = after.split_once('\n').unwrap_or((after, ""));
        self.line += inside.matches('\n').count() + 1;
        self.rest = rest;
        let end = end.strip_suffix('\r').unwrap_or(end);
        let remark = end.trim_start_matches(BLANK);
        let is_remark = remark.starts_with('#') && remark.len() < end.len();
        match wrong {
            Some(wrong) => Err(wrong),
            None if remark.is_empty() || is_remark => Ok(value),
            None => Err(AFTER),
        }
    }
}

/// Copies a value after its opening quote. Returns the length including the closing quote and any
/// problem, or `None` if the quote is not closed.
type Quoted = fn(&str, &mut String) -> Option<(usize, Option<&'static str>)>;

const BLANK: [char; 2] = [' ', '\t'];

/// Values are truncated here above the maximum length of a secret, even if the last character has
/// four bytes. The secret's constructor then rejects them.
const VALUE_ROOM: usize = strongroom::secret::VALUE_MAX + 4;

/// Parses an unquoted value: to the end of the line or a comment, without surrounding white space.
fn plain(text: &str) -> Result<Zeroizing<String>, &'static str> {
    // A comment starts at a `#` after white space.
    let end = text
        .match_indices('#')
        .find(|(at, _)| text.get(..*at).is_some_and(|before| before.ends_with(BLANK)))
        .map_or(text.len(), |(at, _)| at);
    let value = text.get(..end).unwrap_or_default().trim_matches(BLANK);
    if value.contains('$') {
        return Err(DOLLAR);
    }
    if value.contains(['\'', '"', '`', '\\', '#']) {
        return Err(AMBIGUOUS);
    }
    if value.chars().any(char::is_control) {
        return Err(CONTROL);
    }
    Ok(Zeroizing::new(value.to_owned()))
}

/// Parses a single-quoted value: literal up to the next quote.
fn single(text: &str, value: &mut String) -> Option<(usize, Option<&'static str>)> {
    let end = text.find('\'')?;
    let inside = text.get(..end).unwrap_or_default();
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        // Line ends become LF.
        if !(c == '\r' && chars.peek() == Some(&'\n')) {
            push(value, c);
        }
    }
    Some((end + 1, None))
}

/// Parses a double-quoted value with backslash escapes.
fn double(text: &str, value: &mut String) -> Option<(usize, Option<&'static str>)> {
    let mut chars = text.char_indices().peekable();
    let mut wrong = None;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((at + 1, wrong)),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => push(value, '\n'),
                Some('r') => push(value, '\r'),
                Some('t') => push(value, '\t'),
                Some(c @ ('"' | '\\' | '$' | '`')) => push(value, c),
                _ => wrong = wrong.or(Some(ESCAPE)),
            },
            '$' | '`' => wrong = wrong.or(Some(if c == '$' { DOLLAR } else { AMBIGUOUS })),
            '\r' if chars.peek().is_some_and(|(_, next)| *next == '\n') => {}
            c => push(value, c),
        }
    }
    None
}

/// Appends a character if it fits. A longer value is rejected for its length later, and must not be
/// reallocated.
fn push(value: &mut String, c: char) {
    if value.len() + c.len_utf8() <= value.capacity() {
        value.push(c);
    }
}

#[cfg(test)]
mod tests;
