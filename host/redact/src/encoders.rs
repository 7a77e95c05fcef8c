//! The list of encoders: in which forms a value is looked for.
//!
//! [`FORMS`] is the list, and it is built to grow: a new form is one entry. Forms that come out the same for a value are looked for once, so
//! that an entry costs something only for the values that it writes otherwise. What it takes:
//! - it writes what a program would write that encodes the *piece* (the value, or one of its lines);
//! - it is a function of the text read left to right: what it writes of a beginning that is not the end of the piece
//!   ([`Part::last`] is false) is a beginning of what it writes of the whole. A test holds every entry to that;
//! - where it reads characters and writes some of them otherwise, it is a `Style`: a table of names and a way of writing numbers;
//! - it writes at most [`GROWTH`] bytes for each byte it reads, and at least one byte for every few, so that the buffers it
//!   writes to never have to move and leave a copy behind.
//!
//! # Values too short to cover
//! Covering a value of a few bytes would mark every second word of an innocent output, tell a reader where its letters stand, and hide
//! what went wrong. So a value is left alone, in all forms, if it is shorter than [`MIN_VALUE`] bytes or nothing but white space.
//! A line of a value is looked for by itself from [`MIN_LINE`] bytes on (without the white space around it), and only if it has a
//! letter or digit: a value may well have lines such as `{` or `--------`. No needle is shorter than [`MIN_NEEDLE`] bytes.

mod bytes;
mod entities;
mod escapes;
mod style;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use self::bytes::{Before, LOWER, Tail, UPPER, base64, base64_lines, hex, list, percent, percent_all};
use self::entities::*;
use self::escapes::*;

/// The fewest bytes of a value that is covered.
pub const MIN_VALUE: usize = 4;

/// The fewest bytes of a line, without the white space around it, that is covered by itself.
pub const MIN_LINE: usize = 6;

/// The fewest bytes of any needle, encoded or not. More than the three of the last marker.
pub(super) const MIN_NEEDLE: usize = 4;

/// The most bytes that an encoder writes for each byte it reads: `\u001f`.
pub(super) const GROWTH: usize = 6;

/// The most bytes that an encoder writes beyond [`GROWTH`]: the padding of base64.
const SLACK: usize = 8;

/// One encoder.
pub(super) struct Form {
    /// What it is, for people.
    #[cfg_attr(not(test), expect(dead_code, reason = "named for the reader of the table and for failing tests"))]
    pub(super) name: &'static str,
    /// Which pieces of a value it is applied to.
    pub(super) over: Over,
    encode: fn(Part<'_>, &mut Vec<u8>),
}

/// Which pieces of a value an encoder is applied to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The value; and the value without the white space around it, since programs trim what they read.
    Value,
    /// Each line of the value, without the white space around it.
    Lines,
}

/// What an encoder reads: a piece or a beginning of it.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    /// Whether the text is the whole piece.
    last: bool,
}

