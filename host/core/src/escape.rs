//! Escapes control characters in text from guests, so that the text can neither control a terminal
//! nor imitate output of the host.
//!
//! Escapes use Rust's notation: `\n`, `\x1b`, `\u{202e}`. A backslash is not escaped, because file
//! names and code contain many of them. The output therefore cannot be parsed back; an escape only
//! shows that a character was there.

use std::fmt::Write as _;

/// Escapes every control, format and joiner character, including newline and tab.
///
/// Use it for guest text inside a line of the host, such as a requested name, an error or a file
/// name. Apply it after redaction, which searches for unescaped values.
pub fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_control(c) || is_joiner(c) { escape(c, &mut out) } else { out.push(c) }
    }
    out
}

/// Escapes the control characters of a stream for a terminal, except newline, tab and the joiners
/// that some scripts need.
///
/// Bytes that are not UTF-8 become escapes such as `\x9b`, because some terminals interpret a
/// single byte as a control character. If a chunk ends inside a character, at most three bytes are
/// held back.
#[derive(Debug, Default)]
pub struct TerminalEscaper {
    /// The first bytes of a character whose rest is in the next chunk.
    incomplete: Vec<u8>,
}

impl TerminalEscaper {
    /// Creates an escaper for a new stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes the next bytes of the stream and appends the escaped text to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let joined;
        let mut rest = chunk;
        if !self.incomplete.is_empty() {
            joined = [std::mem::take(&mut self.incomplete).as_slice(), chunk].concat();
            rest = &joined;
        }
        let mut shown = String::with_capacity(rest.len());
        for part in rest.utf8_chunks() {
            push_escaped(part.valid(), &mut shown);
            let invalid = part.invalid();
            rest = rest.get(part.valid().len().saturating_add(invalid.len())..).unwrap_or_default();
            if rest.is_empty() && is_incomplete(invalid) {
                self.incomplete = invalid.to_vec();
            } else {
                push_bytes(invalid, &mut shown);
            }
        }
        out.extend_from_slice(shown.as_bytes());
    }

    /// Ends the stream and appends the bytes of an incomplete character as escapes.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let mut shown = String::new();
        push_bytes(&std::mem::take(&mut self.incomplete), &mut shown);
        out.extend_from_slice(shown.as_bytes());
    }
}

/// Returns whether invalid bytes may form a character with the bytes that follow.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

fn push_escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        if is_control(c) && !matches!(c, '\n' | '\t') { escape(c, out) } else { out.push(c) }
    }
}

fn push_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

fn escape(c: char, out: &mut String) {
    let _ = match c {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        _ if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// Returns whether a character controls the output or is invisible: C0, delete and C1; characters
/// that reorder text or break lines; and invisible characters, which make two texts look the same
/// or carry hidden text (Unicode 16, general categories Cc, Zl, Zp and most of Cf, and variation
/// selectors).
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
            | '\u{e0100}'..='\u{e01ef}')
}

/// Returns whether a character is a joiner: invisible, but necessary for some scripts and emoji.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terminal(chunks: &[&[u8]]) -> String {
        let (mut escaper, mut out) = (TerminalEscaper::new(), Vec::new());
        chunks.iter().for_each(|chunk| escaper.push(chunk, &mut out));
        escaper.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escape_controls_escapes_every_control_character() {
        assert_eq!(escape_controls("a\nb\tc\r\u{1b}[2J\0\u{7f}"), "a\\nb\\tc\\r\\x1b[2J\\x00\\x7f");
        assert_eq!(
            escape_controls("\u{9b}31m\u{202e}x\u{2066}\u{200e}\u{61c}\u{2028}\u{feff}"),
            "\\u{9b}31m\\u{202e}x\\u{2066}\\u{200e}\\u{61c}\\u{2028}\\u{feff}"
        );
        assert_eq!(escape_controls("zero\u{200b}\u{200d}width \u{e0041}"), "zero\\u{200b}\\u{200d}width \\u{e0041}");
        assert_eq!(escape_controls("Grüße, 世界 🎼 \\o/"), "Grüße, 世界 🎼 \\o/");
    }

    // attack: leak: hide text in variation selectors, which are invisible -> they are escaped
    #[test]
    fn variation_selectors_are_escaped() {
        assert_eq!(
            escape_controls("a\u{fe00}b\u{fe0f}c\u{e0100}d\u{e01ef}"),
            "a\\u{fe00}b\\u{fe0f}c\\u{e0100}d\\u{e01ef}"
        );
        assert_eq!(terminal(&["a\u{fe01}b\u{e0101}c\u{180b}".as_bytes()]), "a\\u{fe01}b\\u{e0101}c\\u{180b}");
    }

    #[test]
    fn terminal_escaper_keeps_newline_tab_and_joiners() {
        assert_eq!(terminal(&[b"a\tb\r\n\x1b]0;title\x07"]), "a\tb\\r\n\\x1b]0;title\\x07");
        assert_eq!(terminal(&["👩\u{200d}🔬 \u{9b}2J\u{202e}".as_bytes()]), "👩\u{200d}🔬 \\u{9b}2J\\u{202e}");
    }

    #[test]
    fn terminal_escaper_escapes_invalid_utf8() {
        assert_eq!(terminal(&[b"\x9b2J \xff\xc0\xaf \xed\xa0\x80"]), "\\x9b2J \\xff\\xc0\\xaf \\xed\\xa0\\x80");
        assert_eq!(terminal(&[b"end \xe2\x82"]), "end \\xe2\\x82");
        assert_eq!(terminal(&[b"\xe2\x82", b"x\xe2\x82", b"\xac"]), "\\xe2\\x82x€");
        assert_eq!(terminal(&[b"\xc2", b"\x9b"]), "\\u{9b}");
    }

    #[test]
    fn terminal_escaper_does_not_delay_whole_characters() {
        let (mut escaper, mut out) = (TerminalEscaper::new(), Vec::new());
        escaper.push("ä> ".as_bytes(), &mut out);
        assert_eq!(out, "ä> ".as_bytes());
    }

    proptest! {
        #[test]
        fn terminal_escaper_output_is_independent_of_chunks(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f)], 0..60), cut in 1..9_usize) {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let whole = terminal(&[&bytes]);
            prop_assert_eq!(terminal(&chunks), whole.as_str());
            prop_assert!(!whole.chars().any(|c| is_control(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn text_without_controls_is_unchanged(text in "[ -~äöü€𝄞]{0,40}") {
            prop_assert_eq!(escape_controls(&text), text.as_str());
            prop_assert_eq!(terminal(&[text.as_bytes()]), text.as_str());
        }

        #[test]
        fn escape_controls_output_is_one_line(text in any::<String>()) {
            prop_assert!(!escape_controls(&text).chars().any(|c| is_control(c) || is_joiner(c)));
        }
    }
}
