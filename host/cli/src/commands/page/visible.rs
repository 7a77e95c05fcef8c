//! The last thing done to a page: whatever in it controls rather than shows is made visible.

use strongroom::escape::TerminalEscaper;

/// A page without control and direction characters, newline and tab apart: they are shown as a terminal would show them. The template has none, so
/// all that are there came with a component's text, wherever that stands. What is left is a character that XML knows too.
pub(super) fn visible(page: &str) -> String {
    let (mut escaper, mut shown) = (TerminalEscaper::new(), Vec::with_capacity(page.len()));
    escaper.push(page.as_bytes(), &mut shown);
    escaper.finish(&mut shown);
    // What an escaper makes is text. The two last are no characters, and XML forbids them.
    String::from_utf8_lossy(&shown).replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_reader_would_obey_is_left() {
        assert_eq!(visible("a\0b\u{1b}[2J\u{202e}c\u{85}\u{2028}\r"), "a\\x00b\\x1b[2J\\u{202e}c\\u{85}\\u{2028}\\r");
        assert_eq!(visible("\u{fffe}<\u{ffff}"), "\\u{fffe}<\\u{ffff}");
        assert_eq!(visible("tab\tand\nnewline, Grüße &#60;"), "tab\tand\nnewline, Grüße &#60;");
    }
}
