//! The list of encoders: the forms of a value that the redactor searches for.
//!
//! [`for_each_encoding`] has the list. A new form is one line. Forms with the same output for a
//! value are searched for once, so a form costs something only for the values that it encodes
//! differently. Requirements for a form:
//! - It writes what a program that encodes the value would write.
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

use std::io::Write as _;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use self::bytes::{LOWER, Notation, Prefix, Tail, UPPER, base64, base64_lines, hex, list, percent, percent_all};
use self::entities::*;
use self::escapes::*;
use self::style::Style;

/// The minimum length in bytes of a value that is covered.
pub const MIN_VALUE: usize = 4;

/// The minimum length in bytes of a line that is covered on its own, without surrounding white
/// space.
pub const MIN_LINE: usize = 6;

/// The minimum length of a needle in bytes. It must exceed the three bytes of the last marker.
pub(super) const MIN_NEEDLE: usize = 4;

/// The maximum number of bytes that an encoder writes per byte that it reads: three digits, a comma,
/// a line break and eight spaces.
pub(super) const GROWTH: usize = 13;

/// The maximum number of bytes that an encoder writes beyond [`GROWTH`]: base64 padding.
const SLACK: usize = 8;

/// Calls a function with the output of each encoder for a text, in a buffer that is zeroized.
fn for_each_encoding(text: &str, buffer: &mut Zeroizing<Vec<u8>>, mut each: impl FnMut(&[u8])) {
    let mut encode = |encoder: &dyn Fn(&mut Vec<u8>)| {
        buffer.clear();
        encoder(buffer);
        // Most encoders leave most texts unchanged.
        if buffer.as_slice() != text.as_bytes() {
            each(buffer);
        }
    };
    for engine in [&STANDARD, &URL_SAFE] {
        for tail in [Tail::Inner, Tail::Padded, Tail::Bare] {
            for prefix in PREFIXES {
                encode(&|out| base64(text, engine, *prefix, tail, out));
            }
        }
    }
    // With line breaks, for text that starts with the value: with a prefix, the positions of the
    // breaks would depend on the prefix.
    for width in [64, 76] {
        for ending in ["\n", "\r\n"] {
            for tail in [Tail::Inner, Tail::Padded, Tail::Bare] {
                encode(&|out| base64_lines(text, width, ending, tail, out));
            }
        }
    }
    // `{:?}`, JSON, Go, one number per line, JSON and `{:#?}` with indentation.
    for separator in [", ", ",", " ", "\n", ",\n  ", ",\n    ", ",\n        "] {
        encode(&|out| list(text, separator, |byte, out| write!(out, "{byte}"), out));
    }
    for unit in [u16::to_le_bytes, u16::to_be_bytes] {
        encode(&|out| out.extend(text.encode_utf16().flat_map(unit)));
    }
    for character in CHARACTERS {
        // Writing to a vector cannot fail.
        encode(&|out| _ = text.chars().try_for_each(|c| character(c, out)));
    }
    for (separator, write) in HEX_LISTS {
        encode(&|out| list(text, separator, *write, out));
    }
    for alphabet in [LOWER, UPPER] {
        encode(&|out| hex(text, alphabet, out));
        encode(&|out| percent_all(text, alphabet, out));
        encode(&|out| units(text, alphabet, out));
        for (kept, plus) in PERCENT {
            encode(&|out| percent(text, kept, *plus, alphabet, out));
        }
    }
    for encoder in [rust, rust_escape_debug, rust_escape_default, shell_ruby] {
        encode(&|out| encoder(text, out));
    }
    for style in STYLES {
        encode(&|out| style.write(text, out));
    }
}

/// What may precede a value in base64: the value starts at one of three offsets in a group of three
/// bytes. In `Authorization: Basic`, base64 of `user:value`, the preceding byte is known to be a
/// colon, so the digit shared with it is redacted too. If the colon ends a group of three, no digit
/// is shared.
const PREFIXES: &[Prefix] =
    &[Prefix::Unknown(0), Prefix::Unknown(1), Prefix::Unknown(2), Prefix::Colon(1), Prefix::Colon(2)];

/// Entities for every character.
const CHARACTERS: [Notation<char>; 3] = [
    |c, out| write!(out, "&#{};", u32::from(c)),
    |c, out| write!(out, "&#x{:x};", u32::from(c)),
    |c, out| write!(out, "&#x{:X};", u32::from(c)),
];

/// Lists of hexadecimal numbers: the separator and the notation. Go's `% x` and Node's `Buffer`;
/// fingerprints; `{:02x?}` and `{:x?}`; C; Go's `%#v`; `\x54` for every byte.
const HEX_LISTS: &[(&str, Notation<u8>)] = &[
    (" ", |byte, out| write!(out, "{byte:02x}")),
    (" ", |byte, out| write!(out, "{byte:02X}")),
    (":", |byte, out| write!(out, "{byte:02x}")),
    (":", |byte, out| write!(out, "{byte:02X}")),
    (", ", |byte, out| write!(out, "{byte:02x}")),
    (", ", |byte, out| write!(out, "{byte:02X}")),
    (", ", |byte, out| write!(out, "{byte:x}")),
    (", ", |byte, out| write!(out, "{byte:X}")),
    (", ", |byte, out| write!(out, "0x{byte:02x}")),
    (", ", |byte, out| write!(out, "0x{byte:02X}")),
    (", ", |byte, out| write!(out, "0x{byte:x}")),
    (",", |byte, out| write!(out, "0x{byte:02x}")),
    (",", |byte, out| write!(out, "0x{byte:02X}")),
    (" ", |byte, out| write!(out, "0x{byte:02x}")),
    (" ", |byte, out| write!(out, "0x{byte:02X}")),
    ("", |byte, out| write!(out, "\\x{byte:02x}")),
    ("", |byte, out| write!(out, "\\x{byte:02X}")),
];

