//! String escapes of JSON, programming languages and shells.

use super::style::{
    Names, Number, Style, UNITS, UNITS_UPPER, control, control_delete, not_ascii, not_printed, push, unit,
};

const BACKSLASH: Names = &[('\\', "\\\\")];
const QUOTE: Names = &[('"', "\\\"")];
const APOSTROPHE: Names = &[('\'', "\\'")];
const SOLIDUS: Names = &[('/', "\\/")];
const BREAKS: Names = &[('\n', "\\n"), ('\r', "\\r"), ('\t', "\\t")];
const FEEDS: Names = &[('\u{8}', "\\b"), ('\u{c}', "\\f")];
const BELL: Names = &[('\u{7}', "\\a")];
const VERTICAL: Names = &[('\u{b}', "\\v")];
const ESCAPE: Names = &[('\u{1b}', "\\E")];
const NUL: Names = &[('\0', "\\0")];
const TAGS_UPPER: Names = &[('<', "\\u003C"), ('>', "\\u003E"), ('&', "\\u0026")];
const QUOTES_UPPER: Names = &[('\'', "\\u0027"), ('"', "\\u0022")];

/// The short escapes that RFC 8259 names, without the solidus.
const SHORT: &[Names] = &[BACKSLASH, QUOTE, BREAKS, FEEDS];
const SHORT_SOLIDUS: &[Names] = &[BACKSLASH, QUOTE, BREAKS, FEEDS, SOLIDUS];

/// The separators that end lines in older versions of JavaScript.
fn separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

fn tags(c: char) -> bool {
    control(c) || matches!(c, '<' | '>' | '&') || separator(c)
}

fn html(c: char) -> bool {
    tags(c) || c == '\''
}

/// serde_json, `JSON.stringify`, Go without HTML.
pub(super) static JSON: Style = Style::new(SHORT, control, UNITS);
/// Jackson.
pub(super) static JSON_UPPER: Style = Style::new(SHORT, control, UNITS_UPPER);
/// jq.
pub(super) static JSON_DELETE: Style = Style::new(SHORT, control_delete, UNITS);
pub(super) static JSON_ASCII: Style = Style::new(SHORT, not_ascii, UNITS);
pub(super) static JSON_ASCII_UPPER: Style = Style::new(SHORT, not_ascii, UNITS_UPPER);
/// Python's `json.dumps`, which escapes the delete character too.
pub(super) static JSON_PYTHON: Style = Style::new(SHORT, not_printed, UNITS);
pub(super) static JSON_SOLIDUS: Style = Style::new(SHORT_SOLIDUS, control, UNITS);
pub(super) static JSON_PHP: Style = Style::new(SHORT_SOLIDUS, not_ascii, UNITS);
/// PHP with `JSON_HEX_TAG`, `_AMP`, `_APOS` and `_QUOT`: these escapes in upper case, all others in
/// lower case.
pub(super) static JSON_PHP_HTML: Style =
    Style::new(&[TAGS_UPPER, QUOTES_UPPER, BACKSLASH, BREAKS, FEEDS, SOLIDUS], not_ascii, UNITS);
pub(super) static JSON_TAGS: Style = Style::new(SHORT, tags, UNITS);
pub(super) static JSON_TAGS_UPPER: Style = Style::new(SHORT, tags, UNITS_UPPER);
/// Django's `json_script`: Python's JSON, with tags in upper case.
pub(super) static JSON_DJANGO: Style = Style::new(&[TAGS_UPPER, BACKSLASH, QUOTE, BREAKS, FEEDS], not_printed, UNITS);
pub(super) static JSON_HTML: Style = Style::new(SHORT, html, UNITS);
pub(super) static JSON_HTML_UPPER: Style = Style::new(SHORT, html, UNITS_UPPER);
pub(super) static JSON_JINJA: Style = Style::new(SHORT, |c| html(c) || not_printed(c), UNITS);
pub(super) static JSON_GSON: Style = Style::new(SHORT, |c| html(c) || c == '=', UNITS);
pub(super) static JSON_NET: Style =
    Style::new(&[BACKSLASH, BREAKS, FEEDS], |c| html(c) || not_printed(c) || matches!(c, '"' | '+' | '`'), UNITS_UPPER);

/// Writes `\uXXXX` for every character, including letters and digits.
pub(super) fn units(text: &str, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    text.chars().for_each(|c| unit(c, alphabet, out));
}

/// The output of `{:?}`. It differs from `escape_debug` in the apostrophe and in combining
/// characters.
pub(super) fn rust(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '\'' => out.push(b'\''),
            _ => c.escape_debug().for_each(|c| push(c, out)),
        }
    }
}

pub(super) fn rust_escape_debug(text: &str, out: &mut Vec<u8>) {
    text.escape_debug().for_each(|c| push(c, out));
}

pub(super) fn rust_escape_default(text: &str, out: &mut Vec<u8>) {
    text.escape_default().for_each(|c| push(c, out));
}

/// `[u8]::escape_ascii`.
pub(super) static RUST_BYTES: Style = Style::new(&[BACKSLASH, QUOTE, APOSTROPHE, BREAKS], not_printed, Number::Bytes);
pub(super) static BYTES_CRATE: Style = Style::new(&[BACKSLASH, QUOTE, BREAKS, NUL], not_printed, Number::Bytes);

