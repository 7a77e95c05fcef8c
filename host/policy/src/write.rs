//! Formats text from other sources for use in a TOML policy.

use std::fmt::Write as _;

use strongroom_core::escape::escape_controls;

/// Returns a TOML string that parses to the text. Characters that control a terminal or are
/// invisible become escapes, so that a person sees everything the string contains.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    let mut buffer = [0; 4];
    for c in text.chars() {
        let shown: &str = c.encode_utf8(&mut buffer);
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Writing to a string cannot fail.
            _ if escape_controls(shown) != shown => drop(match u32::from(c) {
                code @ 0..0x1_0000 => write!(out, "\\u{code:04X}"),
                code => write!(out, "\\U{code:08X}"),
            }),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns a TOML key: bare if possible, otherwise quoted.
pub(crate) fn key(text: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { string(text) }
}

/// Returns text for a TOML comment: one line without control characters, truncated.
pub(crate) fn comment(text: &str) -> String {
    const LONGEST: usize = 100;
    let shown = escape_controls(text);
    match shown.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

/// Returns a TOML list of strings.
pub(crate) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.into_iter().map(string).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn string_and_key_parse_back(text in any::<String>()) {
            let document = format!("{} = {}", key(&text), string(&text));
            prop_assert!(document.lines().count() <= 1 && escape_controls(&document) == document, "{document:?}");
            let table: toml::Table = toml::from_str(&document).unwrap();
            prop_assert_eq!(table.get(&text).and_then(toml::Value::as_str), Some(text.as_str()));
        }

        #[test]
        fn comment_text_cannot_end_the_comment(text in any::<String>()) {
            let table: toml::Table = toml::from_str(&format!("# {}\na = 1", comment(&text))).unwrap();
            prop_assert_eq!(table.len(), 1);
        }
    }
}
