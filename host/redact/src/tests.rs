//! Cases in which redactors are often wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::encoders::{GROWTH, needles};
use super::*;

pub(super) fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

pub(super) fn secret(value: &str) -> Secret {
    Secret::new(value.to_owned()).unwrap()
}

pub(super) fn redactor(values: &[(&str, &str)]) -> Redactor {
    let redactor = Redactor::new();
    values.iter().for_each(|(of, value)| redactor.register(&name(of), &secret(value)));
    redactor
}

pub(super) fn streamed<'a>(redactor: &Redactor, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    chunks.into_iter().for_each(|chunk| stream.push(chunk, &mut out));
    stream.finish(&mut out);
    out
}

/// Redacts a text, split into two chunks at every offset and byte by byte, and compares the result.
pub(super) fn case(values: &[(&str, &str)], text: &[u8], expected: &[u8]) {
    let redactor = redactor(values);
    for cut in 0..=text.len() {
        let out = streamed(&redactor, [&text[..cut], &text[cut..]]);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected), "cut at {cut}");
    }
    assert_eq!(streamed(&redactor, text.chunks(1)), expected);
}

#[test]
fn failed_match_restarts_at_every_split() {
    case(&[("x", "aaab")], b"aaaab aaaaab aaa", b"a[redacted:x] aa[redacted:x] aaa");
    case(&[("x", "hunterhunter2")], b"x-hunterhunterhunter2! hunterhunt", b"x-hunter[redacted:x]! hunterhunt");
    // Split so that a search per chunk would miss the value, even if it kept the partial match of
    // the last chunk.
    let redactor = redactor(&[("x", "hunterhunter2"), ("y", "aab-")]);
    let halves = |one: &str, other: &str| streamed(&redactor, [one.as_bytes(), other.as_bytes()]);
    assert_eq!(halves("x-hunterhunt", "erhunter2!"), b"x-hunter[redacted:x]!");
    assert_eq!(halves("aa", "ab-"), b"a[redacted:y]");
    let long = "abcabcabcabcabcabcabcabcabcabcabd";
    case(&[("x", long)], format!("abc{long}abcabcabc").as_bytes(), b"abc[redacted:x]abcabcabc");
}

#[test]
fn overlapping_values_are_redacted_as_their_union() {
    let values = [
        ("short", "pass"),
        ("middle", "password"),
        ("long", "password-1234"),
        ("tail", "1234-5678"),
        ("part", "sword"),
    ];
    case(
        &values,
        b"pass, password, password-123, password-1234-5678.",
        b"[redacted:short], [redacted:middle], [redacted:middle]-123, [redacted:long].",
    );
    case(&values, b"swords passsword", b"[redacted:part]s [redacted:short]");
    case(&values, b"sword1234-5678", b"[redacted:part]");
}

#[test]
fn adjoining_matches_become_one_marker() {
    case(&[("x", "abab")], &b"ab".repeat(40), b"[redacted:x]");
    case(&[("x", "1234"), ("y", "abcd")], b"abcd1234abcd-1234abcd", b"[redacted:y]-[redacted:x]");
}

#[test]
fn long_covered_range_is_not_held_back() {
    let redactor = redactor(&[("x", "abab")]);
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    for _ in 0..100_000 {
        stream.push(b"ab", &mut out);
        assert!(stream.held() < 8);
    }
    stream.finish(&mut out);
    assert_eq!(out, b"[redacted:x]");
    assert_eq!(redactor.count(), 1);
}

#[test]
fn only_undecided_bytes_are_held_back() {
    let redactor = redactor(&[("x", "hunter2"), ("y", &"k".repeat(100))]);
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"password: ", &mut out);
    assert_eq!(out, b"password: ");
    stream.push(b"it is hunter2", &mut out);
    assert_eq!(out, b"password: it is [redacted:x]");
    stream.push(b" or hun", &mut out);
    assert_eq!(out, b"password: it is [redacted:x] or ");
    stream.push(b"gary", &mut out);
    assert_eq!(out, b"password: it is [redacted:x] or hungary");
}

#[test]
fn end_of_stream_releases_held_bytes_and_resets() {
    let redactor = redactor(&[("x", "hunter2")]);
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"hunter", &mut out);
    assert!(out.is_empty());
    stream.finish(&mut out);
    assert_eq!(out, b"hunter");
    stream.push(b"2hunter2", &mut out);
    stream.finish(&mut out);
    stream.push(b"hunter2", &mut out);
    stream.finish(&mut out);
    stream.finish(&mut out);
    assert_eq!(out, b"hunter2[redacted:x][redacted:x]");
}

