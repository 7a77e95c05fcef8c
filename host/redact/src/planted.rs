//! Finds encodings that were written by other programs and libraries.

use std::iter;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;

use super::encoders::needles;
use super::tests::{case, name, redactor, secret, streamed};
use super::*;

// Verbatim output of Python 3, Node, bash, jq, openssl and coreutils for these values.

const CONTROLS: &str = "pä /<&>\"'\\`$+=?@:;%~*!(#){|}[€𝄞]^,\n\t\r\x1b\x7fz";

#[rustfmt::skip]
const CONTROLS_WRITTEN: &[(&str, &str)] = &[
    ("json.dumps", "p\\u00e4 /<&>\\\"'\\\\`$+=?@:;%~*!(#){|}[\\u20ac\\ud834\\udd1e]^,\\n\\t\\r\\u001b\\u007fz"),
    ("json.dumps, ensure_ascii=False", "pä /<&>\\\"'\\\\`$+=?@:;%~*!(#){|}[€𝄞]^,\\n\\t\\r\\u001b\x7fz"),
    ("JSON.stringify", "pä /<&>\\\"'\\\\`$+=?@:;%~*!(#){|}[€𝄞]^,\\n\\t\\r\\u001b\x7fz"),
    ("jq tojson", "pä /<&>\\\"'\\\\`$+=?@:;%~*!(#){|}[€𝄞]^,\\n\\t\\r\\u001b\\u007fz"),
    ("repr", "pä /<&>\"\\'\\\\`$+=?@:;%~*!(#){|}[€𝄞]^,\\n\\t\\r\\x1b\\x7fz"),
    ("ascii", "p\\xe4 /<&>\"\\'\\\\`$+=?@:;%~*!(#){|}[\\u20ac\\U0001d11e]^,\\n\\t\\r\\x1b\\x7fz"),
    ("repr of bytes", "p\\xc3\\xa4 /<&>\"\\'\\\\`$+=?@:;%~*!(#){|}[\\xe2\\x82\\xac\\xf0\\x9d\\x84\\x9e]^,\\n\\t\\r\\x1b\\x7fz"),
    ("list of bytes", "112, 195, 164, 32, 47, 60, 38, 62, 34, 39, 92, 96, 36, 43, 61, 63, 64, 58, 59, 37, 126, 42, 33, 40, 35, 41, 123, 124, 125, 91, 226, 130, 172, 240, 157, 132, 158, 93, 94, 44, 10, 9, 13, 27, 127, 122"),
    ("JSON of an Uint8Array", "112,195,164,32,47,60,38,62,34,39,92,96,36,43,61,63,64,58,59,37,126,42,33,40,35,41,123,124,125,91,226,130,172,240,157,132,158,93,94,44,10,9,13,27,127,122"),
    ("util.inspect", "pä /<&>\"\\'\\\\`$+=?@:;%~*!(#){|}[€𝄞]^,\\n\\t\\r\\x1B\\x7Fz"),
    ("html.escape", "pä /&lt;&amp;&gt;&quot;&#x27;\\`$+=?@:;%~*!(#){|}[€𝄞]^,\n\t\r\x1b\x7fz"),
    ("saxutils.escape", "pä /&lt;&amp;&gt;\"'\\`$+=?@:;%~*!(#){|}[€𝄞]^,\n\t\r\x1b\x7fz"),
    ("saxutils.quoteattr", "pä /&lt;&amp;&gt;&quot;'\\`$+=?@:;%~*!(#){|}[€𝄞]^,&#10;&#9;&#13;\x1b\x7fz"),
    ("xmlcharrefreplace", "p&#228; /&lt;&amp;&gt;\"'\\`$+=?@:;%~*!(#){|}[&#8364;&#119070;]^,\n\t\r\x1b\x7fz"),
    ("ElementTree text", "p&#228; /&lt;&amp;&gt;\"'\\`$+=?@:;%~*!(#){|}[&#8364;&#119070;]^,\n\t\r\x1b\x7fz"),
    ("shlex.quote", "pä /<&>\"'\"'\"'\\`$+=?@:;%~*!(#){|}[€𝄞]^,\n\t\r\x1b\x7fz"),
    ("bash printf %q", "pä /<&>\"\\'\\\\`$+=?@:;%~*!(#){|}[€𝄞]^,\\n\\t\\r\\E\\177z"),
    ("bash printf %q, C locale", "p\\303\\244 /<&>\"\\'\\\\`$+=?@:;%~*!(#){|}[\\342\\202\\254\\360\\235\\204\\236]^,\\n\\t\\r\\E\\177z"),
    ("quote", "p%C3%A4%20/%3C%26%3E%22%27%5C%60%24%2B%3D%3F%40%3A%3B%25~%2A%21%28%23%29%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E%2C%0A%09%0D%1B%7Fz"),
    ("quote, nothing safe", "p%C3%A4%20%2F%3C%26%3E%22%27%5C%60%24%2B%3D%3F%40%3A%3B%25~%2A%21%28%23%29%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E%2C%0A%09%0D%1B%7Fz"),
    ("quote_plus", "p%C3%A4+%2F%3C%26%3E%22%27%5C%60%24%2B%3D%3F%40%3A%3B%25~%2A%21%28%23%29%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E%2C%0A%09%0D%1B%7Fz"),
    ("encodeURIComponent", "p%C3%A4%20%2F%3C%26%3E%22'%5C%60%24%2B%3D%3F%40%3A%3B%25~*!(%23)%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E%2C%0A%09%0D%1B%7Fz"),
    ("encodeURI", "p%C3%A4%20/%3C&%3E%22'%5C%60$+=?@:;%25~*!(#)%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E,%0A%09%0D%1B%7Fz"),
    ("URLSearchParams", "p%C3%A4+%2F%3C%26%3E%22%27%5C%60%24%2B%3D%3F%40%3A%3B%25%7E*%21%28%23%29%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E%2C%0A%09%0D%1B%7Fz"),
    ("jq @uri", "p%C3%A4%20%2F%3C%26%3E%22'%5C%60%24%2B%3D%3F%40%3A%3B%25~*!(%23)%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E%2C%0A%09%0D%1B%7Fz"),
    ("urlsafe_b64encode", "cMOkIC88Jj4iJ1xgJCs9P0A6OyV-KiEoIyl7fH1b4oKs8J2Enl1eLAoJDRt_eg=="),
    ("Buffer base64url", "cMOkIC88Jj4iJ1xgJCs9P0A6OyV-KiEoIyl7fH1b4oKs8J2Enl1eLAoJDRt_eg"),
    ("hexlify", "70c3a4202f3c263e22275c60242b3d3f403a3b257e2a212823297b7c7d5be282acf09d849e5d5e2c0a090d1b7f7a"),
    ("b16encode", "70C3A4202F3C263E22275C60242B3D3F403A3B257E2A212823297B7C7D5BE282ACF09D849E5D5E2C0A090D1B7F7A"),
];