/// The encoders. The order decides nothing.
pub(super) static FORMS: &[Form] = &[
    form("plain", Over::Value, plain),
    form("plain", Over::Lines, plain),
    // Base64 of prefix + value + suffix: the value begins at one of three places in a group of three bytes. `Inner` is the part that
    // depends on the value alone; up to four bits of the value's first and last byte share a digit with a neighbour.
    // The others are base64 that ends with the value.
    form("base64, aligned", Over::Value, |part, out| base64(part, &STANDARD, Before::Any(0), Tail::Inner, out)),
    form("base64, after one byte", Over::Value, |part, out| base64(part, &STANDARD, Before::Any(1), Tail::Inner, out)),
    form("base64, after two bytes", Over::Value, |part, out| base64(part, &STANDARD, Before::Any(2), Tail::Inner, out)),
    form("base64, aligned, end", Over::Value, |part, out| base64(part, &STANDARD, Before::Any(0), Tail::Padded, out)),
    form("base64, after one byte, end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Any(1), Tail::Padded, out)
    }),
    form("base64, after two bytes, end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Any(2), Tail::Padded, out)
    }),
    form("base64, aligned, bare end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Any(0), Tail::Bare, out)
    }),
    form("base64, after one byte, bare end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Any(1), Tail::Bare, out)
    }),
    form("base64, after two bytes, bare end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Any(2), Tail::Bare, out)
    }),
    // `Authorization: Basic`, base64 of `user:value`. The neighbour is known here, so that the digit shared with it goes too. Where the
    // colon ends a group of three, no digit is shared.
    form("basic", Over::Value, |part, out| base64(part, &STANDARD, Before::Colon(1), Tail::Inner, out)),
    form("basic, after one byte", Over::Value, |part, out| base64(part, &STANDARD, Before::Colon(2), Tail::Inner, out)),
    form("basic, end", Over::Value, |part, out| base64(part, &STANDARD, Before::Colon(1), Tail::Padded, out)),
    form("basic, after one byte, end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Colon(2), Tail::Padded, out)
    }),
    form("basic, bare end", Over::Value, |part, out| base64(part, &STANDARD, Before::Colon(1), Tail::Bare, out)),
    form("basic, after one byte, bare end", Over::Value, |part, out| {
        base64(part, &STANDARD, Before::Colon(2), Tail::Bare, out)
    }),
    form("base64url, aligned", Over::Value, |part, out| base64(part, &URL_SAFE, Before::Any(0), Tail::Inner, out)),
    form("base64url, after one byte", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(1), Tail::Inner, out)
    }),
    form("base64url, after two bytes", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(2), Tail::Inner, out)
    }),
    form("base64url, aligned, end", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(0), Tail::Padded, out)
    }),
    form("base64url, after one byte, end", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(1), Tail::Padded, out)
    }),
    form("base64url, after two bytes, end", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(2), Tail::Padded, out)
    }),
    form("base64url, aligned, bare end", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(0), Tail::Bare, out)
    }),
    form("base64url, after one byte, bare end", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(1), Tail::Bare, out)
    }),
    form("base64url, after two bytes, bare end", Over::Value, |part, out| {
        base64(part, &URL_SAFE, Before::Any(2), Tail::Bare, out)
    }),
    // Broken into lines, of the value alone: where the breaks stand depends on whatever stands before it.
    form("base64, lines of 64", Over::Value, |part, out| base64_lines(part, 64, "\n", out)),
    form("base64, lines of 64, CRLF", Over::Value, |part, out| base64_lines(part, 64, "\r\n", out)),
    form("base64, lines of 76", Over::Value, |part, out| base64_lines(part, 76, "\n", out)),
    form("base64, lines of 76, CRLF", Over::Value, |part, out| base64_lines(part, 76, "\r\n", out)),
    form("hexadecimal, lower case", Over::Value, |part, out| hex(part, LOWER, out)),
    form("hexadecimal, upper case", Over::Value, |part, out| hex(part, UPPER, out)),
    // What `{:?}` makes of bytes; and their JSON.
    form("list of bytes", Over::Value, |part, out| list(part, ", ", out)),
    form("list of bytes, no spaces", Over::Value, |part, out| list(part, ",", out)),
    form("percent, every byte, upper case", Over::Value, |part, out| percent_all(part, UPPER, out)),
    form("percent, every byte, lower case", Over::Value, |part, out| percent_all(part, LOWER, out)),
    form("percent, RFC 3986, upper case", Over::Value, |part, out| percent(part, b"-._~", false, UPPER, out)),
    form("percent, RFC 3986, lower case", Over::Value, |part, out| percent(part, b"-._~", false, LOWER, out)),
    form("percent, Python's quote, upper case", Over::Value, |part, out| percent(part, b"-._~/", false, UPPER, out)),
    form("percent, Python's quote, lower case", Over::Value, |part, out| percent(part, b"-._~/", false, LOWER, out)),
    form("encodeURIComponent, upper case", Over::Value, |part, out| percent(part, b"-_.!~*'()", false, UPPER, out)),
    form("encodeURIComponent, lower case", Over::Value, |part, out| percent(part, b"-_.!~*'()", false, LOWER, out)),
    form("encodeURI", Over::Value, |part, out| percent(part, b"-_.!~*'();/?:@&=+$,#", false, UPPER, out)),
    // User info: what RFC 3986 allows in it, with and without the colon; what Go keeps; what browsers and the `url` crate keep.
    form("user info, upper case", Over::Value, |part, out| percent(part, b"-._~!$&'()*+,;=", false, UPPER, out)),
    form("user info, lower case", Over::Value, |part, out| percent(part, b"-._~!$&'()*+,;=", false, LOWER, out)),
    form("user info, colon, upper case", Over::Value, |part, out| {
        percent(part, b"-._~!$&'()*+,;=:", false, UPPER, out)
    }),
    form("user info, colon, lower case", Over::Value, |part, out| {
        percent(part, b"-._~!$&'()*+,;=:", false, LOWER, out)
    }),
    form("user info, Go", Over::Value, |part, out| percent(part, b"-._~$&+,;=", false, UPPER, out)),
    form("user info, WHATWG", Over::Value, |part, out| percent(part, b"-._~!$%&'()*+,", false, UPPER, out)),
    // Paths of URLs: as the standard has it, as it had it before `^` was added, and the segments of the `url` crate.
    form("path, WHATWG", Over::Value, |part, out| percent(part, b"-._~!$%&'()*+,/:;=@[\\]|", false, UPPER, out)),
    form("path, WHATWG, older", Over::Value, |part, out| {
        percent(part, b"-._~!$%&'()*+,/:;=@[\\]|^", false, UPPER, out)
    }),
    form("path segment", Over::Value, |part, out| percent(part, b"-._~!$&'()*+,:;=@[]|^", false, UPPER, out)),
    form("query, WHATWG", Over::Value, |part, out| percent(part, b"-._~!$%&'()*+,/:;=@[\\]|?^`{}", false, UPPER, out)),
    form("query of HTTP, WHATWG", Over::Value, |part, out| {
        percent(part, b"-._~!$%&()*+,/:;=@[\\]|?^`{}", false, UPPER, out)
    }),
    // Browsers keep the asterisk, as the URL standard says; Python's quote_plus keeps the tilde; PHP neither.
    form("form data, upper case", Over::Value, |part, out| percent(part, b"*-._", true, UPPER, out)),
    form("form data, lower case", Over::Value, |part, out| percent(part, b"*-._", true, LOWER, out)),
    form("form data, tilde kept, upper case", Over::Value, |part, out| percent(part, b"-._~", true, UPPER, out)),
    form("form data, tilde kept, lower case", Over::Value, |part, out| percent(part, b"-._~", true, LOWER, out)),
    form("form data, PHP, upper case", Over::Value, |part, out| percent(part, b"-._", true, UPPER, out)),
    form("form data, PHP, lower case", Over::Value, |part, out| percent(part, b"-._", true, LOWER, out)),
    // The names say what is escaped beside quotation marks, backslashes and controls; or who does it.
    form("JSON", Over::Value, |part, out| JSON.write(part, out)),
    form("JSON", Over::Lines, |part, out| JSON.write(part, out)),
    form("JSON, upper case", Over::Value, |part, out| JSON_UPPER.write(part, out)),
    form("JSON, delete (jq)", Over::Value, |part, out| JSON_DELETE.write(part, out)),
    form("JSON, ASCII, lower case", Over::Value, |part, out| JSON_ASCII.write(part, out)),
    form("JSON, ASCII, upper case", Over::Value, |part, out| JSON_ASCII_UPPER.write(part, out)),
    form("JSON, Python", Over::Value, |part, out| JSON_PYTHON.write(part, out)),
    form("JSON, solidus", Over::Value, |part, out| JSON_SOLIDUS.write(part, out)),
    form("JSON, PHP", Over::Value, |part, out| JSON_PHP.write(part, out)),
    form("JSON, PHP, for HTML", Over::Value, |part, out| JSON_PHP_HTML.write(part, out)),
    form("JSON, <>&, lower case (Go)", Over::Value, |part, out| JSON_TAGS.write(part, out)),
    form("JSON, <>&, upper case", Over::Value, |part, out| JSON_TAGS_UPPER.write(part, out)),
    form("JSON, <>&, upper case, Django", Over::Value, |part, out| JSON_DJANGO.write(part, out)),
    form("JSON, <>&', lower case", Over::Value, |part, out| JSON_HTML.write(part, out)),
    form("JSON, <>&', upper case", Over::Value, |part, out| JSON_HTML_UPPER.write(part, out)),
    form("JSON, <>&', Jinja", Over::Value, |part, out| JSON_JINJA.write(part, out)),
    form("JSON, <>&=', Gson", Over::Value, |part, out| JSON_GSON.write(part, out)),
    form("JSON, .NET", Over::Value, |part, out| JSON_NET.write(part, out)),
    form("JSON, every character, lower case", Over::Value, |part, out| units(part, LOWER, out)),
    form("JSON, every character, upper case", Over::Value, |part, out| units(part, UPPER, out)),
    form("Rust, {:?}", Over::Value, rust),
    form("Rust, escape_debug", Over::Value, rust_escape_debug),
    form("Rust, escape_default", Over::Value, rust_escape_default),
    form("Rust, bytes", Over::Value, |part, out| RUST_BYTES.write(part, out)),
    form("Rust, the bytes crate", Over::Value, |part, out| BYTES_CRATE.write(part, out)),
    form("Python", Over::Value, |part, out| PYTHON.write(part, out)),
    form("Python, apostrophe", Over::Value, |part, out| PYTHON_APOSTROPHE.write(part, out)),
    form("Python, ASCII", Over::Value, |part, out| PYTHON_ASCII.write(part, out)),
    form("Python, ASCII, apostrophe", Over::Value, |part, out| PYTHON_ASCII_APOSTROPHE.write(part, out)),
    form("Python, bytes", Over::Value, |part, out| PYTHON_BYTES.write(part, out)),
    form("Python, bytes, apostrophe", Over::Value, |part, out| PYTHON_BYTES_APOSTROPHE.write(part, out)),
    form("Node", Over::Value, |part, out| NODE.write(part, out)),
    form("Node, apostrophe", Over::Value, |part, out| NODE_APOSTROPHE.write(part, out)),
    form("Go", Over::Value, |part, out| GO.write(part, out)),
    form("Go, ASCII", Over::Value, |part, out| GO_ASCII.write(part, out)),
    form("C", Over::Value, |part, out| C.write(part, out)),
    form("C, ASCII", Over::Value, |part, out| C_ASCII.write(part, out)),
    form("shell, ANSI-C", Over::Value, |part, out| SHELL_ANSI.write(part, out)),
    form("shell, ANSI-C, ASCII", Over::Value, |part, out| SHELL_ANSI_ASCII.write(part, out)),
    form("shell, apostrophes", Over::Value, |part, out| SHELL_APOSTROPHE.write(part, out)),
    form("shell, apostrophes, Python", Over::Value, |part, out| SHELL_PYTHON.write(part, out)),
    form("shell, quotation marks", Over::Value, |part, out| SHELL_QUOTES.write(part, out)),
    form("shell, quotation marks, interactive", Over::Value, |part, out| SHELL_QUOTES_HISTORY.write(part, out)),
    form("shell, backslashes", Over::Value, |part, out| SHELL_BACKSLASHES.write(part, out)),
    form("shell, backslashes, Ruby", Over::Value, shell_ruby),
    form("doubled apostrophes (SQL, YAML)", Over::Value, |part, out| DOUBLED_APOSTROPHES.write(part, out)),
    form("doubled quotation marks (CSV)", Over::Value, |part, out| DOUBLED_QUOTES.write(part, out)),
    // By which of & < > " ' are escaped, and how.
    form("XML, &<", Over::Value, |part, out| XML_MINIMAL.write(part, out)),
    form("XML, &<>", Over::Value, |part, out| XML.write(part, out)),
    form("XML, &<>, ASCII", Over::Value, |part, out| XML_ASCII.write(part, out)),
    form("XML, &<>, ASCII, hexadecimal", Over::Value, |part, out| XML_ASCII_HEX.write(part, out)),
    form("XML, &<>\"", Over::Value, |part, out| XML_QUOT.write(part, out)),
    form("XML, &<>\", ASCII", Over::Value, |part, out| XML_QUOT_ASCII.write(part, out)),
    form("XML, &<>\", ASCII, hexadecimal", Over::Value, |part, out| XML_QUOT_ASCII_HEX.write(part, out)),
    form("XML, &<>\"'", Over::Value, |part, out| XML_APOS.write(part, out)),
    form("XML, attribute", Over::Value, |part, out| XML_ATTRIBUTE.write(part, out)),
    form("XML, attribute, canonical", Over::Value, |part, out| XML_CANONICAL.write(part, out)),
    form("XML, Go", Over::Value, |part, out| XML_GO.write(part, out)),
    form("HTML, &#39;", Over::Value, |part, out| HTML_39.write(part, out)),
    form("HTML, &#39;, ASCII", Over::Value, |part, out| HTML_39_ASCII.write(part, out)),
    form("HTML, &#039;", Over::Value, |part, out| HTML_039.write(part, out)),
    form("HTML, &#x27;", Over::Value, |part, out| HTML_X27.write(part, out)),
    form("HTML, &#34; &#39;", Over::Value, |part, out| HTML_34_39.write(part, out)),
    form("HTML, OWASP", Over::Value, |part, out| HTML_OWASP.write(part, out)),
    form("HTML, Mustache", Over::Value, |part, out| HTML_MUSTACHE.write(part, out)),
    form("XML, decimal", Over::Value, |part, out| XML_DECIMAL.write(part, out)),
    form("XML, hexadecimal, lower case", Over::Value, |part, out| XML_HEX.write(part, out)),
    form("XML, hexadecimal, upper case", Over::Value, |part, out| XML_HEX_UPPER.write(part, out)),
];