#[test]
fn sanitize_prefix_is_a_prefix_of_the_sanitized_text() {
    let redactor = redactor(&[("key", "hunter2-hunter2"), ("other", "a-much-longer-value")]);
    let piece = "x hunter2-hunter2 \u{1b}[2J \u{e4}\u{1f600} a-much-longer-value hunter2-hunter";
    for text in ["", "short", piece, &piece.repeat(10), &piece.repeat(1_000), &"hunter2-hunter2".repeat(3_000)] {
        let whole = redactor.sanitize(text);
        for max in [0, 1, 7, 100, 4_096] {
            let start = redactor.sanitize_prefix(text, max);
            match start.strip_suffix('…') {
                Some(start) => {
                    assert!(whole.starts_with(start) && start.chars().count() == max, "{max}: {start}");
                    assert!(whole.chars().count() > max);
                }
                None => assert_eq!(start, whole),
            }
            assert!(!start.contains("hunter2-hunter2"));
        }
    }
}

#[test]
fn sanitize_prefix_of_a_long_covered_text_reads_only_its_start() {
    let redactor = redactor(&[("key", "hunter2-hunter2")]);
    let text = "hunter2-hunter2".repeat(1 << 20) + "the end";
    assert_eq!(redactor.sanitize_prefix(&text, 100), "[redacted:key]…");
}

#[test]
fn value_is_redacted_among_invalid_utf8_and_nul() {
    case(&[("x", "pässwörd")], "ä pässwörd ö".as_bytes(), "ä [redacted:x] ö".as_bytes());
    case(&[("x", "nul\0inside\u{1}")], b"\0nul\0inside\x01\0nul\0", b"\0[redacted:x]\0nul\0");
    case(
        &[("x", "hunter2")],
        b"\xff\xfehunter2\xc3\x00hunter2\xe2\x82",
        b"\xff\xfe[redacted:x]\xc3\x00[redacted:x]\xe2\x82",
    );
}

#[test]
fn key_lines_are_redacted_with_other_line_breaks() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\nawIBAQ==\n-----END PRIVATE KEY-----\n";
    case(&[("k", key)], key.as_bytes(), b"[redacted:k]");
    let crlf = key.replace('\n', "\r\n");
    let marked = b"[redacted:k]\r\n".repeat(5);
    case(&[("k", key)], crlf.as_bytes(), &marked);
    case(&[("k", &crlf)], key.as_bytes(), &b"[redacted:k]\n".repeat(5));
    case(
        &[("k", key)],
        key.replace('\n', "\n    ").as_bytes(),
        &[b"[redacted:k]".as_slice(), &b"\n    [redacted:k]".repeat(4), b"\n    "].concat(),
    );
    case(&[("k", key)], b"log: AgEGCCqGSM49AwEHBG0w.", b"log: [redacted:k].");
}

#[test]
fn short_values_are_not_redacted() {
    let redactor = redactor(&[("a", ""), ("b", "a"), ("c", "abc"), ("d", "     "), ("e", "\n\n\n\n\t")]);
    let text = "a abc      \n\n\n\n\t YWJj 616263";
    assert_eq!(redactor.redact(text), text);
    assert_eq!(redactor.count(), 0);
}

#[test]
fn value_inside_other_base64_is_redacted() {
    for (before, after) in [("", ""), ("user:", ""), ("u:", "\n"), ("a", "zz"), ("\u{0}\u{0}", "")] {
        let redactor = redactor(&[("x", "correct horse")]);
        let out = redactor.redact(&STANDARD.encode(format!("{before}correct horse{after}")));
        assert!(out.contains("[redacted:x]"), "{out}");
        // The rest decodes to the surrounding text, up to one byte at each side.
        assert!(out.len() <= "[redacted:x]".len() + before.len() * 2 + after.len() * 2 + 4, "{out}");
    }
}

#[test]
fn basic_authorization_header_is_redacted() {
    let text = format!("authorization: Basic {}\r\n", STANDARD.encode("svc-train:correct horse"));
    // The first of the colon's digits is its own; the second is shared with the value and is
    // redacted.
    case(&[("x", "correct horse")], text.as_bytes(), b"authorization: Basic c3ZjLXRyYWluO[redacted:x]\r\n");
}

