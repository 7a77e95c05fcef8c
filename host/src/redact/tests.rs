//! The redactor against a naive oracle, and the cases that redactors are known to get wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::encoders::{FORMS, MIN_NEEDLE, pieces};
use super::*;

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

fn secret(value: &str) -> Secret {
    Secret::new(value.to_owned()).unwrap()
}

fn redactor(values: &[(&str, &str)]) -> Redactor {
    let redactor = Redactor::new();
    values.iter().for_each(|(of, value)| redactor.register(&name(of), &secret(value)));
    redactor
}

fn streamed<'a>(redactor: &Redactor, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    chunks.into_iter().for_each(|chunk| stream.push(chunk, &mut out));
    stream.finish(&mut out);
    out
}

// ---- the oracle ----

/// One value as the oracle sees it: all its needles in full, and from which place of the stream it counts.
struct Known {
    name: String,
    needles: Vec<Vec<u8>>,
    from: usize,
}

fn known(of: &str, value: &str, from: usize) -> Known {
    let whole = |form: &'static encoders::Form| {
        pieces(form.over, value).into_iter().map(|(at, len)| form.encode(&value[at..at + len], true).to_vec())
    };
    let needles = FORMS.iter().flat_map(whole).filter(|needle| needle.len() >= MIN_NEEDLE).collect();
    Known { name: of.to_owned(), needles, from }
}

/// Finds every needle at every place, unites what they cover, and writes one marker for each stretch.
fn oracle(values: &[Known], text: &[u8]) -> (Vec<u8>, u64) {
    let mut covered = vec![false; text.len()];
    let mut longest: Vec<(usize, &str)> = vec![(0, ""); text.len()];
    for value in values {
        for needle in &value.needles {
            for at in value.from..text.len() {
                if text[at..].starts_with(needle) {
                    covered[at..at + needle.len()].fill(true);
                    if needle.len() > longest[at].0 {
                        longest[at] = (needle.len(), &value.name);
                    }
                }
            }
        }
    }
    let (mut out, mut count) = (Vec::new(), 0);
    for at in 0..text.len() {
        if !covered[at] {
            out.push(text[at]);
        } else if at == 0 || !covered[at - 1] {
            out.extend_from_slice(format!("[redacted:{}]", longest[at].1).as_bytes());
            count += 1;
        }
    }
    (out, count)
}

/// How many bytes at the end are the beginning of a needle that goes on.
fn undecided(values: &[Known], text: &[u8]) -> usize {
    let fits = |needle: &Vec<u8>, from: usize| {
        (1..needle.len()).rev().find(|&len| len <= text.len().saturating_sub(from) && text.ends_with(&needle[..len]))
    };
    values
        .iter()
        .flat_map(|value| value.needles.iter().filter_map(|needle| fits(needle, value.from)))
        .max()
        .unwrap_or(0)
}

/// What happens to a stream.
#[derive(Clone, Debug)]
enum Event {
    /// A piece of a needle of one of the values: which value, which needle, from where, to where.
    Needle(Index, Index, Index, Index),
    Whole(Index, Index),
    Noise(Vec<u8>),
    /// The next value is registered.
    Register,
}

