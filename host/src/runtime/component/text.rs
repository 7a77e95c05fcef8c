//! Text that comes from a component or from a compiler that has read one, made fit for our messages.

/// Escapes control characters and shortens to `max` characters, the last an ellipsis where something was cut.
pub(in crate::runtime) fn bounded(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut count = 0usize;
    let mut cut = text.len();
    for (at, c) in text.char_indices() {
        if count >= max {
            cut = at;
            break;
        }
        count = count.saturating_add(1);
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    if cut < text.len() {
        out.push('…');
    }
    out
}

/// Whether a character shows itself and does nothing else: no control characters, and none that reorders text or breaks lines.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_bounded() {
        assert_eq!(bounded("a\u{1b}[2J\nb\u{202e}", 100), "a\\u{1b}[2J\\u{a}b\\u{202e}");
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(bounded("äöüß", 3), "äöü…");
    }
}
