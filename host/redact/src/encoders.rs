//! The list of encoders: the forms of a value that the redactor searches for.
//!
//! [`FORMS`] is the list. A new form is one entry. Forms with the same output for a value are
//! searched for once, so an entry costs something only for the values that it encodes differently.
//! Requirements for an entry:
//! - It writes what a program that encodes the *piece* (the value, or one of its lines) would
//!   write.
//! - It encodes from left to right: its output for a prefix of the piece ([`Part::last`] is false)
//!   is a prefix of its output for the whole piece. A test checks every entry.
//! - If it replaces some characters, it is a `Style`: a table of names and a notation for numbers.
//! - It writes at most [`GROWTH`] bytes per byte that it reads, so that its output buffer never has
//!   to be reallocated, which would leave a copy behind.
//!
//! # Values too short to cover
//! Covering a value of a few bytes would redact much of an innocent output, show a reader where its
//! letters occur, and hide errors. A value is therefore not covered, in any form, if it is shorter
//! than [`MIN_VALUE`] bytes or only white space. Each line of a value is also searched for on its
//! own, without surrounding white space, if it has at least [`MIN_LINE`] bytes and a letter or
//! digit: values often have lines such as `{` or `--------`. No needle is shorter than
//! [`MIN_NEEDLE`] bytes.

mod bytes;
mod entities;
mod escapes;
mod style;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use self::bytes::{LOWER, Prefix, Tail, UPPER, base64, base64_lines, hex, list, percent, percent_all};
use self::entities::*;
use self::escapes::*;

/// The minimum length in bytes of a value that is covered.
pub const MIN_VALUE: usize = 4;

/// The minimum length in bytes of a line that is covered on its own, without surrounding white
/// space.
pub const MIN_LINE: usize = 6;

/// The minimum length of a needle in bytes. It must exceed the three bytes of the last marker.
pub(super) const MIN_NEEDLE: usize = 4;

/// The maximum number of bytes that an encoder writes per byte that it reads: `\u001f`.
pub(super) const GROWTH: usize = 6;

/// The maximum number of bytes that an encoder writes beyond [`GROWTH`]: base64 padding.
const SLACK: usize = 8;

/// One encoder.
pub(super) struct Form {
    /// A description for humans.
    #[cfg_attr(not(test), expect(dead_code, reason = "named for the reader of the table and for failing tests"))]
    pub(super) name: &'static str,
    /// The pieces of a value that it is applied to.
    pub(super) scope: Scope,
    encode: fn(Part<'_>, &mut Vec<u8>),
}

/// The pieces of a value that an encoder is applied to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The value, and the value without surrounding white space, because programs trim their input.
    Value,
    /// Each line of the value, without surrounding white space.
    Lines,
}

/// The input of an encoder: a piece or a prefix of it.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    /// Whether the text is the whole piece.
    last: bool,
}

