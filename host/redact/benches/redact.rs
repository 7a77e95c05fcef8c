//! The redactor's throughput, compared with copying and with the automaton of the `aho-corasick`
//! crate.
//!
//! Run it with `cargo bench -p strongroom-redact --bench redact`. `docs/benchmarks.md` has the
//! results.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark stops where it goes wrong")]

use std::hint::black_box;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use divan::Bencher;
use divan::counter::BytesCount;
use strongroom_core::ids::SecretName;
use strongroom_core::secret::Secret;
use strongroom_redact::Redactor;

/// The maximum length of one write by a component.
const WRITE: usize = 8 * 1024;

/// The length of a clean text in bytes: too long for the processor's branch predictor to learn.
const CLEAN: usize = 1 << 20;

/// The length of a hostile text in bytes: short enough to be read in one time slice.
const HOSTILE: usize = 64 * 1024;

/// The kinds of text: three are clean, two are hostile.
const TEXTS: [&str; 5] = ["log", "base64", "numbers", "beginnings", "almost"];

fn main() {
    divan::main();
}

/// SplitMix64, which yields the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn letters(&mut self, alphabet: &str, len: usize) -> String {
        (0..len).map(|_| char::from(alphabet.as_bytes()[self.below(alphabet.len())])).collect()
    }
}

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Generates values as vaults contain them: tokens, passwords with punctuation, hexadecimal and
/// base64 keys, connection strings, documents.
fn values(count: usize) -> Vec<String> {
    let mut numbers = Numbers(1);
    let value = |at| match at % 6 {
        0 => format!("ghp_{}", numbers.letters(ALNUM, 36)),
        1 => numbers.letters("ABCDEFabcdefghijklmnopqrstuvwxyz0123456789!$%&/()=?\"'\\ #+*~<>|,.-", 8 + at % 13),
        2 => numbers.letters("0123456789abcdef", 64),
        3 => numbers.letters(BASE64, 43) + "=",
        4 => format!("postgres://app:{}@db-{at}.internal:5432/training?sslmode=require", numbers.letters(ALNUM, 20)),
        _ => format!("{{\n  \"user\": \"svc-{at}\",\n  \"token\": \"{}\"\n}}\n", numbers.letters(ALNUM, 48)),
    };
    (0..count).map(value).collect()
}

/// Generates a private key of 25 KB in lines.
fn key() -> String {
    let body = Numbers(2).letters(BASE64, 24_500);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", lines.join("\n"))
}

fn redactor(values: &[String]) -> Redactor {
    let redactor = Redactor::new();
    for (at, value) in values.iter().enumerate() {
        redactor.register(&SecretName::parse(&format!("value-{at}")).unwrap(), &Secret::new(value.clone()).unwrap());
    }
    redactor.redact("");
    redactor
}

/// Generates a text. `beginnings` consists of truncated values, encoded or not; `almost` repeats
/// values without their last byte.
fn text(kind: &str, values: &[String]) -> Vec<u8> {
    let mut numbers = Numbers(3);
    let mut text = String::new();
    let len = if matches!(kind, "beginnings" | "almost") { HOSTILE } else { CLEAN };
    while text.len() < len {
        match kind {
            "log" => text.push_str(&log_line(&mut numbers)),
            "base64" => text.push_str(&(numbers.letters(BASE64, 76) + "\n")),
            "numbers" => {
                text.push_str(&format!("{}, {:?}\n", numbers.next() as f64 / 1e18, numbers.next().to_le_bytes()))
            }
            "beginnings" => {
                let value = &values[numbers.below(values.len())];
                let part = &value[..1 + numbers.below(value.len().min(32) - 1)];
                match numbers.below(4) {
                    0 => text.push_str(part),
                    1 => text.push_str(&STANDARD_NO_PAD.encode(part)),
                    2 => text.push_str(&hex(part)),
                    _ => text.push_str(&percent(part)),
                }
            }
            _ => {
                let value = &values[numbers.below(values.len())];
                text.push_str(&value[..value.len() - 1]);
            }
        }
    }
    text.truncate(len);
    text.into_bytes()
}