#[test]
fn password_in_a_url_is_redacted() {
    let values = [("x", "p@ss:w/r d#1ä")];
    for written in
        ["p%40ss%3Aw%2Fr%20d%231%C3%A4", "p%40ss%3aw%2fr%20d%231%c3%a4", "p%40ss:w%2Fr%20d%231%C3%A4", "p@ss:w/r d#1ä"]
    {
        case(&values, format!("postgres://app:{written}@db/x").as_bytes(), b"postgres://app:[redacted:x]@db/x");
    }
    for written in ["p%40ss%3Aw%2Fr+d%231%C3%A4", "p%40ss%3aw%2fr+d%231%c3%a4"] {
        case(&values, format!("user=app&password={written}&x=1").as_bytes(), b"user=app&password=[redacted:x]&x=1");
    }
    case(&[("u", "postgres://app:hunter2@db/x")], b"<postgres://app:hunter2@db/x>", b"<[redacted:u]>");
}

#[test]
fn hexadecimal_is_redacted_in_both_cases() {
    let values = [("x", "\u{1}\u{7f}jkl-ÿ")];
    case(&values, b"0x017f6a6b6c2dc3bf 0x017F6A6B6C2DC3BF", b"0x[redacted:x] 0x[redacted:x]");
}

#[test]
fn name_with_two_values_marks_both() {
    let redactor = redactor(&[("x", "first-one"), ("x", "second-one"), ("y", "first-one"), ("x", "first-one")]);
    assert_eq!(redactor.redact("first-one second-one"), "[redacted:x] [redacted:x]");
    assert_eq!(
        format!("{redactor:?} {:?}", redactor.stream()),
        "Redactor { registered: 2, count: 2 } RedactStream(..)"
    );
}

#[test]
fn marker_never_contains_a_value() {
    let names = redactor(&[("password", "password")]);
    assert_eq!(names.redact("the password"), "the [redacted]");
    let words = redactor(&[("a", "redacted"), ("b", "other-value")]);
    assert_eq!(words.redact("redacted other-value"), "*** ***");
    let encoded = redactor(&[("676f6f7365", "goose")]);
    assert_eq!(encoded.redact("a goose"), "a [redacted]");
    let long = redactor(&[("a-name-longer-than-a-prefix", "a-name-longer-than-a-prefix")]);
    assert_eq!(long.redact("a-name-longer-than-a-prefix"), "[redacted]");
}

#[test]
fn marker_is_chosen_again_after_a_registration() {
    let redactor = redactor(&[("key", "hunter2")]);
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"hunter2 ", &mut out);
    redactor.register(&name("other"), &secret(":key]"));
    stream.push(b"hunter2 ", &mut out);
    assert_eq!(out, b"[redacted:key] [redacted] ");
}

#[test]
fn marker_of_equal_lines_names_the_first_registered_value() {
    let lines = ["shared line", "a shared line that is longer than several prefixes of it"];
    for line in lines {
        let redactor = Redactor::new();
        for (at, of) in ["zebra", "first", "second", "third"].into_iter().enumerate() {
            let line = if at == 0 { "unrelated" } else { line };
            redactor.register(&name(of), &secret(&format!("{of}-{of}\n{line}\n{}", "filler-line\n".repeat(at % 2))));
        }
        assert_eq!(redactor.redact(line), "[redacted:first]");
    }
}

#[test]
fn registered_value_is_redacted_in_held_bytes() {
    let redactor = redactor(&[("x", "abcdefgh")]);
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"cde -abcde", &mut out);
    assert_eq!(out, b"cde -");
    redactor.register(&name("y"), &secret("cde!"));
    stream.push(b"! and cde", &mut out);
    assert_eq!(out, b"cde -ab[redacted:y] and ");
    redactor.register(&name("z"), &secret("d cde"));
    redactor.register(&name("w"), &secret("cde\u{0}"));
    stream.push(b"\0", &mut out);
    stream.finish(&mut out);
    assert_eq!(out, b"cde -ab[redacted:y] and [redacted:w]");
}

