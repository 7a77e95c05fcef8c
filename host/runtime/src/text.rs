//! Escapes and bounds text from a component, or from a library that read one, for use in messages.
//!
//! This file does not depend on the engine, because `fuzz/` includes it.

use std::fmt::{self, Display, Write};

/// Formats a value, escapes control characters, and shortens the text to `max` characters, with an
/// ellipsis if anything was cut. Formatting stops at the bound, so that a name of 30 MB in an error
/// costs nothing.
pub(crate) fn bounded(value: &(impl Display + ?Sized), max: usize) -> String {
    let mut writer = BoundedWriter { out: String::new(), left: max };
    // Only a full writer fails.
    if write!(writer, "{value}").is_err() {
        writer.out.push('…');
    }
    writer.out
}

/// Escapes the text that is written to it, and fails when it is full.
struct BoundedWriter {
    out: String,
    /// The remaining number of characters, counted before escaping.
    left: usize,
}

impl Write for BoundedWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            if is_plain(c) { self.out.push(c) } else { self.out.extend(c.escape_unicode()) }
        }
        Ok(())
    }
}

/// Returns whether a character is neither a control character nor one that reorders text or breaks
/// lines.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_with_controls_is_escaped_and_cut() {
        assert_eq!(bounded("a\u{1b}[2J\nb\u{202e}", 100), "a\\u{1b}[2J\\u{a}b\\u{202e}");
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(bounded("äöüß", 3), "äöü…");
    }

    #[test]
    fn endless_formatting_stops_at_the_bound() {
        struct Endless<'a>(&'a std::cell::Cell<usize>);
        impl Display for Endless<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    self.0.set(self.0.get() + 1);
                    f.write_str("again ")?;
                }
            }
        }
        let writes = std::cell::Cell::new(0);
        assert_eq!(bounded(&Endless(&writes), 8), "again ag…");
        assert_eq!(writes.get(), 2);
    }
}
