//! Compares the redactor with the reference implementation, for any chunks.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::reference::{ReferenceValue, reference_redact, reference_value};
use super::tests::{name, secret};
use super::*;

/// Returns how many bytes at the end are held back: from the first position on whose rest may be the
/// start of a needle. Up to 15 bytes are compared; of more, a power of two.
fn undecided(values: &[ReferenceValue], text: &[u8]) -> usize {
    let may_start = |rest: &[u8], needle: &[u8]| {
        let compared = if rest.len() < 16 { rest.len() } else { 1 << rest.len().ilog2() };
        rest.len() < needle.len() && needle.starts_with(&rest[..compared])
    };
    let starts = |at: &usize| {
        let covered = |value: &&ReferenceValue| value.from <= *at;
        values.iter().filter(covered).any(|value| value.needles.iter().any(|needle| may_start(&text[*at..], needle)))
    };
    text.len() - (0..text.len()).find(starts).unwrap_or(text.len())
}

/// An event of a stream.
#[derive(Clone, Debug)]
enum Event {
    /// A part of a needle: value, needle, start and end.
    Needle(Index, Index, Index, Index),
    Whole(Index, Index),
    Noise(Vec<u8>),
    /// Registers the next value.
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

/// Plays the events in chunks of the given sizes and compares the result with the reference
/// implementation.
fn play(values: &[String], at_first: usize, events: &[Event], cuts: &[usize]) -> Result<(), TestCaseError> {
    let all: Vec<ReferenceValue> = values.iter().map(|value| reference_value("x", value, 0)).collect();
    let (redactor, mut sizes) = (Redactor::new(), cuts.iter().copied().cycle());
    let (mut stream, mut text, mut out) = (redactor.stream(), Vec::new(), Vec::new());
    let mut registered: Vec<ReferenceValue> = Vec::new();
    let register = |registered: &mut Vec<ReferenceValue>, from: usize| {
        if let Some(value) = values.get(registered.len()) {
            let of = format!("n{}", registered.len());
            redactor.register(&name(&of), &secret(value));
            registered.push(reference_value(&of, value, from));
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
    let (expected, count) = reference_redact(&registered, &text);
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

    /// Few letters, so that values overlap each other and themselves; lengths around those of
    /// prefixes.
    // promise: The redacted output of a stream does not depend on how the stream was split into
    // chunks.
    #[test]
    fn overlapping_values_are_redacted_in_any_chunks(
        values in vec(prop_oneof!["[ab]{4,12}", "[ab]{14,40}", "(ab){8,30}b?", "a{4,50}b{0,2}", "(aab){6,12}a?", "(ab){10}[ab]{0,20}",
            "(ab){60,75}[ab]{0,9}"], 1..10),
        at_first in 0..8_usize,
        events in events(vec(select(vec![b'a', b'b']), 1..30)),
        cuts in cuts(),
    ) {
        play(&values, at_first, &events, &cuts)?;
    }

    // promise: The redacted output of a stream does not depend on how the stream was split into
    // chunks.
    #[test]
    fn realistic_values_are_redacted_in_any_chunks(
        values in vec(prop_oneof![
            "[A-Za-z0-9+/=_!$%&'\"\\\\ -]{4,60}", "\\PC{4,30}", "([a-z0-9: ]{0,24}\r?\n){1,5}", "postgres://app:[a-z0-9]{6,30}@db/x",
        ], 1..4),
        at_first in 0..4_usize,
        events in events(vec(any::<u8>(), 1..20)),
        cuts in cuts(),
    ) {
        play(&values, at_first, &events, &cuts)?;
    }

    #[test]
    fn redacting_twice_has_no_further_effect(values in vec("[a-e]{4,9}", 1..5), text in "[a-e ]{0,80}") {
        let redactor = Redactor::new();
        for (value, of) in values.iter().zip(["abcd", "edcba", "redacted", "x"]) {
            redactor.register(&name(of), &secret(value));
        }
        let once = redactor.redact(&text);
        prop_assert_eq!(redactor.redact(&once), once.as_str());
        prop_assert!(!values.iter().any(|value| once.contains(value.as_str())), "{once:?}");
    }

    #[test]
    fn redacted_text_is_valid_utf8(values in vec("\\PC{4,12}", 1..4), text in vec("\\PC{0,8}", 0..8)) {
        let redactor = Redactor::new();
        values.iter().for_each(|value| redactor.register(&name("x"), &secret(value)));
        let text = text.join(&values[0]);
        prop_assert_eq!(redactor.redact(&text).into_bytes(), redactor.redact_bytes(text.as_bytes()));
    }
}