const PYTHON_CODE: Number = Number::Code { bound: 0x100 };

/// Selects what Python's `repr` escapes among the first 256 characters. All others are assumed to
/// be printable.
fn python(c: char) -> bool {
    control(c) || matches!(c, '\u{7f}'..='\u{a0}' | '\u{ad}')
}

// Python escapes the apostrophe only if a text contains both kinds of quotes; otherwise it delimits
// the text with the other kind.
pub(super) static PYTHON: Style = Style::new(&[BACKSLASH, BREAKS], python, PYTHON_CODE);
pub(super) static PYTHON_APOSTROPHE: Style = Style::new(&[BACKSLASH, BREAKS, APOSTROPHE], python, PYTHON_CODE);
pub(super) static PYTHON_ASCII: Style = Style::new(&[BACKSLASH, BREAKS], not_printed, PYTHON_CODE);
pub(super) static PYTHON_ASCII_APOSTROPHE: Style =
    Style::new(&[BACKSLASH, BREAKS, APOSTROPHE], not_printed, PYTHON_CODE);
pub(super) static PYTHON_BYTES: Style = Style::new(&[BACKSLASH, BREAKS], not_printed, Number::Bytes);
pub(super) static PYTHON_BYTES_APOSTROPHE: Style =
    Style::new(&[BACKSLASH, BREAKS, APOSTROPHE], not_printed, Number::Bytes);

fn node(c: char) -> bool {
    control(c) || matches!(c, '\u{7f}'..='\u{9f}')
}

/// `util.inspect`, which `console.log` uses for strings inside other values.
pub(super) static NODE: Style = Style::new(&[BACKSLASH, BREAKS, FEEDS, VERTICAL], node, Number::CodeUpper);
pub(super) static NODE_APOSTROPHE: Style =
    Style::new(&[BACKSLASH, BREAKS, FEEDS, VERTICAL, APOSTROPHE], node, Number::CodeUpper);

const GO_NAMES: &[Names] = &[BACKSLASH, QUOTE, BREAKS, FEEDS, BELL, VERTICAL];
const GO_CODE: Number = Number::Code { bound: 0x80 };

/// `%q`. Characters beyond the first 256 are assumed to be printable.
pub(super) static GO: Style = Style::new(GO_NAMES, python, GO_CODE);
/// `%+q`.
pub(super) static GO_ASCII: Style = Style::new(GO_NAMES, not_printed, GO_CODE);

/// C strings with octal numbers, as git writes file names.
pub(super) static C: Style = Style::new(GO_NAMES, control_delete, Number::Octal);
pub(super) static C_ASCII: Style = Style::new(GO_NAMES, not_printed, Number::Octal);

const ANSI_NAMES: &[Names] = &[BACKSLASH, APOSTROPHE, BREAKS, FEEDS, BELL, VERTICAL, ESCAPE];

/// `$'...'`, which bash uses for text that is not printable.
pub(super) static SHELL_ANSI: Style = Style::new(ANSI_NAMES, control_delete, Number::Octal);
pub(super) static SHELL_ANSI_ASCII: Style = Style::new(ANSI_NAMES, not_printed, Number::Octal);

pub(super) static SHELL_APOSTROPHE: Style = Style::named(&[&[('\'', "'\\''")]]);
/// `shlex.quote`.
pub(super) static SHELL_PYTHON: Style = Style::named(&[&[('\'', "'\"'\"'")]]);

const DOUBLE: Names = &[('\\', "\\\\"), ('"', "\\\""), ('$', "\\$"), ('`', "\\`")];
const HISTORY: Names = &[('!', "\\!")];

pub(super) static SHELL_QUOTES: Style = Style::named(&[DOUBLE]);
pub(super) static SHELL_QUOTES_HISTORY: Style = Style::named(&[DOUBLE, HISTORY]);

#[rustfmt::skip]
const BARE: Names = &[
    (' ', "\\ "), ('\'', "\\'"), ('|', "\\|"), ('&', "\\&"), (';', "\\;"), ('(', "\\("), (')', "\\)"), ('<', "\\<"), ('>', "\\>"),
    ('{', "\\{"), ('}', "\\}"), ('*', "\\*"), ('[', "\\["), (']', "\\]"), ('?', "\\?"), ('^', "\\^"), (',', "\\,"),
];

/// bash's `printf %q` for printable text. It escapes `#` and `~` only at the start of a word.
pub(super) static SHELL_BACKSLASHES: Style = Style::named(&[DOUBLE, HISTORY, BARE]);

/// `Shellwords.escape`.
pub(super) fn shell_ruby(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '\n' => out.extend_from_slice(b"'\n'"),
            _ if c.is_ascii_alphanumeric() || "_-.,:+/@".contains(c) => push(c, out),
            _ => {
                out.push(b'\\');
                push(c, out);
            }
        }
    }
}

pub(super) static DOUBLED_APOSTROPHES: Style = Style::named(&[&[('\'', "''")]]);
pub(super) static DOUBLED_QUOTES: Style = Style::named(&[&[('"', "\"\"")]]);
