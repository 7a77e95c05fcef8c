//! Compares the filter with reading every byte, and bounds the memory of a stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::encoders::{FORMS, GROWTH, Scope};
use super::tests::{name, secret};
use super::*;

/// Returns a redactor with the filter and one without, with the same values.
fn both(values: &[String]) -> [Redactor; 2] {
    let redactors = [Redactor::new(), Redactor::unfiltered()];
    for redactor in &redactors {
        values.iter().enumerate().for_each(|(at, value)| redactor.register(&name(&format!("n{at}")), &secret(value)));
    }
    redactors
}

/// Compares the two: output, time of release, held-back bytes and count. One value is registered
/// before each chunk whose number is in `arrivals`.
fn compare(
    values: &[String],
    at_first: usize,
    text: &[u8],
    cuts: &[usize],
    arrivals: &[usize],
) -> Result<(), TestCaseError> {
    let redactors = both(&values[..at_first.min(values.len())]);
    let mut later = values.iter().enumerate().skip(at_first);
    let mut streams = redactors.each_ref().map(Redactor::stream);
    let (mut rest, mut sizes, mut chunk_number) = (text, cuts.iter().cycle(), 0);
    while !rest.is_empty() {
        if arrivals.contains(&chunk_number)
            && let Some((at, value)) = later.next()
        {
            redactors.iter().for_each(|redactor| redactor.register(&name(&format!("n{at}")), &secret(value)));
        }
        let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let outs = streams.each_mut().map(|stream| {
            let mut out = Vec::new();
            stream.push(chunk, &mut out);
            (String::from_utf8_lossy(&out).into_owned(), stream.held())
        });
        prop_assert_eq!(&outs[0], &outs[1], "chunk {} of {:?}", chunk_number, String::from_utf8_lossy(text));
        (rest, chunk_number) = (after, chunk_number + 1);
    }
    let ends = streams.each_mut().map(|stream| {
        let mut out = Vec::new();
        stream.finish(&mut out);
        out
    });
    prop_assert_eq!(&ends[0], &ends[1]);
    prop_assert_eq!(redactors[0].count(), redactors[1].count());
    Ok(())
}

/// Prefixes of the encodings of values, most of them incomplete, with noise between them: errors
/// are likely at the start and the end of each.
fn hostile(values: &[String], parts: &[(Index, Index, Index, Vec<u8>)]) -> Vec<u8> {
    let forms: Vec<_> = FORMS.iter().filter(|form| form.scope == Scope::Value).collect();
    let part = |(value, form, len, noise): &(Index, Index, Index, Vec<u8>)| {
        let needle = form.get(&forms).encode(value.get::<String>(values), true);
        let len = len.index(2 * needle.len() + 1).min(needle.len());
        [&needle[..len], noise].concat()
    };
    parts.iter().flat_map(part).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    // promise: The filter that skips clean text changes neither the redacted output nor the time of
    // its release.
    #[test]
    fn filter_does_not_change_output_or_release_time(
        values in vec(prop_oneof!["[ab]{4,9}", "[a-e]{4,30}", "[A-Za-z0-9+/=_!$%&'\"\\\\ -]{4,60}", "\\PC{4,30}",
            "([a-z0-9: ]{0,24}\r?\n){1,5}"].prop_filter("white space", |value| !value.trim().is_empty()), 1..8),
        at_first in 0..8_usize,
        parts in vec((any::<Index>(), any::<Index>(), any::<Index>(), prop_oneof![
            Just(Vec::new()), vec(select(vec![b'a', b'b', b'c']), 1..40), vec(any::<u8>(), 1..9), "[ -~]{20,200}".prop_map(String::into_bytes),
        ]), 0..14),
        cuts in prop_oneof![Just(vec![usize::MAX]), Just(vec![1]), vec(1..12_usize, 1..6), vec(1..200_usize, 1..6)],
        arrivals in vec(0..40_usize, 0..8),
    ) {
        compare(&values, at_first, &hostile(&values, &parts), &cuts, &arrivals)?;
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

/// Enough values to fill much of the hash tables, and a text of their prefixes in many chunks.
#[test]
fn filter_with_hundreds_of_values_does_not_change_output() {
    let mut number = numbers(7);
    let values: Vec<String> = (0..300).map(|at| format!("{:x}/{at}+'{:x}\\ä", number() * 31, number())).collect();
    let forms: Vec<_> = FORMS.iter().filter(|form| form.scope == Scope::Value).collect();
    let mut text = Vec::new();
    while text.len() < 200_000 {
        let needle = forms[number() % forms.len()].encode(&values[number() % values.len()], true);
        text.extend_from_slice(&needle[..1 + number() % needle.len()]);
        text.extend((0..number() % 60).map(|at| b"the quick brown fox 0123456789\n"[(at * 7) % 31]));
    }
    let cuts: Vec<usize> = (0..97).map(|_| 1 + number() % 9_000).collect();
    compare(&values, 200, &text, &cuts, &(0..40).collect::<Vec<_>>()).unwrap();
    compare(&values, 300, &text[..20_000], &[1], &[]).unwrap();
}

/// 256 MiB of clean text, of values, of prefixes that do not become values, and of prefixes of 25
/// KB and more that fail at the last byte.
// promise: The memory that a redaction stream keeps does not grow with the length of the stream.
#[test]
fn stream_memory_is_bounded_for_256_mib() {
    const MIB: usize = 1 << 20;
    let key: String = (0..1_000).map(|line| format!("{:024x}\n", line * 7_919)).collect();
    let values = [key.clone(), "a".repeat(600) + "b", "correct horse battery staple".to_owned(), "hunter2!".to_owned()];
    let [redactor, _] = both(&values);
    let longest = GROWTH * key.len();
    let repeated = |part: &str, len: usize| part.bytes().cycle().take(len).collect::<Vec<u8>>();
    let line = "2026-11-25T09:00:00Z INFO train: step 17 loss 0.25, wrote /output/model.safetensors\n";
    // How often each text is pushed. Hostile texts are read byte by byte and are slow.
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
    // Twice the held-back bytes, plus the longest encodings being matched with their tables, of
    // which only few are tracked at once.
    assert!(most <= 32 * longest, "{most} bytes of memory for a longest encoding of {longest}");
}
