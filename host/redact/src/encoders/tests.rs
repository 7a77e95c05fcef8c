//! The output of each encoder.

use super::*;
use ::bytes as bytes_crate;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

fn has(value: &str, needle: &str) -> bool {
    needles(value).iter().any(|made| made == needle.as_bytes())
}

#[test]
fn password_is_encoded_in_every_form() {
    let value = "p\"ä s/1~*\n2";
    for needle in [
        value,
        "p\\\"ä s/1~*\\n2",
        "p\\\"\\u00e4 s/1~*\\n2",
        "p\\\"\\u00E4 s/1~*\\n2",
        "7022c3a420732f317e2a0a32",
        "7022C3A420732F317E2A0A32",
        "p%22%C3%A4%20s%2F1~%2A%0A2",
        "p%22%c3%a4%20s%2f1~%2a%0a2",
        "%70%22%C3%A4%20%73%2F%31%7E%2A%0A%32",
        "%70%22%c3%a4%20%73%2f%31%7e%2a%0a%32",
        "p%22%C3%A4+s%2F1%7E*%0A2",
        "p%22%c3%a4+s%2f1%7e*%0a2",
        "p%22%C3%A4+s%2F1~%2A%0A2",
        "p%22%c3%a4+s%2f1~%2a%0a2",
        "p\"ä s/1~*",
    ] {
        assert!(has(value, needle), "{needle}");
    }
    assert!(has("𝄞🎼", "\\ud834\\udd1e\\ud83c\\udfbc"));
}

#[test]
fn short_values_and_lines_have_no_needles() {
    for bare in ["", "a", "abc", "ä1", "    ", "\n\n\n\n\n", "\u{a0}\u{2003}  "] {
        assert!(needles(bare).is_empty(), "{bare:?}");
    }
    assert!(has("abcd", "abcd"));
    assert!(has("abc\n", "abc\n") && !has("abc\n", "abc"));
    assert!(has("hunter2\n", "hunter2") && has("hunter2\n", "68756e74657232"));
    let lines = "short\r\n  six666  \n--------\r}\nlonger line\n";
    assert!(has(lines, "six666") && has(lines, "longer line"));
    assert!(!has(lines, "short") && !has(lines, "--------") && !has(lines, "}"));
}

#[test]
fn base64_needle_omits_only_shared_digits() {
    assert!(has("abcd", "YWJjZA==") && has("abcd", "YWJjZA") && has("abcd", "YWJjZ"));
    // x + abcd = eGFiY2Q=, xy + abcd = eHlhYmNk
    assert!(has("abcd", "FiY2") && has("abcd", "FiY2Q=") && has("abcd", "hYmNk"));
}

/// Encoders that could not be run, from their documentation and source.
#[test]
fn value_is_encoded_as_in_other_languages() {
    let value = "a/<b>&\"'=+`é\\\u{1}z";
    for needle in [
        // Go: encoding/json, %q, %+q, html.EscapeString and xml.EscapeText, url.UserPassword.
        "a/\\u003cb\\u003e\\u0026\\\"'=+`é\\\\\\u0001z",
        "a/<b>&\\\"'=+`é\\\\\\x01z",
        "a/<b>&\\\"'=+`\\u00e9\\\\\\x01z",
        "a/&lt;b&gt;&amp;&#34;&#39;=+`é\\\u{1}z",
        "a%2F%3Cb%3E&%22%27=+%60%C3%A9%5C%01z",
        // PHP: json_encode, with JSON_UNESCAPED_UNICODE, with JSON_HEX_*; htmlspecialchars.
        "a\\/<b>&\\\"'=+`\\u00e9\\\\\\u0001z",
        "a\\/<b>&\\\"'=+`é\\\\\\u0001z",
        "a\\/\\u003Cb\\u003E\\u0026\\u0022\\u0027=+`\\u00e9\\\\\\u0001z",
        "a/&lt;b&gt;&amp;&quot;&#039;=+`é\\\u{1}z",
        // Gson; System.Text.Json; Jinja's tojson; Django's json_script.
        "a/\\u003cb\\u003e\\u0026\\\"\\u0027\\u003d+`é\\\\\\u0001z",
        "a/\\u003Cb\\u003E\\u0026\\u0022\\u0027=\\u002B\\u0060\\u00E9\\\\\\u0001z",
        "a/\\u003cb\\u003e\\u0026\\\"\\u0027=+`\\u00e9\\\\\\u0001z",
        "a/\\u003Cb\\u003E\\u0026\\\"'=+`\\u00e9\\\\\\u0001z",
        // Mustache and the OWASP rule; all five characters by number.
        "a&#x2F;&lt;b&gt;&amp;&quot;&#39;&#x3D;+&#x60;é\\\u{1}z",
        "a&#x2F;&lt;b&gt;&amp;&quot;&#x27;=+`é\\\u{1}z",
        "a/&#60;b&#62;&#38;&#34;&#39;=+`é\\\u{1}z",
        "a/&#x3c;b&#x3e;&#x26;&#x22;&#x27;=+`é\\\u{1}z",
        "a/&#x3C;b&#x3E;&#x26;&#x22;&#x27;=+`é\\\u{1}z",
        // libxml, to ASCII.
        "a/&lt;b&gt;&amp;\"'=+`&#xE9;\\\u{1}z",
        // Ruby's Shellwords; git's file names; SQL; CSV.
        "a/\\<b\\>\\&\\\"\\'\\=+\\`\\é\\\\\\\u{1}z",
        "a/<b>&\\\"'=+`\\303\\251\\\\\\001z",
        "a/<b>&\"''=+`é\\\u{1}z",
        "a/<b>&\"\"'=+`é\\\u{1}z",
    ] {
        assert!(has(value, needle), "{needle}");
    }
    assert!(has("ab-é", "\\u0061\\u0062\\u002d\\u00e9") && has("ab-é", "\\u0061\\u0062\\u002D\\u00E9"));
    assert!(has("p$a`b\"c!", "p\\$a\\`b\\\"c!") && has("p$a`b\"c!", "p\\$a\\`b\\\"c\\!"));
    assert!(has("a\nb\u{8}c", "a\\nb\\bc") && has("abc\u{7}\u{b}", "abc\\a\\v"));
}