/// The encoders, in no significant order.
pub(super) static FORMS: &[Form] = &[
    form("plain", Scope::Value, plain),
    form("plain", Scope::Lines, plain),
    // Base64 of prefix + value + suffix: the value starts at one of three offsets in a group of
    // three bytes. `Inner` is the part that depends only on the value; up to four bits of the
    // value's first and last byte share a digit with a neighbour. The other forms are base64 that
    // ends with the value.
    form("base64, aligned", Scope::Value, |part, out| base64(part, &STANDARD, Prefix::Unknown(0), Tail::Inner, out)),
    form("base64, after one byte", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(1), Tail::Inner, out)
    }),
    form("base64, after two bytes", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(2), Tail::Inner, out)
    }),
    form("base64, aligned, end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(0), Tail::Padded, out)
    }),
    form("base64, after one byte, end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(1), Tail::Padded, out)
    }),
    form("base64, after two bytes, end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(2), Tail::Padded, out)
    }),
    form("base64, aligned, bare end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(0), Tail::Bare, out)
    }),
    form("base64, after one byte, bare end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(1), Tail::Bare, out)
    }),
    form("base64, after two bytes, bare end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Unknown(2), Tail::Bare, out)
    }),
    // `Authorization: Basic`, base64 of `user:value`. The preceding byte is known to be a colon, so
    // the digit shared with it is redacted too. If the colon ends a group of three, no digit is
    // shared.
    form("basic", Scope::Value, |part, out| base64(part, &STANDARD, Prefix::Colon(1), Tail::Inner, out)),
    form("basic, after one byte", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Colon(2), Tail::Inner, out)
    }),
    form("basic, end", Scope::Value, |part, out| base64(part, &STANDARD, Prefix::Colon(1), Tail::Padded, out)),
    form("basic, after one byte, end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Colon(2), Tail::Padded, out)
    }),
    form("basic, bare end", Scope::Value, |part, out| base64(part, &STANDARD, Prefix::Colon(1), Tail::Bare, out)),
    form("basic, after one byte, bare end", Scope::Value, |part, out| {
        base64(part, &STANDARD, Prefix::Colon(2), Tail::Bare, out)
    }),
    form("base64url, aligned", Scope::Value, |part, out| base64(part, &URL_SAFE, Prefix::Unknown(0), Tail::Inner, out)),
    form("base64url, after one byte", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(1), Tail::Inner, out)
    }),
    form("base64url, after two bytes", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(2), Tail::Inner, out)
    }),
    form("base64url, aligned, end", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(0), Tail::Padded, out)
    }),
    form("base64url, after one byte, end", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(1), Tail::Padded, out)
    }),
    form("base64url, after two bytes, end", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(2), Tail::Padded, out)
    }),
    form("base64url, aligned, bare end", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(0), Tail::Bare, out)
    }),
    form("base64url, after one byte, bare end", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(1), Tail::Bare, out)
    }),
    form("base64url, after two bytes, bare end", Scope::Value, |part, out| {
        base64(part, &URL_SAFE, Prefix::Unknown(2), Tail::Bare, out)
    }),
    // With line breaks, for the value alone: with a prefix, the positions of the breaks would
    // depend on the prefix.
    form("base64, lines of 64", Scope::Value, |part, out| base64_lines(part, 64, "\n", out)),
    form("base64, lines of 64, CRLF", Scope::Value, |part, out| base64_lines(part, 64, "\r\n", out)),
    form("base64, lines of 76", Scope::Value, |part, out| base64_lines(part, 76, "\n", out)),
    form("base64, lines of 76, CRLF", Scope::Value, |part, out| base64_lines(part, 76, "\r\n", out)),
    form("hexadecimal, lower case", Scope::Value, |part, out| hex(part, LOWER, out)),
    form("hexadecimal, upper case", Scope::Value, |part, out| hex(part, UPPER, out)),
    // The output of `{:?}` for bytes, and JSON lists of bytes.
    form("list of bytes", Scope::Value, |part, out| list(part, ", ", out)),
    form("list of bytes, no spaces", Scope::Value, |part, out| list(part, ",", out)),
    form("percent, every byte, upper case", Scope::Value, |part, out| percent_all(part, UPPER, out)),
    form("percent, every byte, lower case", Scope::Value, |part, out| percent_all(part, LOWER, out)),
    form("percent, RFC 3986, upper case", Scope::Value, |part, out| percent(part, b"-._~", false, UPPER, out)),
    form("percent, RFC 3986, lower case", Scope::Value, |part, out| percent(part, b"-._~", false, LOWER, out)),
    form("percent, Python's quote, upper case", Scope::Value, |part, out| percent(part, b"-._~/", false, UPPER, out)),
    form("percent, Python's quote, lower case", Scope::Value, |part, out| percent(part, b"-._~/", false, LOWER, out)),
    form("encodeURIComponent, upper case", Scope::Value, |part, out| percent(part, b"-_.!~*'()", false, UPPER, out)),
    form("encodeURIComponent, lower case", Scope::Value, |part, out| percent(part, b"-_.!~*'()", false, LOWER, out)),
    form("encodeURI", Scope::Value, |part, out| percent(part, b"-_.!~*'();/?:@&=+$,#", false, UPPER, out)),
    // User info of URLs: the characters that RFC 3986 allows in it, with and without the colon;
    // that Go keeps; that browsers and the `url` crate keep.
    form("user info, upper case", Scope::Value, |part, out| percent(part, b"-._~!$&'()*+,;=", false, UPPER, out)),
    form("user info, lower case", Scope::Value, |part, out| percent(part, b"-._~!$&'()*+,;=", false, LOWER, out)),
    form("user info, colon, upper case", Scope::Value, |part, out| {
        percent(part, b"-._~!$&'()*+,;=:", false, UPPER, out)
    }),
    form("user info, colon, lower case", Scope::Value, |part, out| {
        percent(part, b"-._~!$&'()*+,;=:", false, LOWER, out)
    }),
    form("user info, Go", Scope::Value, |part, out| percent(part, b"-._~$&+,;=", false, UPPER, out)),
    form("user info, WHATWG", Scope::Value, |part, out| percent(part, b"-._~!$%&'()*+,", false, UPPER, out)),
    // Paths of URLs: by the current standard, by the standard before `^` was added, and path
    // segments of the `url` crate.
    form("path, WHATWG", Scope::Value, |part, out| percent(part, b"-._~!$%&'()*+,/:;=@[\\]|", false, UPPER, out)),
    form("path, WHATWG, older", Scope::Value, |part, out| {
        percent(part, b"-._~!$%&'()*+,/:;=@[\\]|^", false, UPPER, out)
    }),
    form("path segment", Scope::Value, |part, out| percent(part, b"-._~!$&'()*+,:;=@[]|^", false, UPPER, out)),
    form("query, WHATWG", Scope::Value, |part, out| percent(part, b"-._~!$%&'()*+,/:;=@[\\]|?^`{}", false, UPPER, out)),
    form("query of HTTP, WHATWG", Scope::Value, |part, out| {
        percent(part, b"-._~!$%&()*+,/:;=@[\\]|?^`{}", false, UPPER, out)
    }),
    // Browsers keep the asterisk, as in the URL standard; Python's quote_plus keeps the tilde; PHP
    // keeps neither.
    form("form data, upper case", Scope::Value, |part, out| percent(part, b"*-._", true, UPPER, out)),
    form("form data, lower case", Scope::Value, |part, out| percent(part, b"*-._", true, LOWER, out)),
    form("form data, tilde kept, upper case", Scope::Value, |part, out| percent(part, b"-._~", true, UPPER, out)),
    form("form data, tilde kept, lower case", Scope::Value, |part, out| percent(part, b"-._~", true, LOWER, out)),
    form("form data, PHP, upper case", Scope::Value, |part, out| percent(part, b"-._", true, UPPER, out)),
    form("form data, PHP, lower case", Scope::Value, |part, out| percent(part, b"-._", true, LOWER, out)),
    // The names say what is escaped in addition to quotation marks, backslashes and control
    // characters, or which program does it.
    form("JSON", Scope::Value, |part, out| JSON.write(part, out)),
    form("JSON", Scope::Lines, |part, out| JSON.write(part, out)),
    form("JSON, upper case", Scope::Value, |part, out| JSON_UPPER.write(part, out)),
    form("JSON, delete (jq)", Scope::Value, |part, out| JSON_DELETE.write(part, out)),
    form("JSON, ASCII, lower case", Scope::Value, |part, out| JSON_ASCII.write(part, out)),
    form("JSON, ASCII, upper case", Scope::Value, |part, out| JSON_ASCII_UPPER.write(part, out)),
    form("JSON, Python", Scope::Value, |part, out| JSON_PYTHON.write(part, out)),
    form("JSON, solidus", Scope::Value, |part, out| JSON_SOLIDUS.write(part, out)),
    form("JSON, PHP", Scope::Value, |part, out| JSON_PHP.write(part, out)),
    form("JSON, PHP, for HTML", Scope::Value, |part, out| JSON_PHP_HTML.write(part, out)),
    form("JSON, <>&, lower case (Go)", Scope::Value, |part, out| JSON_TAGS.write(part, out)),
    form("JSON, <>&, upper case", Scope::Value, |part, out| JSON_TAGS_UPPER.write(part, out)),
    form("JSON, <>&, upper case, Django", Scope::Value, |part, out| JSON_DJANGO.write(part, out)),
    form("JSON, <>&', lower case", Scope::Value, |part, out| JSON_HTML.write(part, out)),
    form("JSON, <>&', upper case", Scope::Value, |part, out| JSON_HTML_UPPER.write(part, out)),
    form("JSON, <>&', Jinja", Scope::Value, |part, out| JSON_JINJA.write(part, out)),
    form("JSON, <>&=', Gson", Scope::Value, |part, out| JSON_GSON.write(part, out)),
    form("JSON, .NET", Scope::Value, |part, out| JSON_NET.write(part, out)),
    form("JSON, every character, lower case", Scope::Value, |part, out| units(part, LOWER, out)),
    form("JSON, every character, upper case", Scope::Value, |part, out| units(part, UPPER, out)),
    form("Rust, {:?}", Scope::Value, rust),
    form("Rust, escape_debug", Scope::Value, rust_escape_debug),
    form("Rust, escape_default", Scope::Value, rust_escape_default),
    form("Rust, bytes", Scope::Value, |part, out| RUST_BYTES.write(part, out)),
    form("Rust, the bytes crate", Scope::Value, |part, out| BYTES_CRATE.write(part, out)),
    form("Python", Scope::Value, |part, out| PYTHON.write(part, out)),
    form("Python, apostrophe", Scope::Value, |part, out| PYTHON_APOSTROPHE.write(part, out)),
    form("Python, ASCII", Scope::Value, |part, out| PYTHON_ASCII.write(part, out)),
    form("Python, ASCII, apostrophe", Scope::Value, |part, out| PYTHON_ASCII_APOSTROPHE.write(part, out)),
    form("Python, bytes", Scope::Value, |part, out| PYTHON_BYTES.write(part, out)),
    form("Python, bytes, apostrophe", Scope::Value, |part, out| PYTHON_BYTES_APOSTROPHE.write(part, out)),
    form("Node", Scope::Value, |part, out| NODE.write(part, out)),
    form("Node, apostrophe", Scope::Value, |part, out| NODE_APOSTROPHE.write(part, out)),
    form("Go", Scope::Value, |part, out| GO.write(part, out)),
    form("Go, ASCII", Scope::Value, |part, out| GO_ASCII.write(part, out)),
    form("C", Scope::Value, |part, out| C.write(part, out)),
    form("C, ASCII", Scope::Value, |part, out| C_ASCII.write(part, out)),
    form("shell, ANSI-C", Scope::Value, |part, out| SHELL_ANSI.write(part, out)),
    form("shell, ANSI-C, ASCII", Scope::Value, |part, out| SHELL_ANSI_ASCII.write(part, out)),
    form("shell, apostrophes", Scope::Value, |part, out| SHELL_APOSTROPHE.write(part, out)),
    form("shell, apostrophes, Python", Scope::Value, |part, out| SHELL_PYTHON.write(part, out)),
    form("shell, quotation marks", Scope::Value, |part, out| SHELL_QUOTES.write(part, out)),
    form("shell, quotation marks, interactive", Scope::Value, |part, out| SHELL_QUOTES_HISTORY.write(part, out)),
    form("shell, backslashes", Scope::Value, |part, out| SHELL_BACKSLASHES.write(part, out)),
    form("shell, backslashes, Ruby", Scope::Value, shell_ruby),
    form("doubled apostrophes (SQL, YAML)", Scope::Value, |part, out| DOUBLED_APOSTROPHES.write(part, out)),
    form("doubled quotation marks (CSV)", Scope::Value, |part, out| DOUBLED_QUOTES.write(part, out)),
    // The names say which of & < > " ' are escaped, and how.
    form("XML, &<", Scope::Value, |part, out| XML_MINIMAL.write(part, out)),
    form("XML, &<>", Scope::Value, |part, out| XML.write(part, out)),
    form("XML, &<>, ASCII", Scope::Value, |part, out| XML_ASCII.write(part, out)),
    form("XML, &<>, ASCII, hexadecimal", Scope::Value, |part, out| XML_ASCII_HEX.write(part, out)),
    form("XML, &<>\"", Scope::Value, |part, out| XML_QUOT.write(part, out)),
    form("XML, &<>\", ASCII", Scope::Value, |part, out| XML_QUOT_ASCII.write(part, out)),
    form("XML, &<>\", ASCII, hexadecimal", Scope::Value, |part, out| XML_QUOT_ASCII_HEX.write(part, out)),
    form("XML, &<>\"'", Scope::Value, |part, out| XML_APOS.write(part, out)),
    form("XML, attribute", Scope::Value, |part, out| XML_ATTRIBUTE.write(part, out)),
    form("XML, attribute, canonical", Scope::Value, |part, out| XML_CANONICAL.write(part, out)),
    form("XML, Go", Scope::Value, |part, out| XML_GO.write(part, out)),
    form("HTML, &#39;", Scope::Value, |part, out| HTML_39.write(part, out)),
    form("HTML, &#39;, ASCII", Scope::Value, |part, out| HTML_39_ASCII.write(part, out)),
    form("HTML, &#039;", Scope::Value, |part, out| HTML_039.write(part, out)),
    form("HTML, &#x27;", Scope::Value, |part, out| HTML_X27.write(part, out)),
    form("HTML, &#34; &#39;", Scope::Value, |part, out| HTML_34_39.write(part, out)),
    form("HTML, OWASP", Scope::Value, |part, out| HTML_OWASP.write(part, out)),
    form("HTML, Mustache", Scope::Value, |part, out| HTML_MUSTACHE.write(part, out)),
    form("XML, decimal", Scope::Value, |part, out| XML_DECIMAL.write(part, out)),
    form("XML, hexadecimal, lower case", Scope::Value, |part, out| XML_HEX.write(part, out)),
    form("XML, hexadecimal, upper case", Scope::Value, |part, out| XML_HEX_UPPER.write(part, out)),
];