const fn form(name: &'static str, over: Over, encode: fn(Part<'_>, &mut Vec<u8>)) -> Form {
    Form { name, over, encode }
}

impl Form {
    /// What this encoder makes of a piece (`last`), or of a beginning of one.
    pub(super) fn encode(&self, text: &str, last: bool) -> Zeroizing<Vec<u8>> {
        let room = text.len().saturating_mul(GROWTH).saturating_add(SLACK);
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        (self.encode)(Part { text, last }, &mut out);
        out
    }
}

/// Whether a value is covered at all.
pub(super) fn is_covered(value: &str) -> bool {
    value.len() >= MIN_VALUE && !value.trim().is_empty()
}

/// The pieces of a value that an encoder is applied to, as start and length in bytes.
pub(super) fn pieces(over: Over, value: &str) -> Vec<(usize, usize)> {
    if !is_covered(value) {
        return Vec::new();
    }
    let place = |piece: &str| (piece.as_ptr().addr().saturating_sub(value.as_ptr().addr()), piece.len());
    match over {
        Over::Value => {
            let mut pieces = vec![place(value)];
            pieces.extend(Some(value.trim()).filter(|piece| piece.len() < value.len() && is_covered(piece)).map(place));
            pieces
        }
        Over::Lines => {
            // A carriage return ends a line too, by itself or before a newline: the empty lines between are too short anyway.
            let lines = value.split(['\n', '\r']).map(str::trim);
            let long = |line: &&str| line.len() >= MIN_LINE && line.len() < value.len();
            lines.filter(long).filter(|line| line.contains(char::is_alphanumeric)).map(place).collect()
        }
    }
}