const NUMBERS: &str = "Tr0ub4dor&3 pä\n";

// As Go, Node, Python, C and jq write it, without delimiters.
#[rustfmt::skip]
const NUMBERS_WRITTEN: &[(&str, &str)] = &[
    ("Go %v", "84 114 48 117 98 52 100 111 114 38 51 32 112 195 164 10"),
    ("Go %#v", "0x54, 0x72, 0x30, 0x75, 0x62, 0x34, 0x64, 0x6f, 0x72, 0x26, 0x33, 0x20, 0x70, 0xc3, 0xa4, 0xa"),
    ("Go % x", "54 72 30 75 62 34 64 6f 72 26 33 20 70 c3 a4 0a"),
    ("Node Buffer", "54 72 30 75 62 34 64 6f 72 26 33 20 70 c3 a4 0a"),
    ("bytes.hex(':')", "54:72:30:75:62:34:64:6f:72:26:33:20:70:c3:a4:0a"),
    ("upper case", "54 72 30 75 62 34 64 6F 72 26 33 20 70 C3 A4 0A"),
    ("C array", "0x54, 0x72, 0x30, 0x75, 0x62, 0x34, 0x64, 0x6f, 0x72, 0x26, 0x33, 0x20, 0x70, 0xc3, 0xa4, 0x0a"),
    ("every byte as an escape", "\\x54\\x72\\x30\\x75\\x62\\x34\\x64\\x6f\\x72\\x26\\x33\\x20\\x70\\xc3\\xa4\\x0a"),
    ("one number per line", "84\n114\n48\n117\n98\n52\n100\n111\n114\n38\n51\n32\n112\n195\n164\n10"),
    ("json.dumps, indent=2", "84,\n  114,\n  48,\n  117,\n  98,\n  52,\n  100,\n  111,\n  114,\n  38,\n  51,\n  32,\n  112,\n  195,\n  164,\n  10"),
    ("decimal entities", "&#84;&#114;&#48;&#117;&#98;&#52;&#100;&#111;&#114;&#38;&#51;&#32;&#112;&#228;&#10;"),
    ("hexadecimal entities", "&#x54;&#x72;&#x30;&#x75;&#x62;&#x34;&#x64;&#x6f;&#x72;&#x26;&#x33;&#x20;&#x70;&#xe4;&#xa;"),
];

