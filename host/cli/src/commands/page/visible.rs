//! Escapes control characters in a finished page.

use strongroom::escape::TerminalEscaper;

/// Escapes control and direction characters, except newline and tab, as for a terminal. The
/// template contains none, so all of them come from component text. The result contains only
/// characters that XML allows.
pub(super) fn visible(page: &str) -> String {
    let (mut escaper, mut shown) = (TerminalEscaper::new(), Vec::with_capacity(page.len()));
    escaper.push(page.as_bytes(), &mut shown);
    escaper.finish(&mut shown);
    // The escaper's output is text. XML also forbids these two noncharacters.
    String::from_utf8_lossy(&shown).replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_page_are_escaped() {
        assert_eq!(visible("a\0b\u{1b}[2J\u{202e}c\u{85}\u{2028}\r"), "a\\x00b\\x1b[2J\\u{202e}c\\u{85}\\u{2028}\\r");
        assert_eq!(visible("\u{fffe}<\u{ffff}"), "\\u{fffe}<\\u{ffff}");
        assert_eq!(visible("tab\tand\nnewline, Grüße &#60;"), "tab\tand\nnewline, Grüße &#60;");
    }
}
