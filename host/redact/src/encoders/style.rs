//! Encoders that work on characters: each character is kept, or replaced by a name or by its
//! number.

use std::io::Write as _;

use super::bytes::{LOWER, UPPER, digits};

/// Characters and their replacements.
pub(super) type Names = &'static [(char, &'static str)];

/// The notation of an encoder. ASCII letters and digits are always kept.
pub(super) struct Style {
    /// The characters that have names.
    pub(super) names: &'static [Names],
    /// Selects the other characters that are written by number.
    pub(super) numbered: fn(char) -> bool,
    pub(super) number: Number,
}

/// The notation of a character's number.
#[derive(Clone, Copy)]
pub(super) enum Number {
    /// `\u00e4` for each UTF-16 unit, with these digits.
    Unit(&'static [u8; 16]),
    /// `\xe4` below a bound, otherwise `\u20ac` or `\U0001d11e`.
    Code {
        /// The smallest number that is written with four digits.
        bound: u32,
    },
    /// `\xc3\xa4` for the UTF-8 bytes, in lower case.
    Bytes,
    /// `\xE4` in upper case, for characters below 256.
    CodeUpper,
    /// `\303\244` for the UTF-8 bytes.
    Octal,
    /// `&#228;`.
    Decimal,
    /// `&#xE4;`.
    Hexadecimal,
}

impl Style {
    /// Returns a style that only replaces characters with names.
    pub(super) const fn named(names: &'static [Names]) -> Self {
        Self { names, numbered: none, number: Number::Decimal }
    }

    pub(super) const fn new(names: &'static [Names], numbered: fn(char) -> bool, number: Number) -> Self {
        Self { names, numbered, number }
    }

    pub(super) fn write(&self, text: &str, out: &mut Vec<u8>) {
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                push(c, out);
            } else if let Some((_, name)) = self.names.iter().copied().flatten().find(|(named, _)| *named == c) {
                out.extend_from_slice(name.as_bytes());
            } else if (self.numbered)(c) {
                self.number.write(c, out);
            } else {
                push(c, out);
            }
        }
    }
}

impl Number {
    fn write(self, c: char, out: &mut Vec<u8>) {
        let code = u32::from(c);
        // Writing to a vector cannot fail.
        let _ = match self {
            Self::Unit(alphabet) => return unit(c, alphabet, out),
            Self::Code { bound } if code < bound => write!(out, "\\x{code:02x}"),
            Self::Code { .. } if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            Self::Code { .. } => write!(out, "\\U{code:08x}"),
            Self::CodeUpper => write!(out, "\\x{code:02X}"),
            Self::Bytes => bytes(c, out, |byte, out| write!(out, "\\x{byte:02x}")),
            Self::Octal => bytes(c, out, |byte, out| write!(out, "\\{byte:03o}")),
            Self::Decimal => write!(out, "&#{code};"),
            Self::Hexadecimal => write!(out, "&#x{code:X};"),
        };
    }
}

fn bytes(c: char, out: &mut Vec<u8>, write: fn(u8, &mut Vec<u8>) -> std::io::Result<()>) -> std::io::Result<()> {
    c.encode_utf8(&mut [0; 4]).bytes().try_for_each(|byte| write(byte, out))
}

/// Writes a character unchanged.
pub(super) fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes `\uXXXX` for each UTF-16 unit of a character.
pub(super) fn unit(c: char, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        out.extend(unit.to_be_bytes().into_iter().flat_map(|byte| digits(byte, alphabet)));
    }
}

/// UTF-16 units in lower case.
pub(super) const UNITS: Number = Number::Unit(LOWER);

/// UTF-16 units in upper case.
pub(super) const UNITS_UPPER: Number = Number::Unit(UPPER);

/// Selects no character.
pub(super) fn none(_: char) -> bool {
    false
}

/// Selects the first 32 control characters of ASCII.
pub(super) fn control(c: char) -> bool {
    c < ' '
}

/// Selects the ASCII control characters, including delete.
pub(super) fn control_delete(c: char) -> bool {
    c.is_ascii_control()
}

/// Selects the first 32 control characters and everything beyond ASCII.
pub(super) fn not_ascii(c: char) -> bool {
    control(c) || !c.is_ascii()
}

/// Selects everything that is not printable ASCII.
pub(super) fn not_printed(c: char) -> bool {
    control_delete(c) || !c.is_ascii()
}

/// Selects everything beyond ASCII.
pub(super) fn beyond_ascii(c: char) -> bool {
    !c.is_ascii()
}