/// No needle of this value has fewer bytes: an encoder writes no less than it reads, but for the digits that base64 shares with a neighbour, which
/// do not count from six bytes on.
pub(super) fn shortest_needle(value: &str) -> usize {
    // Mostly one piece.
    let plain = is_covered(value) && value.trim().len() == value.len() && !value.contains(['\n', '\r']);
    if plain && value.len() >= 6 {
        return value.len();
    }
    let pieces = [Over::Value, Over::Lines].into_iter().flat_map(|over| pieces(over, value));
    let shortest = pieces.map(|(_, length)| length).min().unwrap_or(MIN_NEEDLE);
    if shortest < 6 { MIN_NEEDLE } else { shortest }
}

/// No value of this many bytes has more needles.
pub(super) fn needles_at_most(len: usize) -> usize {
    // Each line takes its own bytes and what separates it from the next.
    let lines = (len / (MIN_LINE + 1)).saturating_add(1);
    static OF_LINES: LazyLock<usize> = LazyLock::new(|| FORMS.iter().filter(|form| form.over == Over::Lines).count());
    let of_values = FORMS.len().saturating_sub(*OF_LINES).saturating_mul(2);
    OF_LINES.saturating_mul(lines).saturating_add(of_values)
}

fn plain(part: Part<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(part.text.as_bytes());
}