const PRINTED: &str = "pä /<&>\"'\\`$+=?@:;%~*!(#){|}[€𝄞]^,z";

#[rustfmt::skip]
const PRINTED_WRITTEN: &[(&str, &str)] = &[
    ("bash printf %q", "pä\\ /\\<\\&\\>\\\"\\'\\\\\\`\\$+=\\?@:\\;%~\\*\\!\\(#\\)\\{\\|\\}\\[€𝄞\\]\\^\\,z"),
    ("bash @Q", "pä /<&>\"'\\''\\`$+=?@:;%~*!(#){|}[€𝄞]^,z"),
    ("jq @sh", "pä /<&>\"'\\''\\`$+=?@:;%~*!(#){|}[€𝄞]^,z"),
    ("jq @html", "pä /&lt;&amp;&gt;&quot;&apos;\\`$+=?@:;%~*!(#){|}[€𝄞]^,z"),
    ("jq @csv", "pä /<&>\"\"'\\`$+=?@:;%~*!(#){|}[€𝄞]^,z"),
    ("password of a URL", "p%C3%A4%20%2F%3C&%3E%22'%5C%60$+%3D%3F%40%3A%3B%~*!(%23)%7B%7C%7D%5B%E2%82%AC%F0%9D%84%9E%5D%5E,z"),
    ("query of a URL", "p%C3%A4%20/%3C&%3E%22%27\\`$+=?@:;%~*!(%23){|}[%E2%82%AC%F0%9D%84%9E]^,z"),
    ("query of another URL", "p%C3%A4%20/%3C&%3E%22'\\`$+=?@:;%~*!(%23){|}[%E2%82%AC%F0%9D%84%9E]^,z"),
    ("path of another URL", "p%C3%A4%20/%3C&%3E%22'\\%60$+=%3F@:;%~*!(%23)%7B|%7D[%E2%82%AC%F0%9D%84%9E]^,z"),
    ("ElementTree attribute", "p&#228; /&lt;&amp;&gt;&quot;'\\`$+=?@:;%~*!(#){|}[&#8364;&#119070;]^,z"),
];

const APOSTROPHE: &str = "it's p/ä \\ x";

#[rustfmt::skip]
const APOSTROPHE_WRITTEN: &[(&str, &str)] = &[
    ("repr", "it's p/ä \\\\ x"),
    ("ascii", "it's p/\\xe4 \\\\ x"),
    ("repr of bytes", "it's p/\\xc3\\xa4 \\\\ x"),
    ("util.inspect", "it's p/ä \\\\ x"),
    ("jq @sh", "it'\\''s p/ä \\ x"),
];

const LONG: &str =
    "long long long long long long long long long long long long long long long long long long long long é>>>???";