#[test]
fn partly_released_range_continues_after_a_registration() {
    let redactor = redactor(&[("x", "aaaa")]);
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"aaaaaa", &mut out);
    assert_eq!(out, b"[redacted:x]");
    redactor.register(&name("y"), &secret("aab!"));
    stream.push(b"b!c", &mut out);
    stream.finish(&mut out);
    assert_eq!(out, b"[redacted:x]c");
}

#[test]
fn streams_and_clones_share_values_and_count() {
    let redactor = Redactor::new();
    let (mut one, mut two, clone) = (redactor.stream(), redactor.clone().stream(), redactor.clone());
    clone.register(&name("x"), &secret("hunter2"));
    let mut out = Vec::new();
    one.push(b"hun", &mut out);
    two.push(b"ter2", &mut out);
    one.push(b"ter2", &mut out);
    one.finish(&mut out);
    two.finish(&mut out);
    assert_eq!(out, b"ter2[redacted:x]");
    assert_eq!((redactor.redact("hunter2"), redactor.count(), clone.count()), ("[redacted:x]".to_owned(), 2, 2));
}

#[test]
fn many_long_values_that_arrive_one_by_one_are_redacted() {
    // Different from the first bytes on, with hundreds of lines each.
    let value = |at: usize| {
        (0..800).map(|line| format!("{at:04} {:024x}\n", (at * 1_000_003 + line) * 7_919)).collect::<String>()
    };
    let values: Vec<String> = (0..100).map(value).collect();
    assert!(values.iter().all(|value| value.len() > 23_000));
    let (redactor, mut out) = (Redactor::new(), Vec::new());
    let mut stream = redactor.stream();
    for value in &values {
        // With output in between.
        redactor.register(&name("x"), &secret(value));
        stream.push(b"-", &mut out);
        stream.push(value.as_bytes(), &mut out);
    }
    stream.finish(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "-[redacted:x]".repeat(100));
    for at in [0, 57, 99] {
        for needle in needles(&values[at]) {
            assert_eq!(redactor.redact_bytes(&needle), b"[redacted:x]");
        }
    }
}

#[test]
fn long_value_is_found_among_its_own_prefixes() {
    let value = "a".repeat(25_000) + "b";
    let redactor = redactor(&[("x", &value)]);
    let text = "a".repeat(24_999) + "c" + &value + &"a".repeat(60_000) + "b";
    let expected = "a".repeat(24_999) + "c[redacted:x]" + &"a".repeat(35_000) + "[redacted:x]";
    let out = streamed(&redactor, text.as_bytes().chunks(1_000));
    assert!(out == expected.as_bytes());
}

#[test]
fn redactor_over_capacity_withholds_all_output() {
    let redactor = Redactor::new();
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"before", &mut out);
    redactor.fill();
    redactor.register(&name("x"), &secret("a value too many"));
    stream.push(b"after", &mut out);
    stream.push(b"after", &mut out);
    stream.finish(&mut out);
    assert_eq!(out, b"before***");
    assert_eq!(redactor.redact("anything"), "***");
    assert_eq!(redactor.redact(""), "");
    assert!(!redactor.try_register(&name("x"), &secret("tiny")));
}

/// Registers values until one is refused, and returns how many were accepted.
fn accepted(redactor: &Redactor, value: impl Fn(usize) -> String) -> usize {
    (0..100_000).take_while(|at| redactor.try_register(&name("x"), &secret(&value(*at)))).count()
}

// attack: resources: set values with as many short lines as possible -> the number of search
// patterns of a run is bounded, and a value beyond it is refused
#[test]
fn search_patterns_are_bounded_for_values_of_short_lines() {
    // Lines of six bytes give the most needles.
    let value = |at: usize| (0..3_600).map(|line| format!("{:06x}\n", at * 3_600 + line)).collect::<String>();
    let redactor = Redactor::new();
    let accepted = accepted(&redactor, value);
    assert!((50..PATTERNS_MAX / 3_600 + 1).contains(&accepted), "{accepted}");
    assert!(redactor.lock().index.patterns() <= PATTERNS_MAX);
    // The values before are covered, and from then on every value is refused.
    assert_eq!(redactor.redact(&value(accepted - 1)), "[redacted:x]");
    assert!(!redactor.try_register(&name("x"), &secret("another value")));
    assert!(redactor.try_register(&name("x"), &secret(&value(0))), "a covered value is no new one");
}

#[test]
fn total_length_of_values_is_bounded() {
    let value = |at: usize| format!("{at:06}").repeat(4_000);
    assert_eq!(accepted(&Redactor::new(), value), VALUES_MAX / 24_000);
}

