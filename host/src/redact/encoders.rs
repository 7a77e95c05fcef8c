//! The list of encoders: in which forms a value is looked for.
//!
//! [`FORMS`] is the list, and it is built to grow: a new form is one entry. What it takes:
//! - it writes what a program would write that encodes the *piece* (the value, or one of its lines);
//! - it is a function of the text read left to right: what it writes of a beginning that is not the end of the piece
//!   ([`Part::last`] is false) is a beginning of what it writes of the whole. A test holds every entry to that;
//! - it writes at most [`GROWTH`] bytes for each byte it reads, and at least one byte for every few, so that the buffers it
//!   writes to never have to move and leave a copy behind.
//!
//! # Values too short to cover
//! Covering a value of a few bytes would mark every second word of an innocent output, tell a reader where its letters stand, and hide
//! what went wrong. So a value is left alone, in all forms, if it is shorter than [`MIN_VALUE`] bytes or nothing but white space.
//! A line of a value is looked for by itself from [`MIN_LINE`] bytes on (without the white space around it), and only if it has a
//! letter or digit: a value may well have lines such as `{` or `--------`. No needle is shorter than [`MIN_NEEDLE`] bytes.

use zeroize::Zeroizing;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

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
    form("base64, aligned", Over::Value, |part, out| base64(part, 0, Tail::Inner, out)),
    form("base64, after one byte", Over::Value, |part, out| base64(part, 1, Tail::Inner, out)),
    form("base64, after two bytes", Over::Value, |part, out| base64(part, 2, Tail::Inner, out)),
    form("base64, aligned, end", Over::Value, |part, out| base64(part, 0, Tail::Padded, out)),
    form("base64, after one byte, end", Over::Value, |part, out| base64(part, 1, Tail::Padded, out)),
    form("base64, after two bytes, end", Over::Value, |part, out| base64(part, 2, Tail::Padded, out)),
    form("base64, aligned, end without padding", Over::Value, |part, out| base64(part, 0, Tail::Bare, out)),
    form("base64, after one byte, end without padding", Over::Value, |part, out| base64(part, 1, Tail::Bare, out)),
    form("base64, after two bytes, end without padding", Over::Value, |part, out| base64(part, 2, Tail::Bare, out)),
    form("hexadecimal, lower case", Over::Value, |part, out| hex(part, LOWER, out)),
    form("hexadecimal, upper case", Over::Value, |part, out| hex(part, UPPER, out)),
    form("percent, RFC 3986, upper case", Over::Value, |part, out| percent(part, b"-._~", false, UPPER, out)),
    form("percent, RFC 3986, lower case", Over::Value, |part, out| percent(part, b"-._~", false, LOWER, out)),
    form("percent, every byte, upper case", Over::Value, |part, out| percent_all(part, UPPER, out)),
    form("percent, every byte, lower case", Over::Value, |part, out| percent_all(part, LOWER, out)),
    // Browsers keep the asterisk, as the URL standard says; Python's quote_plus keeps the tilde.
    form("form data, upper case", Over::Value, |part, out| percent(part, b"*-._", true, UPPER, out)),
    form("form data, lower case", Over::Value, |part, out| percent(part, b"*-._", true, LOWER, out)),
    form("form data, tilde kept, upper case", Over::Value, |part, out| percent(part, b"-._~", true, UPPER, out)),
    form("form data, tilde kept, lower case", Over::Value, |part, out| percent(part, b"-._~", true, LOWER, out)),
    form("JSON", Over::Value, |part, out| json(part, false, LOWER, out)),
    form("JSON, ASCII, lower case", Over::Value, |part, out| json(part, true, LOWER, out)),
    form("JSON, ASCII, upper case", Over::Value, |part, out| json(part, true, UPPER, out)),
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