#[rustfmt::skip]
const LONG_WRITTEN: &[(&str, &str)] = &[
    ("encodebytes", "bG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxv\nbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIMOpPj4+Pz8/"),
    ("openssl base64", "bG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9u\nZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBs\nb25nIMOpPj4+Pz8/"),
    ("openssl base64 -A", "bG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIMOpPj4+Pz8/"),
    ("b64encode", "bG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIMOpPj4+Pz8/"),
    ("coreutils base64", "bG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxv\nbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIGxvbmcgbG9uZyBsb25nIMOpPj4+Pz8/"),
];

#[test]
fn output_of_other_programs_is_redacted_at_every_split() {
    let values = [
        (CONTROLS, CONTROLS_WRITTEN),
        (NUMBERS, NUMBERS_WRITTEN),
        (PRINTED, PRINTED_WRITTEN),
        (APOSTROPHE, APOSTROPHE_WRITTEN),
        (LONG, LONG_WRITTEN),
    ];
    for (value, written) in values {
        for (program, text) in written {
            println!("{program}");
            case(&[("x", value)], format!("== {text} ==").as_bytes(), b"== [redacted:x] ==");
        }
    }
}

#[test]
fn utf16_is_redacted_at_every_split() {
    for value in [NUMBERS, "€𝄞\u{20ac}"] {
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let text: Vec<u8> = value.encode_utf16().flat_map(bytes).collect();
            case(&[("x", value)], &[b"<", text.as_slice(), b">"].concat(), b"<[redacted:x]>");
        }
    }
}

#[test]
fn base64_in_lines_of_a_value_and_more_is_redacted() {
    let lines = |text: &str, width: usize, ending: &str| {
        let encoded = STANDARD.encode(text);
        let lines = encoded.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap());
        lines.collect::<Vec<_>>().join(ending)
    };
    for (width, ending) in [(64, "\n"), (64, "\r\n"), (76, "\n"), (76, "\r\n")] {
        for after in ["", "\n", "\r\n", " and more"] {
            let out = redactor(&[("x", LONG)]).redact(&lines(&format!("{LONG}{after}"), width, ending));
            assert!(
                out.starts_with("[redacted:x]") && out.len() <= "[redacted:x]".len() + 4 + 2 * after.len(),
                "{out}"
            );
        }
    }
}

#[test]
fn output_of_rust_is_redacted_at_every_split() {
    let json = |text: &str| serde_json::to_string(text).unwrap();
    for value in [CONTROLS, PRINTED, APOSTROPHE, LONG, "n\0ul\u{1}\0\0", "e\u{301}\u{301} joined", "\u{301}joins first"]
    {
        let bytes = value.as_bytes();
        let mut written = vec![
            format!("{value:?}"),
            value.escape_debug().to_string(),
            value.escape_default().to_string(),
            format!("{bytes:?}"),
            format!("{bytes:x?}"),
            format!("{bytes:02x?}"),
            format!("{bytes:02X?}"),
            format!("{bytes:#?}").trim_matches(['[', ',', '\n', ']', ' ']).to_owned(),
            bytes.escape_ascii().to_string(),
            format!("{:?}", bytes::Bytes::copy_from_slice(bytes)),
            json(value),
            serde_json::to_string(bytes).unwrap(),
        ];
        // Without the delimiters.
        for text in &mut written {
            let inner = text.strip_prefix('b').filter(|rest| rest.starts_with('"')).unwrap_or(text);
            *text = inner.trim_start_matches(['"', '[']).trim_end_matches(['"', ']']).to_owned();
        }
        let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
        written.extend(engines.iter().map(|engine| engine.encode(value)));
        for text in written {
            case(&[("x", value)], format!("-{text}-").as_bytes(), b"-[redacted:x]-");
        }
    }
}

const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/+8Zb3kVn1pLx0aQ
c3J5cHRvLWtleS1vZi1ub2JvZHk/hRANCAAR+0pz/3mZq5o1C9VbX2Yk7Wd4LhJ6
sGf8TtEuNiMo2PqRsUvWxYz+AbCdEfGh
-----END PRIVATE KEY-----
";