#[test]
fn line_is_also_encoded_as_json() {
    let value = "first\n  say \"hello\"\nlast";
    assert!(has(value, "say \"hello\"") && has(value, "say \\\"hello\\\""));
}

proptest! {
    #[test]
    fn base64_needle_is_found_inside_other_base64(
        before in prop::collection::vec(any::<u8>(), 0..5), value in "\\PC{4,20}", after in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode([&before, value.as_bytes(), &after].concat());
            let longest = needles(&value).into_iter().filter(|needle| std::str::from_utf8(needle).is_ok_and(|needle| text.contains(needle)))
                .map(|needle| needle.len()).max().unwrap_or(0);
            // At most one digit at each end is shared, with at most four bits of the value.
            prop_assert!(longest * 6 + 2 * 4 >= value.len() * 8, "{longest} digits of {text}");
        }
    }

    #[test]
    fn json_form_matches_serde_json(value in any::<String>()) {
        let quoted = serde_json::to_string(&value).unwrap();
        let mut out = Vec::new();
        JSON.write(&value, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), &quoted[1..quoted.len() - 1]);
        for style in [&JSON_ASCII, &JSON_ASCII_UPPER] {
            let mut out = Vec::new();
            style.write(&value, &mut out);
            prop_assert!(out.is_ascii());
            let read: String = serde_json::from_str(&format!("\"{}\"", String::from_utf8(out).unwrap())).unwrap();
            prop_assert_eq!(&read, &value);
        }
    }

    #[test]
    fn rust_forms_match_the_standard_library(value in any::<String>()) {
        let written = |write: fn(&str, &mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&value, &mut out);
            String::from_utf8(out).unwrap()
        };
        let debug = format!("{value:?}");
        prop_assert_eq!(written(rust), &debug[1..debug.len() - 1]);
        prop_assert_eq!(written(rust_escape_debug), value.escape_debug().to_string());
        prop_assert_eq!(written(rust_escape_default), value.escape_default().to_string());
        prop_assert_eq!(written(|text, out| RUST_BYTES.write(text, out)), value.as_bytes().escape_ascii().to_string());
        let bytes = format!("{:?}", bytes_crate::Bytes::copy_from_slice(value.as_bytes()));
        prop_assert_eq!(written(|text, out| BYTES_CRATE.write(text, out)), &bytes[2..bytes.len() - 1]);
    }

    #[test]
    fn encoding_never_exceeds_its_buffer(value in any::<String>()) {
        let capacity = value.len() * GROWTH + SLACK;
        let mut buffer = Zeroizing::new(Vec::with_capacity(capacity));
        let (start, mut longest) = (buffer.as_ptr(), 0);
        for_each_encoding(&value, &mut buffer, |encoding| longest = longest.max(encoding.len()));
        prop_assert!(longest <= capacity);
        prop_assert_eq!(buffer.as_ptr(), start);
    }
}