/// No value of this many bytes has more needles.
pub(super) fn needles_at_most(len: usize) -> usize {
    // Each line takes its own bytes and what separates it from the next.
    let lines = (len / (MIN_LINE + 1)).saturating_add(1);
    let each = |form: &Form| if form.over == Over::Lines { lines } else { 2 };
    FORMS.iter().map(each).fold(0, usize::saturating_add)
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn digits(byte: u8, alphabet: &[u8; 16]) -> [u8; 2] {
    // A nibble is below sixteen, so that neither look-up fails.
    [byte >> 4, byte & 15].map(|nibble| alphabet.get(usize::from(nibble)).copied().unwrap_or(b'?'))
}

fn plain(part: Part<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(part.text.as_bytes());
}

/// How base64 goes on after the value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// With bytes that are not known.
    Inner,
    /// Not at all.
    Bare,
    /// With padding only.
    Padded,
}

fn base64(part: Part<'_>, before: usize, tail: Tail, out: &mut Vec<u8>) {
    let mut input = Zeroizing::new(Vec::with_capacity(before.saturating_add(part.text.len())));
    input.resize(before, 0);
    input.extend_from_slice(part.text.as_bytes());
    let mut encoded = Zeroizing::new(vec![0; input.len().div_ceil(3).saturating_mul(4)]);
    // The buffer has exactly the length that the encoding has.
    let written = STANDARD.encode_slice(input.as_slice(), encoded.as_mut_slice()).unwrap_or(0);
    let bits = input.len().saturating_mul(8);
    let end = match tail {
        Tail::Padded if part.last => written,
        Tail::Bare if part.last => bits.div_ceil(6),
        _ => bits / 6,
    };
    let start = before.saturating_mul(8).div_ceil(6);
    out.extend_from_slice(encoded.get(start..end).unwrap_or_default());
}

fn hex(part: Part<'_>, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    out.extend(part.text.bytes().flat_map(|byte| digits(byte, alphabet)));
}

fn percent_byte(byte: u8, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    out.push(b'%');
    out.extend(digits(byte, alphabet));
}

fn percent_all(part: Part<'_>, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    part.text.bytes().for_each(|byte| percent_byte(byte, alphabet, out));
}

fn percent(part: Part<'_>, kept: &[u8], plus: bool, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    for byte in part.text.bytes() {
        match byte {
            b' ' if plus => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte),
            _ => percent_byte(byte, alphabet, out),
        }
    }
}

