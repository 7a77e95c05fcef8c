//! Encoders of bytes: base64, hexadecimal, lists of numbers, percent-encoding.

use std::io;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub(super) const LOWER: &[u8; 16] = b"0123456789abcdef";
pub(super) const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Returns the two hexadecimal digits of a byte.
pub(super) fn digits(byte: u8, alphabet: &[u8; 16]) -> [u8; 2] {
    // A nibble is below 16, so the lookup cannot fail.
    [byte >> 4, byte & 15].map(|nibble| alphabet.get(usize::from(nibble)).copied().unwrap_or(b'?'))
}

/// The bytes before the value in the base64 group in which it starts.
#[derive(Clone, Copy)]
pub(super) enum Prefix {
    /// This many unknown bytes.
    Unknown(usize),
    /// This many bytes, of which the last is a colon.
    Colon(usize),
}

/// What follows the value in base64.
#[derive(Clone, Copy)]
pub(super) enum Tail {
    /// Unknown bytes.
    Inner,
    /// Nothing: base64 without padding ends here.
    Bare,
    /// Only padding.
    Padded,
}

pub(super) fn base64(text: &str, engine: &GeneralPurpose, prefix: Prefix, tail: Tail, out: &mut Vec<u8>) {
    let (count, fill) = match prefix {
        Prefix::Unknown(count) => (count, 0),
        Prefix::Colon(count) => (count, b':'),
    };
    let mut input = Zeroizing::new(Vec::with_capacity(count.saturating_add(text.len())));
    // Only the last of the preceding bytes shares a digit with the value.
    input.resize(count, fill);
    input.extend_from_slice(text.as_bytes());
    let mut encoded = Zeroizing::new(vec![0; input.len().div_ceil(3).saturating_mul(4)]);
    // The buffer has exactly the length of the encoding.
    let written = engine.encode_slice(input.as_slice(), encoded.as_mut_slice()).unwrap_or(0);
    let bits = input.len().saturating_mul(8);
    let end = match tail {
        Tail::Padded => written,
        Tail::Bare => bits.div_ceil(6),
        _ => bits / 6,
    };
    let start = match prefix {
        Prefix::Unknown(count) => count.saturating_mul(8).div_ceil(6),
        Prefix::Colon(count) => count.saturating_mul(8) / 6,
    };
    out.extend_from_slice(encoded.get(start..end).unwrap_or_default());
}

/// Writes base64 of a text that starts with the value, with a line ending after every `width`
/// digits.
pub(super) fn base64_lines(text: &str, width: usize, ending: &str, tail: Tail, out: &mut Vec<u8>) {
    let mut encoded = Zeroizing::new(Vec::with_capacity(text.len().div_ceil(3).saturating_mul(4)));
    base64(text, &STANDARD, Prefix::Unknown(0), tail, &mut encoded);
    for (at, line) in encoded.chunks(width).enumerate() {
        if at > 0 {
            out.extend_from_slice(ending.as_bytes());
        }
        out.extend_from_slice(line);
    }
}

pub(super) fn hex(text: &str, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    out.extend(text.bytes().flat_map(|byte| digits(byte, alphabet)));
}

/// Writes a byte or a character as a number.
pub(super) type Notation<T> = fn(T, &mut Vec<u8>) -> io::Result<()>;

/// Writes the bytes as numbers.
pub(super) fn list(text: &str, separator: &str, write: Notation<u8>, out: &mut Vec<u8>) {
    for (at, byte) in text.bytes().enumerate() {
        if at > 0 {
            out.extend_from_slice(separator.as_bytes());
        }
        // Writing to a vector cannot fail.
        let _ = write(byte, out);
    }
}

fn percent_byte(byte: u8, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    out.push(b'%');
    out.extend(digits(byte, alphabet));
}

pub(super) fn percent_all(text: &str, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    text.bytes().for_each(|byte| percent_byte(byte, alphabet, out));
}

/// Percent-encodes every byte except ASCII letters, digits and `kept`; with `plus`, a space becomes
/// `+`.
pub(super) fn percent(text: &str, kept: &[u8], plus: bool, alphabet: &[u8; 16], out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b' ' if plus => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte),
            _ => percent_byte(byte, alphabet, out),
        }
    }
}
