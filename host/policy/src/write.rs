//! Writing policies: text that comes from elsewhere, as it may stand in TOML.

use std::fmt::Write as _;

use strongroom_core::escape::escape_controls;

/// A string of TOML that reads back as the text. What a terminal would obey or hide is written as an escape, so that what a person sees is
/// what is there.
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
            // Writing to a string does not fail.
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

/// A key of TOML: bare where that is possible.
pub(crate) fn key(text: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { string(text) }
}

/// Text for the inside of a comment: one line, nothing that a terminal would obey, of bearable length.
pub(crate) fn comment(text: &str) -> String {
    const LONGEST: usize = 100;
    let shown = escape_controls(text);
    match shown.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

/// A list of strings.
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
        fn strings_and_keys_read_back(text in any::<String>()) {
            let document = format!("{} = {}", key(&text), string(&text));
            prop_assert!(document.lines().count() <= 1 && escape_controls(&document) == document, "{document:?}");
            let table: toml::Table = toml::from_str(&document).unwrap();
            prop_assert_eq!(table.get(&text).and_then(toml::Value::as_str), Some(text.as_str()));
        }

        #[test]
        fn a_comment_stays_a_comment(text in any::<String>()) {
            let table: toml::Table = toml::from_str(&format!("# {}\na = 1", comment(&text))).unwrap();
            prop_assert_eq!(table.len(), 1);
        }
    }
}