#[test]
fn key_with_any_line_ending_is_redacted() {
    let json = serde_json::to_string(KEY).unwrap();
    let whole = [KEY.to_owned(), json.clone(), format!("{KEY:?}"), KEY.replace('\n', "\\n"), STANDARD.encode(KEY)];
    for key in [KEY.to_owned(), KEY.replace('\n', "\r\n"), KEY.trim().to_owned()] {
        for text in &whole[..4] {
            case_leaves(&key, text, "\\rn\r\n\"");
        }
        for ending in [
            "\r\n", "\r", "\n    ", "\n\t", "\r\n  > ", "\\r\\n", "\\\\n", " ", "", ",", "&#10;", "&#xD;\n", "%0A",
            "<br>",
        ] {
            case_leaves(&key, &KEY.replace('\n', ending), &format!("{ending}\""));
        }
    }
    for text in whole {
        let out = redactor(&[("k", KEY)]).redact(&text);
        assert_eq!(out.trim_matches('"'), "[redacted:k]");
    }
}

/// Checks that redaction leaves only markers and the given characters.
fn case_leaves(value: &str, text: &str, left: &str) {
    let redactor = redactor(&[("k", value)]);
    let expected = redactor.redact(text);
    let rest = expected.replace("[redacted:k]", "");
    assert!(rest.len() < expected.len() && rest.chars().all(|c| left.contains(c)), "{text} became {expected}");
    for cut in 0..=text.len() {
        assert_eq!(streamed(&redactor, [&text.as_bytes()[..cut], &text.as_bytes()[cut..]]), expected.as_bytes());
    }
}

#[test]
fn long_value_is_redacted_in_every_form() {
    // A key of 25 KB, and a text that every encoder changes from some position on.
    let base64 = STANDARD.encode((0..18_800_u32).map(|at| (at * at / 7 + at) as u8).collect::<Vec<_>>());
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", lines.join("\n"));
    let odd = format!("a few words and {CONTROLS}");
    let odd = odd.repeat(25 * 1024 / odd.len());
    assert!(key.len() > 25_000 && odd.len() > 25_000);
    for value in [key, odd] {
        let redactor = redactor(&[("x", &value)]);
        for needle in needles(&value).iter().filter(|needle| needle.len() >= value.len()) {
            let text = [b"<", needle.as_slice(), b">"].concat();
            for size in [997, usize::MAX] {
                let out = streamed(&redactor, text.chunks(size));
                assert_eq!(
                    String::from_utf8_lossy(&out),
                    "<[redacted:x]>",
                    "{}",
                    String::from_utf8_lossy(&needle[..80])
                );
            }
        }
    }
}

#[test]
fn hundreds_of_values_are_redacted_in_every_form() {
    let value = |at: usize| format!("{at:03}-{:x}/+'\"<&\\ä:{at}", at * 7_368_787);
    let redactor = Redactor::new();
    (0..400).for_each(|at| redactor.register(&name(&format!("n{at}")), &secret(&value(at))));
    for at in 0..400 {
        let needles = needles(&value(at));
        let text: Vec<u8> = needles.iter().flat_map(|needle| [needle.as_slice(), b"\n"].concat()).collect();
        let expected = format!("[redacted:n{at}]\n").repeat(needles.len());
        assert_eq!(String::from_utf8(streamed(&redactor, text.chunks(1 + at))).unwrap(), expected);
    }
}