fn events(noise: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Vec<Event>> {
    let index = any::<Index>;
    vec(
        prop_oneof![
            3 => (index(), index(), index(), index()).prop_map(|(a, b, c, d)| Event::Needle(a, b, c, d)),
            3 => (index(), index()).prop_map(|(a, b)| Event::Whole(a, b)),
            2 => noise.prop_map(Event::Noise),
            1 => Just(Event::Register),
        ],
        0..14,
    )
}

/// Plays the events, in chunks of the given sizes in turn, and holds the result against the oracle.
fn play(values: &[String], at_first: usize, events: &[Event], cuts: &[usize]) -> Result<(), TestCaseError> {
    let all: Vec<Known> = values.iter().map(|value| known("x", value, 0)).collect();
    let (redactor, mut sizes) = (Redactor::new(), cuts.iter().copied().cycle());
    let (mut stream, mut text, mut out) = (redactor.stream(), Vec::new(), Vec::new());
    let mut registered: Vec<Known> = Vec::new();
    let register = |registered: &mut Vec<Known>, from: usize| {
        if let Some(value) = values.get(registered.len()) {
            let of = format!("n{}", registered.len());
            redactor.register(&name(&of), &secret(value));
            registered.push(known(&of, value, from));
        }
    };
    (0..at_first).for_each(|_| register(&mut registered, 0));
    for event in events {
        let bytes = match event {
            Event::Register => {
                register(&mut registered, text.len() - stream.held());
                continue;
            }
            Event::Noise(bytes) => bytes.clone(),
            Event::Whole(value, needle) | Event::Needle(value, needle, ..) => {
                let needles = &value.get(&all).needles;
                if needles.is_empty() {
                    continue;
                }
                let needle = needle.get(needles);
                match event {
                    Event::Needle(_, _, start, end) => {
                        let start = start.index(needle.len());
                        needle[start..start + 1 + end.index(needle.len() - start)].to_vec()
                    }
                    _ => needle.clone(),
                }
            }
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            stream.push(chunk, &mut out);
            text.extend_from_slice(chunk);
            rest = later;
            prop_assert_eq!(
                stream.held(),
                undecided(&registered, &text),
                "held back after {:?}",
                String::from_utf8_lossy(&text)
            );
        }
    }
    stream.finish(&mut out);
    let (expected, count) = oracle(&registered, &text);
    prop_assert_eq!(
        String::from_utf8_lossy(&out),
        String::from_utf8_lossy(&expected),
        "{:?}",
        String::from_utf8_lossy(&text)
    );
    prop_assert_eq!(redactor.count(), count);
    prop_assert_eq!(stream.held(), 0);
    Ok(())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), Just(vec![usize::MAX]), vec(1..40_usize, 1..6)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Few letters, so that values overlap each other and themselves; lengths on both sides of a head.
    #[test]
    fn any_chunking_of_overlapping_values(
        values in vec(prop_oneof!["[ab]{4,12}", "[ab]{14,40}", "(ab){8,30}b?", "a{4,50}b{0,2}", "(aab){6,12}a?", "(ab){10}[ab]{0,20}",
            "(ab){60,75}[ab]{0,9}"], 1..10),
        at_first in 0..8_usize,
        events in events(vec(select(vec![b'a', b'b']), 1..30)),
        cuts in cuts(),
    ) {
        play(&values, at_first, &events, &cuts)?;
    }

    #[test]
    fn any_chunking_of_realistic_values(
        values in vec(prop_oneof![
            "[A-Za-z0-9+/=_!$%&'\"\\\\ -]{4,60}", "\\PC{4,30}", "([a-z0-9: ]{0,24}\r?\n){1,5}", "postgres://app:[a-z0-9]{6,30}@db/x",
        ], 1..4),
        at_first in 0..4_usize,
        events in events(vec(any::<u8>(), 1..20)),
        cuts in cuts(),
    ) {
        play(&values, at_first, &events, &cuts)?;
    }

    /// Encodings made by other code than the list's.
    #[test]
    fn planted_encodings_are_gone(value in "[A-Za-z0-9/+ä€\"\\\\]{8,40}", before in "[ -~]{0,7}", after in "[ -~]{0,7}", cuts in cuts()) {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let json = serde_json::to_string(&value).unwrap();
        let percent = value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let forms = [value.clone(), hex(&value), hex(&value).to_uppercase(), json[1..json.len() - 1].to_owned(), percent,
            STANDARD.encode(&value)];
        let redactor = redactor(&[("key", &value)]);
        for form in &forms {
            let text = format!("{before}{form}{after}");
            let mut sizes = cuts.iter().copied().cycle();
            let mut rest = text.as_bytes();
            let chunks = std::iter::from_fn(|| {
                let (chunk, later) = rest.split_at(sizes.next()?.min(rest.len()));
                rest = later;
                Some(chunk).filter(|chunk| !chunk.is_empty())
            });
            let out = String::from_utf8(streamed(&redactor, chunks)).unwrap();
            prop_assert!(!out.contains(form.as_str()) && out.contains("[redacted:key]"), "{text:?} became {out:?}");
        }
    }

    #[test]
    fn redacting_twice_changes_nothing_more(values in vec("[a-e]{4,9}", 1..5), text in "[a-e ]{0,80}") {
        let redactor = Redactor::new();
        for (value, of) in values.iter().zip(["abcd", "edcba", "redacted", "x"]) {
            redactor.register(&name(of), &secret(value));
        }
        let once = redactor.redact(&text);
        prop_assert_eq!(redactor.redact(&once), once.as_str());
        prop_assert!(!values.iter().any(|value| once.contains(value.as_str())), "{once:?}");
    }

    #[test]
    fn text_stays_text(values in vec("\\PC{4,12}", 1..4), text in vec("\\PC{0,8}", 0..8)) {
        let redactor = Redactor::new();
        values.iter().for_each(|value| redactor.register(&name("x"), &secret(value)));
        let text = text.join(&values[0]);
        prop_assert_eq!(redactor.redact(&text).into_bytes(), redactor.redact_bytes(text.as_bytes()));
    }
}