/// The characters that percent-encodings keep besides letters and digits, and whether a space
/// becomes `+`.
const PERCENT: &[(&[u8], bool)] = &[
    // RFC 3986; Python's `quote`; `encodeURIComponent`; `encodeURI`.
    (b"-._~", false),
    (b"-._~/", false),
    (b"-_.!~*'()", false),
    (b"-_.!~*'();/?:@&=+$,#", false),
    // User info of URLs: what RFC 3986 allows, with and without the colon; Go; browsers and the
    // `url` crate.
    (b"-._~!$&'()*+,;=", false),
    (b"-._~!$&'()*+,;=:", false),
    (b"-._~$&+,;=", false),
    (b"-._~!$%&'()*+,", false),
    // Paths of URLs: by the current standard, by the standard before `^` was added, and path
    // segments of the `url` crate.
    (b"-._~!$%&'()*+,/:;=@[\\]|", false),
    (b"-._~!$%&'()*+,/:;=@[\\]|^", false),
    (b"-._~!$&'()*+,:;=@[]|^", false),
    // Queries of URLs in general, and of HTTP.
    (b"-._~!$%&'()*+,/:;=@[\\]|?^`{}", false),
    (b"-._~!$%&()*+,/:;=@[\\]|?^`{}", false),
    // Form data: browsers keep the asterisk, as in the URL standard; Python's `quote_plus` keeps
    // the tilde; PHP keeps neither.
    (b"*-._", true),
    (b"-._~", true),
    (b"-._", true),
];

/// The encoders that replace some characters.
static STYLES: &[&Style] = &[
    &JSON,
    &JSON_UPPER,
    &JSON_DELETE,
    &JSON_ASCII,
    &JSON_ASCII_UPPER,
    &JSON_PYTHON,
    &JSON_SOLIDUS,
    &JSON_PHP,
    &JSON_PHP_HTML,
    &JSON_TAGS,
    &JSON_TAGS_UPPER,
    &JSON_DJANGO,
    &JSON_HTML,
    &JSON_HTML_UPPER,
    &JSON_JINJA,
    &JSON_GSON,
    &JSON_NET,
    &RUST_BYTES,
    &BYTES_CRATE,
    &PYTHON,
    &PYTHON_APOSTROPHE,
    &PYTHON_ASCII,
    &PYTHON_ASCII_APOSTROPHE,
    &PYTHON_BYTES,
    &PYTHON_BYTES_APOSTROPHE,
    &NODE,
    &NODE_APOSTROPHE,
    &GO,
    &GO_ASCII,
    &C,
    &C_ASCII,
    &SHELL_ANSI,
    &SHELL_ANSI_ASCII,
    &SHELL_APOSTROPHE,
    &SHELL_PYTHON,
    &SHELL_QUOTES,
    &SHELL_QUOTES_HISTORY,
    &SHELL_BACKSLASHES,
    &DOUBLED_APOSTROPHES,
    &DOUBLED_QUOTES,
    &XML_MINIMAL,
    &XML,
    &XML_ASCII,
    &XML_ASCII_HEX,
    &XML_QUOT,
    &XML_QUOT_ASCII,
    &XML_QUOT_ASCII_HEX,
    &XML_APOS,
    &XML_ATTRIBUTE,
    &XML_CANONICAL,
    &XML_GO,
    &HTML_39,
    &HTML_39_ASCII,
    &HTML_039,
    &HTML_X27,
    &HTML_34_39,
    &HTML_OWASP,
    &HTML_MUSTACHE,
    &XML_DECIMAL,
    &XML_HEX,
    &XML_HEX_UPPER,
];

/// Returns whether a value is covered at all.
pub(super) fn is_covered(value: &str) -> bool {
    value.len() >= MIN_VALUE && !value.trim().is_empty()
}

/// Calls a function with each needle of a value. Equal needles may be repeated.
pub(super) fn for_each_needle(value: &str, mut each: impl FnMut(&[u8])) {
    if !is_covered(value) {
        return;
    }
    let mut each = |needle: &[u8]| {
        if needle.len() >= MIN_NEEDLE {
            each(needle);
        }
    };
    let mut buffer = Zeroizing::new(Vec::with_capacity(value.len().saturating_mul(GROWTH).saturating_add(SLACK)));
    // Programs trim their input.
    let trimmed = Some(value.trim()).filter(|trimmed| trimmed.len() < value.len() && is_covered(trimmed));
    for text in [value].into_iter().chain(trimmed) {
        each(text.as_bytes());
        for_each_encoding(text, &mut buffer, &mut each);
    }
    for line in lines(value) {
        each(line.as_bytes());
        buffer.clear();
        JSON.write(line, &mut buffer);
        each(&buffer);
    }
}

/// Returns the lines of a value that are covered on their own, without surrounding white space.
fn lines(value: &str) -> impl Iterator<Item = &str> {
    // A carriage return also ends a line, alone or before a newline. The empty lines between the
    // two are too short to matter.
    let lines = value.split(['\n', '\r']).map(str::trim);
    let long = |line: &&str| line.len() >= MIN_LINE && line.len() < value.len();
    lines.filter(long).filter(|line| line.contains(char::is_alphanumeric))
}

/// Returns the distinct needles of a value.
#[cfg(any(test, feature = "oracle"))]
pub(super) fn needles(value: &str) -> Vec<Vec<u8>> {
    let mut needles = Vec::new();
    for_each_needle(value, |needle| needles.push(needle.to_vec()));
    needles.sort();
    needles.dedup();
    needles
}