/// Replaces characters one after the other, in the order of `pairs`.
fn replaced(text: &str, pairs: &[(char, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (c, name)| text.replace(*c, name))
}

/// Percent-encodes all characters but `kept`, independently of the encoders.
fn percent(text: &str, kept: &str) -> String {
    let write = |byte: u8| match char::from(byte) {
        c if c.is_ascii_alphanumeric() || kept.contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(write).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Encodings by code that is independent of the encoders.
    #[test]
    fn independent_encodings_are_redacted(
        value in "[A-Za-z0-9/+ä€\"\\\\'<>&$`!:@;=?% \n\0\u{7f}\u{301}-]{8,40}".prop_filter("white space", |value| !value.trim().is_empty()),
        before in "[ -~]{0,7}", after in "[ -~]{0,7}", cuts in vec(1..40_usize, 1..6),
    ) {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let inside = |text: String| text[1..text.len() - 1].to_owned();
        let json = inside(serde_json::to_string(&value).unwrap());
        let markup = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")];
        let xml = replaced(&value, &markup);
        let forms = [
            value.clone(),
            hex(&value),
            hex(&value).to_uppercase(),
            value.bytes().map(|byte| format!("%{byte:02X}")).collect(),
            percent(&value, "-._~!$&'()*+,;="),
            percent(&value, "-._~!$&'()*+,;=:"),
            percent(&value, "-._~$&+,;="),
            percent(&value, "-_.!~*'()"),
            json.clone(),
            json.replace('/', "\\/"),
            replaced(&json, &[('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")]),
            replaced(&json, &[('<', "\\u003C"), ('>', "\\u003E"), ('&', "\\u0026"), ('\'', "\\u0027")]),
            inside(format!("{value:?}")),
            value.escape_debug().to_string(),
            value.escape_default().to_string(),
            inside(format!("{:?}", value.as_bytes())),
            value.as_bytes().escape_ascii().to_string(),
            replaced(&xml, &[('"', "&quot;")]),
            replaced(&xml, &[('"', "&quot;"), ('\'', "&apos;")]),
            replaced(&xml, &[('"', "&#34;"), ('\'', "&#39;")]),
            replaced(&xml, &[('"', "&quot;"), ('\'', "&#x27;")]),
            xml,
            value.replace('\'', "'\\''"),
            value.replace('\'', "'\"'\"'"),
            replaced(&value, &[('\\', "\\\\"), ('"', "\\\""), ('$', "\\$"), ('`', "\\`")]),
            value.replace('\'', "''"),
            STANDARD.encode(&value),
            STANDARD_NO_PAD.encode(&value),
            URL_SAFE.encode(&value),
            URL_SAFE_NO_PAD.encode(&value),
        ];
        let redactor = redactor(&[("key", &value)]);
        for form in &forms {
            let text = format!("{before}{form}{after}");
            let mut sizes = cuts.iter().copied().cycle();
            let mut rest = text.as_bytes();
            let chunks = iter::from_fn(|| {
                let (chunk, later) = rest.split_at(sizes.next()?.min(rest.len()));
                rest = later;
                Some(chunk).filter(|chunk| !chunk.is_empty())
            });
            let out = String::from_utf8(streamed(&redactor, chunks)).unwrap();
            // One marker covers the whole form; adjacent text may be covered too if the value
            // overlaps itself.
            prop_assert!(out.contains("[redacted:key]") && out.len() <= before.len() + "[redacted:key]".len() + after.len(),
                "{text:?} became {out:?}");
        }
    }

    /// No part of the value is left, not even the digit that it shares with the colon.
    #[test]
    fn basic_credentials_of_any_user_are_redacted(user in "\\PC{0,9}", value in "\\PC{4,20}", ending in "(\r?\n)?") {
        prop_assume!(value.len() >= MIN_VALUE && !value.trim().is_empty());
        let redactor = redactor(&[("x", &value)]);
        let text = format!("{user}:{value}{ending}");
        let before = (user.len() + 1) * 8 / 6;
        let after = if ending.is_empty() { 0 } else { (ending.len() * 8 + 7) / 6 + 3 };
        for engine in [&STANDARD, &STANDARD_NO_PAD] {
            let out = redactor.redact(&engine.encode(&text));
            let at = out.find("[redacted:x]").expect("covered");
            let left = out.len() - at - "[redacted:x]".len();
            prop_assert!(at <= before && left <= after, "{text:?} became {out}");
        }
    }
}