const fn form(name: &'static str, scope: Scope, encode: fn(Part<'_>, &mut Vec<u8>)) -> Form {
    Form { name, scope, encode }
}

impl Form {
    /// Encodes a piece (`last`) or a prefix of one.
    pub(super) fn encode(&self, text: &str, last: bool) -> Zeroizing<Vec<u8>> {
        let capacity = text.len().saturating_mul(GROWTH).saturating_add(SLACK);
        let mut out = Zeroizing::new(Vec::with_capacity(capacity));
        (self.encode)(Part { text, last }, &mut out);
        out
    }
}

/// Returns whether a value is covered at all.
pub(super) fn is_covered(value: &str) -> bool {
    value.len() >= MIN_VALUE && !value.trim().is_empty()
}

/// Returns the pieces of a value that an encoder is applied to, as start and length in bytes.
pub(super) fn pieces(scope: Scope, value: &str) -> Vec<(usize, usize)> {
    if !is_covered(value) {
        return Vec::new();
    }
    let range = |piece: &str| (piece.as_ptr().addr().saturating_sub(value.as_ptr().addr()), piece.len());
    match scope {
        Scope::Value => {
            let mut pieces = vec![range(value)];
            pieces.extend(Some(value.trim()).filter(|piece| piece.len() < value.len() && is_covered(piece)).map(range));
            pieces
        }
        Scope::Lines => {
            // A carriage return also ends a line, alone or before a newline. The empty lines
            // between the two are too short to matter.
            let lines = value.split(['\n', '\r']).map(str::trim);
            let long = |line: &&str| line.len() >= MIN_LINE && line.len() < value.len();
            lines.filter(long).filter(|line| line.contains(char::is_alphanumeric)).map(range).collect()
        }
    }
}