fn log_line(numbers: &mut Numbers) -> String {
    let module = numbers.of(&["train::loop", "data::loader", "http::client", "optim::adamw", "checkpoint"]);
    let what = numbers.of(&[
        "step finished",
        "loaded shard from /input/train-00017.parquet",
        "GET https://models.example.com/v1/weights?part=3 200",
        "learning rate is now",
        "wrote checkpoint to /output/model.safetensors",
        "gradient norm clipped",
        "evaluating on the validation set, 1024 samples",
    ]);
    format!(
        "2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z {:5} {module}: {what} step={} loss={:.4} lr={:.2e} tokens/s={}\n",
        1 + numbers.below(30),
        numbers.below(24),
        numbers.below(60),
        numbers.below(60),
        numbers.below(1000),
        numbers.of(&["INFO", "DEBUG", "WARN"]),
        numbers.below(100_000),
        numbers.below(100_000) as f64 / 1e4,
        numbers.below(1000) as f64 / 1e6,
        numbers.below(90_000),
    )
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Processes a text in writes.
fn writes(bencher: Bencher<'_, '_>, text: &[u8], mut write: impl FnMut(&[u8], &mut Vec<u8>)) {
    let mut out = Vec::with_capacity(2 * WRITE);
    bencher.counter(BytesCount::of_slice(text)).bench_local(|| {
        for chunk in text.chunks(WRITE) {
            out.clear();
            write(black_box(chunk), &mut out);
            black_box(&out);
        }
    });
}

fn stream(bencher: Bencher<'_, '_>, values: &[String], text: &[u8]) {
    let mut stream = redactor(values).stream();
    writes(bencher, text, |chunk, out| stream.push(chunk, out));
}

/// Copying, the minimum that any redactor does.
#[divan::bench]
fn copying(bencher: Bencher<'_, '_>) {
    writes(bencher, &text("log", &values(50)), |chunk, out| out.extend_from_slice(chunk));
}

/// The automaton that the `aho-corasick` crate selects by itself, over the plain values and five
/// encodings, chunk by chunk. It has far fewer needles than the redactor, replaces nothing, and
/// misses values that are split between writes.
#[divan::bench(args = TEXTS)]
fn shelf_50_values(bencher: Bencher<'_, '_>, kind: &str) {
    let values = values(50);
    let needles = values.iter().flat_map(|value| {
        let inner = |before: &str| STANDARD_NO_PAD.encode(format!("{before}{value}"))[before.len()..].to_owned();
        [value.clone(), hex(value), percent(value), inner(""), inner(":"), inner("::")]
    });
    let automaton = AhoCorasick::new(needles).unwrap();
    writes(bencher, &text(kind, &values), |chunk, out| {
        out.extend_from_slice(chunk);
        black_box(automaton.find_iter(chunk).count());
    });
}

/// No registered value, as before any secret is released.
#[divan::bench]
fn redactor_no_value(bencher: Bencher<'_, '_>) {
    stream(bencher, &[], &text("log", &values(50)));
}

#[divan::bench(args = TEXTS)]
fn redactor_50_values(bencher: Bencher<'_, '_>, kind: &str) {
    let values = values(50);
    stream(bencher, &values, &text(kind, &values));
}

#[divan::bench(args = TEXTS)]
fn redactor_500_values(bencher: Bencher<'_, '_>, kind: &str) {
    let values = values(500);
    stream(bencher, &values, &text(kind, &values));
}

#[divan::bench(args = TEXTS)]
fn redactor_key_of_25_kb(bencher: Bencher<'_, '_>, kind: &str) {
    stream(bencher, &[key()], &text(kind, &[key()]));
}

/// Forty-nine values and one of four bytes, the minimum length, which prevents skipping.
#[divan::bench(args = TEXTS)]
fn redactor_with_a_short_value(bencher: Bencher<'_, '_>, kind: &str) {
    let mut values = values(49);
    values.push("q7Zx".to_owned());
    stream(bencher, &values, &text(kind, &values));
}