// ---- cases ----

/// A text with values, and what is left of it, at every cut into two chunks and byte by byte.
fn case(values: &[(&str, &str)], text: &[u8], expected: &[u8]) {
    let redactor = redactor(values);
    for cut in 0..=text.len() {
        let out = streamed(&redactor, [&text[..cut], &text[cut..]]);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected), "cut at {cut}");
    }
    assert_eq!(streamed(&redactor, text.chunks(1)), expected);
}

#[test]
fn a_match_that_fails_and_restarts() {
    case(&[("x", "aaab")], b"aaaab aaaaab aaa", b"a[redacted:x] aa[redacted:x] aaa");
    case(&[("x", "hunterhunter2")], b"x-hunterhunterhunter2! hunterhunt", b"x-hunter[redacted:x]! hunterhunt");
    let long = "abcabcabcabcabcabcabcabcabcabcabd";
    case(&[("x", long)], format!("abc{long}abcabcabc").as_bytes(), b"abc[redacted:x]abcabcabc");
}

#[test]
fn values_that_contain_or_overlap_each_other() {
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
fn stretches_of_any_length_are_one_marker() {
    case(&[("x", "abab")], &b"ab".repeat(40), b"[redacted:x]");
    case(&[("x", "1234"), ("y", "abcd")], b"abcd1234abcd-1234abcd", b"[redacted:y]-[redacted:x]");
}

#[test]
fn a_long_stretch_is_not_held() {
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
fn nothing_is_held_without_need() {
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
fn the_end_of_a_stream_flushes_and_begins_anew() {
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
fn bytes_that_are_no_text() {
    case(&[("x", "pässwörd")], "ä pässwörd ö".as_bytes(), "ä [redacted:x] ö".as_bytes());
    case(&[("x", "nul\0inside\u{1}")], b"\0nul\0inside\x01\0nul\0", b"\0[redacted:x]\0nul\0");
    case(
        &[("x", "hunter2")],
        b"\xff\xfehunter2\xc3\x00hunter2\xe2\x82",
        b"\xff\xfe[redacted:x]\xc3\x00[redacted:x]\xe2\x82",
    );
}

#[test]
fn lines_of_a_key_however_they_are_broken() {
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
fn values_too_short_are_left() {
    let redactor = redactor(&[("a", ""), ("b", "a"), ("c", "abc"), ("d", "     "), ("e", "\n\n\n\n\t")]);
    let text = "a abc      \n\n\n\n\t YWJj 616263";
    assert_eq!(redactor.redact(text), text);
    assert_eq!(redactor.count(), 0);
}

#[test]
fn base64_in_the_middle_of_base64() {
    for (before, after) in [("", ""), ("user:", ""), ("u:", "\n"), ("a", "zz"), ("\u{0}\u{0}", "")] {
        let redactor = redactor(&[("x", "correct horse")]);
        let out = redactor.redact(&STANDARD.encode(format!("{before}correct horse{after}")));
        assert!(out.contains("[redacted:x]"), "{out}");
        // What is left decodes to what stood around, give or take a byte at each side.
        assert!(out.len() <= "[redacted:x]".len() + before.len() * 2 + after.len() * 2 + 4, "{out}");
    }
}

#[test]
fn a_name_may_have_two_values_and_a_value_one_name() {
    let redactor = redactor(&[("x", "first-one"), ("x", "second-one"), ("y", "first-one"), ("x", "first-one")]);
    assert_eq!(redactor.redact("first-one second-one"), "[redacted:x] [redacted:x]");
    assert_eq!(format!("{redactor:?}"), "Redactor { registered: 2, count: 2 }");
}

#[test]
fn a_marker_never_holds_a_value() {
    let names = redactor(&[("password", "password")]);
    assert_eq!(names.redact("the password"), "the [redacted]");
    let words = redactor(&[("a", "redacted"), ("b", "other-value")]);
    assert_eq!(words.redact("redacted other-value"), "*** ***");
    let encoded = redactor(&[("676f6f7365", "goose")]);
    assert_eq!(encoded.redact("a goose"), "a [redacted]");
    let long = redactor(&[("a-name-longer-than-a-head", "a-name-longer-than-a-head")]);
    assert_eq!(long.redact("a-name-longer-than-a-head"), "[redacted]");
}

#[test]
fn a_value_registered_while_a_stream_is_open() {
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
fn a_stretch_half_released_goes_on_under_a_new_set() {
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
fn streams_and_clones_share_the_set_and_the_count() {
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
fn many_long_values() {
    // Different from the first bytes on, and with hundreds of lines each.
    let value = |at: usize| {
        (0..800).map(|line| format!("{at:04} {:024x}\n", (at * 1_000_003 + line) * 7_919)).collect::<String>()
    };
    let values: Vec<String> = (0..120).map(value).collect();
    assert!(values.iter().all(|value| value.len() > 23_000));
    let (redactor, mut out) = (Redactor::new(), Vec::new());
    let mut stream = redactor.stream();
    for value in &values {
        // One by one, with output between.
        redactor.register(&name("x"), &secret(value));
        stream.push(b"-", &mut out);
        stream.push(value.as_bytes(), &mut out);
    }
    stream.finish(&mut out);
    assert_eq!(out, b"-[redacted:x]".repeat(120));
    assert!(redactor.snapshot().tiers().len() <= 7);
    for form in FORMS {
        for at in [0, 57, 119] {
            let found = redactor.redact_bytes(&form.encode(&values[at], true));
            assert!(
                !found.windows(30).any(|window| form.encode(&values[at], true).windows(30).any(|part| part == window)),
                "{}",
                form.name
            );
        }
    }
}

#[test]
fn a_long_value_in_a_text_of_its_beginnings() {
    let value = "a".repeat(25_000) + "b";
    let redactor = redactor(&[("x", &value)]);
    let text = "a".repeat(24_999) + "c" + &value + &"a".repeat(60_000) + "b";
    let expected = "a".repeat(24_999) + "c[redacted:x]" + &"a".repeat(35_000) + "[redacted:x]";
    let out = streamed(&redactor, text.as_bytes().chunks(1_000));
    assert!(out == expected.as_bytes());
}

#[test]
fn too_many_values_close_the_redactor() {
    let redactor = Redactor::new();
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    stream.push(b"before", &mut out);
    // Six bytes a line make the most needles.
    let value = |at: usize| (0..3_600).map(|line| format!("{:06x}\n", at * 3_600 + line)).collect::<String>();
    let mut at = 0;
    while redactor.has_room(&secret(&value(at))) {
        redactor.register(&name("x"), &secret(&value(at)));
        at += 1;
    }
    assert!(at > 200, "{at}");
    redactor.register(&name("x"), &secret(&value(at)));
    stream.push(b"after", &mut out);
    stream.push(b"after", &mut out);
    stream.finish(&mut out);
    assert_eq!(out, b"before***");
    assert_eq!(redactor.redact("anything"), "***");
    assert_eq!(redactor.redact(""), "");
    assert!(!redactor.has_room(&secret("tiny")));
}