/// Returns a lower bound for the length of the value's needles. An encoder writes at least as many
/// bytes as it reads, except for the base64 digits shared with a neighbour, which do not matter
/// from six bytes on.
pub(super) fn shortest_needle(value: &str) -> usize {
    // The common case: a single piece.
    let plain = is_covered(value) && value.trim().len() == value.len() && !value.contains(['\n', '\r']);
    if plain && value.len() >= 6 {
        return value.len();
    }
    let pieces = [Scope::Value, Scope::Lines].into_iter().flat_map(|scope| pieces(scope, value));
    let shortest = pieces.map(|(_, length)| length).min().unwrap_or(MIN_NEEDLE);
    if shortest < 6 { MIN_NEEDLE } else { shortest }
}

/// Returns an upper bound for the number of needles of a value with `len` bytes.
pub(super) fn needles_at_most(len: usize) -> usize {
    // Each line has at least MIN_LINE bytes and one separator.
    let lines = (len / (MIN_LINE + 1)).saturating_add(1);
    static LINE_FORMS: LazyLock<usize> =
        LazyLock::new(|| FORMS.iter().filter(|form| form.scope == Scope::Lines).count());
    let of_values = FORMS.len().saturating_sub(*LINE_FORMS).saturating_mul(2);
    LINE_FORMS.saturating_mul(lines).saturating_add(of_values)
}

fn plain(part: Part<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(part.text.as_bytes());
}