fn json(part: Part<'_>, ascii: bool, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    let unit = |unit: u16, out: &mut Vec<u8>| {
        out.extend_from_slice(b"\\u");
        out.extend(unit.to_be_bytes().into_iter().flat_map(|byte| digits(byte, alphabet)));
    };
    for c in part.text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            _ if c < ' ' || (ascii && !c.is_ascii()) => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|&code| unit(code, out));
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use proptest::prelude::*;

    /// All needles of a value, made without laziness.
    fn all(value: &str) -> Vec<Vec<u8>> {
        let whole = |form: &'static Form| {
            pieces(form.over, value).into_iter().map(|(at, len)| form.encode(&value[at..at + len], true).to_vec())
        };
        FORMS.iter().flat_map(whole).filter(|needle| needle.len() >= MIN_NEEDLE).collect()
    }

    fn has(value: &str, needle: &str) -> bool {
        all(value).iter().any(|made| made == needle.as_bytes())
    }

    #[test]
    fn the_forms_of_a_password() {
        let value = "p\"ä s/1~*\n2";
        for needle in [
            value,
            "p\\\"ä s/1~*\\n2",
            "p\\\"\\u00e4 s/1~*\\n2",
            "p\\\"\\u00E4 s/1~*\\n2",
            "7022c3a420732f317e2a0a32",
            "7022C3A420732F317E2A0A32",
            "p%22%C3%A4%20s%2F1~%2A%0A2",
            "p%22%c3%a4%20s%2f1~%2a%0a2",
            "%70%22%C3%A4%20%73%2F%31%7E%2A%0A%32",
            "%70%22%c3%a4%20%73%2f%31%7e%2a%0a%32",
            "p%22%C3%A4+s%2F1%7E*%0A2",
            "p%22%c3%a4+s%2f1%7e*%0a2",
            "p%22%C3%A4+s%2F1~%2A%0A2",
            "p%22%c3%a4+s%2f1~%2a%0a2",
            "p\"ä s/1~*",
        ] {
            assert!(has(value, needle), "{needle}");
        }
        assert!(has("𝄞🎼", "\\ud834\\udd1e\\ud83c\\udfbc"));
    }

    #[test]
    fn short_values_and_lines_follow_the_rule() {
        for bare in ["", "a", "abc", "ä1", "    ", "\n\n\n\n\n", "\u{a0}\u{2003}  "] {
            assert!(all(bare).is_empty(), "{bare:?}");
        }
        assert!(has("abcd", "abcd"));
        assert!(has("abc\n", "abc\n") && !has("abc\n", "abc"));
        assert!(has("hunter2\n", "hunter2") && has("hunter2\n", "68756e74657232"));
        let lines = "short\r\n  six666  \n--------\r}\nlonger line\n";
        assert!(has(lines, "six666") && has(lines, "longer line"));
        assert!(!has(lines, "short") && !has(lines, "--------") && !has(lines, "}"));
    }

    #[test]
    fn base64_leaves_only_digits_shared_with_a_neighbour() {
        assert!(has("abcd", "YWJjZA==") && has("abcd", "YWJjZA") && has("abcd", "YWJjZ"));
        // x + abcd = eGFiY2Q=, xy + abcd = eHlhYmNk
        assert!(has("abcd", "FiY2") && has("abcd", "FiY2Q=") && has("abcd", "hYmNk"));
    }

    proptest! {
        #[test]
        fn base64_is_found_inside_other_base64(
            before in prop::collection::vec(any::<u8>(), 0..5), value in "\\PC{4,20}", after in prop::collection::vec(any::<u8>(), 0..5),
        ) {
            let text = STANDARD_NO_PAD.encode([&before, value.as_bytes(), &after].concat());
            let longest = all(&value).into_iter().filter(|needle| text.contains(std::str::from_utf8(needle).unwrap()))
                .map(|needle| needle.len()).max().unwrap_or(0);
            // At most one digit at each end is shared.
            prop_assert!(longest * 6 + 2 * 5 >= value.len() * 8, "{longest} digits of {text}");
        }

        #[test]
        fn json_is_what_serde_writes(value in any::<String>()) {
            let quoted = serde_json::to_string(&value).unwrap();
            let mut out = Vec::new();
            json(Part { text: &value, last: true }, false, LOWER, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), &quoted[1..quoted.len() - 1]);
            for alphabet in [LOWER, UPPER] {
                let mut out = Vec::new();
                json(Part { text: &value, last: true }, true, alphabet, &mut out);
                prop_assert!(out.is_ascii());
                let read: String = serde_json::from_str(&format!("\"{}\"", String::from_utf8(out).unwrap())).unwrap();
                prop_assert_eq!(&read, &value);
            }
        }

        #[test]
        fn beginnings_stay_and_growth_is_bounded(value in any::<String>(), cut in any::<prop::sample::Index>()) {
            let cut = value.floor_char_boundary(cut.index(value.len() + 1));
            for form in FORMS {
                let whole = form.encode(&value, true);
                let beginning = form.encode(&value[..cut], false);
                prop_assert!(whole.starts_with(&beginning), "{}", form.name);
                prop_assert!(whole.len() <= value.len() * GROWTH + SLACK && beginning.len() <= cut * GROWTH + SLACK, "{}", form.name);
            }
        }

        #[test]
        fn the_bound_on_needles_holds(value in "([a-c1]{5,7}[\n\r]){0,40}") {
            prop_assert!(all(&value).len() <= needles_at_most(value.len()));
        }
    }
}
