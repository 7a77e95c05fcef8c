//! Making the control characters of guests' text visible, so that it can neither move the cursor nor pass for text of ours.
//!
//! Escapes are written as Rust writes them: `\n`, `\x1b`, `\u{202e}`. A backslash stays as it is, since file names and code are full
//! of them; so an escape shows that something was there, and is not made to be read back.

use std::fmt::Write as _;

/// Escapes every character that controls rather than shows, newline and tab too: for a text of a guest that stands inside a line of
/// ours (a name asked for, an error, a file name). Apply it after redaction, which looks for values as they are.
pub fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if controls(c) || joins(c) { escape(c, &mut out) } else { out.push(c) }
    }
    out
}

/// Escapes the control characters of a stream for a terminal, but lets newline and tab through, and the joiners that some scripts need.
///
/// Bytes that are no UTF-8 are shown as `\x9b`: some terminals take a lone byte for a control character. Of a character that is cut by the
/// end of a chunk, at most three bytes are held back.
#[derive(Debug, Default)]
pub struct TerminalEscaper {
    /// The beginning of a character that a chunk ended with.
    cut: Vec<u8>,
}

impl TerminalEscaper {
    /// An escaper at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, and appends to `out` what is decided.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let joined;
        let mut rest = chunk;
        if !self.cut.is_empty() {
            joined = [std::mem::take(&mut self.cut).as_slice(), chunk].concat();
            rest = &joined;
        }
        let mut shown = String::with_capacity(rest.len());
        for part in rest.utf8_chunks() {
            show(part.valid(), &mut shown);
            let invalid = part.invalid();
            rest = rest.get(part.valid().len().saturating_add(invalid.len())..).unwrap_or_default();
            if rest.is_empty() && is_cut(invalid) {
                self.cut = invalid.to_vec();
            } else {
                show_bytes(invalid, &mut shown);
            }
        }
        out.extend_from_slice(shown.as_bytes());
    }

    /// Ends the stream: what is left of a cut character is shown as bytes.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let mut shown = String::new();
        show_bytes(&std::mem::take(&mut self.cut), &mut shown);
        out.extend_from_slice(shown.as_bytes());
    }
}

/// Whether bytes that are no text may become a character with the bytes that follow.
fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

fn show(text: &str, out: &mut String) {
    for c in text.chars() {
        if controls(c) && !matches!(c, '\n' | '\t') { escape(c, out) } else { out.push(c) }
    }
}

fn show_bytes(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        // Writing to a string does not fail.
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

/// Whether a character controls rather than shows: C0, delete and C1; what reorders text or breaks lines; and what is invisible and
/// makes two texts look the same (Unicode 16, general categories Cc, Zl, Zp and most of Cf).
fn controls(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a character is a joiner: invisible, but without it some scripts and emoji come out wrong.
fn joins(c: char) -> bool {
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
    fn frames_show_every_control() {
        assert_eq!(escape_controls("a\nb\tc\r\u{1b}[2J\0\u{7f}"), "a\\nb\\tc\\r\\x1b[2J\\x00\\x7f");
        assert_eq!(
            escape_controls("\u{9b}31m\u{202e}x\u{2066}\u{200e}\u{61c}\u{2028}\u{feff}"),
            "\\u{9b}31m\\u{202e}x\\u{2066}\\u{200e}\\u{61c}\\u{2028}\\u{feff}"
        );
        assert_eq!(escape_controls("zero\u{200b}\u{200d}width \u{e0041}"), "zero\\u{200b}\\u{200d}width \\u{e0041}");
        assert_eq!(escape_controls("Grüße, 世界 🎼 \\o/"), "Grüße, 世界 🎼 \\o/");
    }

    #[test]
    fn terminals_get_lines_and_text() {
        assert_eq!(terminal(&[b"a\tb\r\n\x1b]0;title\x07"]), "a\tb\\r\n\\x1b]0;title\\x07");
        assert_eq!(terminal(&["👩\u{200d}🔬 \u{9b}2J\u{202e}".as_bytes()]), "👩\u{200d}🔬 \\u{9b}2J\\u{202e}");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        assert_eq!(terminal(&[b"\x9b2J \xff\xc0\xaf \xed\xa0\x80"]), "\\x9b2J \\xff\\xc0\\xaf \\xed\\xa0\\x80");
        assert_eq!(terminal(&[b"end \xe2\x82"]), "end \\xe2\\x82");
        assert_eq!(terminal(&[b"\xe2\x82", b"x\xe2\x82", b"\xac"]), "\\xe2\\x82x€");
        assert_eq!(terminal(&[b"\xc2", b"\x9b"]), "\\u{9b}");
    }

    #[test]
    fn a_whole_character_is_shown_at_once() {
        let (mut escaper, mut out) = (TerminalEscaper::new(), Vec::new());
        escaper.push("ä> ".as_bytes(), &mut out);
        assert_eq!(out, "ä> ".as_bytes());
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f)], 0..60), cut in 1..9_usize) {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let whole = terminal(&[&bytes]);
            prop_assert_eq!(terminal(&chunks), whole.as_str());
            prop_assert!(!whole.chars().any(|c| controls(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn clean_text_passes(text in "[ -~äöü€𝄞]{0,40}") {
            prop_assert_eq!(escape_controls(&text), text.as_str());
            prop_assert_eq!(terminal(&[text.as_bytes()]), text.as_str());
        }

        #[test]
        fn frames_are_one_line(text in any::<String>()) {
            prop_assert!(!escape_controls(&text).chars().any(|c| controls(c) || joins(c)));
        }
    }
}
