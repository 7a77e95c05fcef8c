//! Reading a `.env` file: names and values, each value in memory of its own that is overwritten.
//!
//! Programs that read such files disagree about a good part of the form: what `$` does, where a comment begins, what a backslash means.
//! Here a value is an error where they commonly do, because a password that is stored a little wrong is found out when it is needed.
//! `docs/command-line.md` has the grammar, and names what some programs read differently all the same. Nothing is expanded, and no message quotes the file: where quotes are
//! missing, anything in it may be a part of a value.

use std::fmt;

use zeroize::Zeroizing;

/// One variable of a file.
pub(super) struct Entry {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// The name, as it is written.
    pub(super) name: String,
    /// The value.
    pub(super) value: Zeroizing<String>,
}

/// What is wrong on a line. The text says nothing of what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong, and what would be right.
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

/// Reads the text of a file, without a byte order mark at its beginning. All problems are found, not only the first.
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
    /// The line on which `rest` begins.
    line: usize,
}

impl<'a> Reader<'a> {
    /// The rest of this line, without its end.
    fn line(&self) -> &'a str {
        let line = self.rest.split_once('\n').map_or(self.rest, |(line, _)| line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        self.line += 1;
    }

    /// Reads a line, or several where a value in quotes has several.
    fn entry(&mut self) -> Result<Option<Entry>, Problem> {
        let begun = self.line;
        let problem = |what| Problem { line: begun, what };
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
        // What stands behind the `=`, with everything that follows: it exists, because the line has one.
        let behind = self.rest.split_once('=').map_or("", |(_, behind)| behind);
        let behind = behind.trim_start_matches(BLANK);
        let value = if let Some(inside) = behind.strip_prefix('\'') {
            self.quoted(inside, single)
        } else if let Some(inside) = behind.strip_prefix('"') {
            self.quoted(inside, double)
        } else {
            let value = plain(line.split_once('=').map_or("", |(_, value)| value));
            self.skip_line();
            value
        };
        Ok(Some(Entry { line: begun, name: name.to_owned(), value: value.map_err(problem)? }))
    }

    /// Reads a value from behind its opening quotes, and goes on behind the end of its last line, also where something is wrong with it.
    fn quoted(&mut self, text: &'a str, read: Quoted) -> Result<Zeroizing<String>, &'static str> {
        // As long as it can get, so that it is never moved and no copy stays behind.
        let mut value = Zeroizing::new(String::with_capacity(text.len().min(VALUE_ROOM)));
        let Some((length, wrong)) = read(text, &mut value) else {
            // Nobody knows where it was meant to end.
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

/// Copies a value from behind its opening quotes; how many bytes it and its closing quotes take, and what is wrong with it. None where
/// the quotes are not closed.
type Quoted = fn(&str, &mut String) -> Option<(usize, Option<&'static str>)>;

const BLANK: [char; 2] = [' ', '\t'];

/// What is cut off here is longer than any value may be, even if the character that did not fit has four bytes. It is refused where the
/// value becomes a secret.
const VALUE_ROOM: usize = strongroom::secret::VALUE_MAX + 4;

/// A value without quotes: to the end of the line or to a remark, without the white space around it.
fn plain(text: &str) -> Result<Zeroizing<String>, &'static str> {
    // A remark begins at a `#` that white space precedes.
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

/// In single quotes everything stands for itself, up to the next one.
fn single(text: &str, value: &mut String) -> Option<(usize, Option<&'static str>)> {
    let end = text.find('\'')?;
    let inside = text.get(..end).unwrap_or_default();
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        // A line's end is a line feed, however the file ends its lines.
        if !(c == '\r' && chars.peek() == Some(&'\n')) {
            push(value, c);
        }
    }
    Some((end + 1, None))
}

/// In double quotes a backslash changes what follows.
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

/// Adds a character where there is room: what is longer is refused for its length anyway, and must not make the text move.
fn push(value: &mut String, c: char) {
    if value.len() + c.len_utf8() <= value.capacity() {
        value.push(c);
    }
}

#[cfg(test)]
mod tests;