/// The most hash lookups that one position may need: lengths of up to 15 bytes, prefixes of 16, 32,
/// ... bytes up to the longest needle, and the lengths up to the next prefix for each.
const LOOKUPS_MAX: u64 = 12 + 14 * (1 + LENGTHS_MAX as u64);

// attack: resources: print text that many values start like, or that consists of parts of many
// values -> the number of steps for each byte is bounded, whatever the values are
#[test]
fn steps_per_byte_are_bounded_for_hostile_values() {
    const WRITE: usize = 8 * 1024;
    let mut number = numbers(11);
    let random: String = (0..3 * WRITE).map(|_| char::from(b'a' + (number() % 26) as u8)).collect();
    let beginning = "b".repeat(128);
    let attacks: [(Vec<String>, &str); 3] = [
        // A common beginning, and an end that many encoders change in their own way.
        ((0..1_000).map(|at| format!("{beginning}\"'<&>/=`+ {at:x}\n")).collect(), &beginning),
        // Every length.
        ((4..4_000).map(|len| "a".repeat(len)).collect(), "a"),
        // At most positions of the text another value starts, and continues for long.
        ((0..300).map(|at| random[at * 25..at * 25 + 3_000].to_owned()).collect(), &random),
    ];
    for (values, text) in attacks {
        let redactor = Redactor::new();
        let known = values.iter().take_while(|value| redactor.try_register(&name("x"), &secret(value))).count();
        assert!(known > 80, "{known}");
        let text: Vec<u8> = text.bytes().cycle().take(WRITE).collect();
        for size in [WRITE, 1] {
            let (mut stream, mut out) = (redactor.stream(), Vec::new());
            text.chunks(size).for_each(|chunk| stream.push(chunk, &mut out));
            stream.finish(&mut out);
            let writes = (WRITE / size) as u64;
            assert!(stream.lookups() <= (WRITE as u64 + writes) * LOOKUPS_MAX, "{} lookups", stream.lookups());
            println!("{known} values, {} lookups in {writes} writes", stream.lookups());
        }
    }
}

/// Returns a deterministic pseudo-random generator.
fn numbers(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    }
}

/// 256 MiB of clean text, of values, of prefixes that do not become values, and of prefixes of 25
/// KB and more that fail at the last byte.
// promise: The memory that a redaction stream keeps does not grow with the length of the stream.
#[test]
fn stream_memory_is_bounded_for_256_mib() {
    const MIB: usize = 1 << 20;
    let key: String = (0..1_000).map(|line| format!("{:024x}\n", line * 7_919)).collect();
    let values = [key.clone(), "a".repeat(600) + "b", "correct horse battery staple".to_owned(), "hunter2!".to_owned()];
    let redactor = Redactor::new();
    values.iter().for_each(|value| redactor.register(&name("x"), &secret(value)));
    let longest = GROWTH * key.len();
    let repeated = |part: &str, len: usize| part.bytes().cycle().take(len).collect::<Vec<u8>>();
    let line = "2026-11-25T09:00:00Z INFO train: step 17 loss 0.25, wrote /output/model.safetensors\n";
    // How often each text is pushed. Hostile texts are slow.
    let texts = [
        (251, repeated(line, MIB)),
        (2, repeated("hunter2!hunter2 correct horse battery st", MIB)),
        (1, repeated(&"a".repeat(599), MIB)),
        (1, repeated(&key[..key.len() - 1], MIB)),
        (1, repeated(&STANDARD.encode(&key)[..33_000], MIB)),
    ];
    let (mut stream, mut out, mut pushed, mut most) = (redactor.stream(), Vec::new(), 0_usize, 0);
    for (times, text) in &texts {
        for _ in 0..*times {
            for chunk in text.chunks(61_441) {
                out.clear();
                stream.push(chunk, &mut out);
                pushed += chunk.len();
                assert!(stream.held() <= longest, "{} bytes held", stream.held());
                assert!(out.len() <= chunk.len() + longest);
                most = most.max(stream.memory());
            }
        }
    }
    assert!(pushed >= 256 * MIB);
    // The held-back bytes, eight bytes of hash for each, and spare capacity.
    assert!(most <= 32 * longest, "{most} bytes of memory for a longest encoding of {longest}");
}
