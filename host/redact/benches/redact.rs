//! Throughput of the redactor, and how long it occupies a thread that other runs use.
//!
//! Run with `cargo bench -p strongroom-redact --bench redact`. `docs/benchmarks.md` has the results
//! and what limits them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark stops where it goes wrong")]

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use divan::Bencher;
use divan::counter::BytesCount;
use strongroom_core::ids::SecretName;
use strongroom_core::secret::Secret;
use strongroom_redact::Redactor;

/// The maximum length of one write of a component.
const WRITE: usize = 8 * 1024;

/// The length of a clean text: too long for branch predictors to learn.
const CLEAN: usize = 1 << 20;

/// The length of a hostile text: short enough to be read within one time slice.
const HOSTILE: usize = 64 * 1024;

/// The texts: three clean, two hostile.
const TEXTS: [&str; 5] = ["log", "base64", "numbers", "beginnings", "almost"];

fn main() {
    divan::main();
}

/// SplitMix64, a deterministic pseudo-random generator.
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

/// Returns values as in vaults: tokens, passwords with special characters, keys in hexadecimal and
/// base64, connection strings, documents.
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

/// Returns a private key of 25 KB, in lines.
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
    redactor
}

/// Returns a text of a kind. `beginnings` are prefixes of values, plain or encoded; `almost` are
/// values without their last byte, repeated.
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

/// Copying, the lower bound for any redactor.
#[divan::bench]
fn copying(bencher: Bencher<'_, '_>) {
    writes(bencher, &text("log", &values(50)), |chunk, out| out.extend_from_slice(chunk));
}

/// No values: runs to which no secret was released.
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

/// 49 values and one of four bytes, the shortest possible.
#[divan::bench(args = TEXTS)]
fn redactor_with_a_short_value(bencher: Bencher<'_, '_>, kind: &str) {
    let mut values = values(49);
    values.push("q7Zx".to_owned());
    stream(bencher, &values, &text(kind, &values));
}

/// One write of a component that has set values so that it takes as long as possible. Other runs on
/// the thread wait for it. `common`: values that begin alike and end in characters that every
/// encoder changes in its own way. `nested`: as many lengths as possible of the same character.
/// `parts`: at each position of the text another value starts.
#[divan::bench(args = ["common", "nested", "parts"])]
fn hostile_write(bencher: Bencher<'_, '_>, kind: &str) {
    let random = Numbers(4).letters(ALNUM, 3 * WRITE);
    let beginning = "b".repeat(128);
    // 60 lengths up to the next power of two, for each power of two.
    let nested = (2..15_u32).flat_map(|power| (0..60).map(move |at| (1 << power) + at));
    let (values, text): (Vec<String>, &str) = match kind {
        "common" => ((0..3_000).map(|at| format!("{beginning}\"'<&>/=`+ {at:x}\n")).collect(), &beginning),
        "nested" => (nested.map(|len| "a".repeat(len)).collect(), "a"),
        _ => ((0..2_000).map(|at| random[at * 5..at * 5 + 3_000].to_owned()).collect(), &random),
    };
    let redactor = Redactor::new();
    let name = SecretName::parse("x").unwrap();
    let accepted = values.iter().filter(|value| redactor.try_register(&name, &Secret::new((*value).clone()).unwrap()));
    assert!(accepted.count() > 100);
    let text: Vec<u8> = text.bytes().cycle().take(WRITE).collect();
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        stream.push(black_box(&text), &mut out);
    });
}

/// Registering a value in a new redactor.
#[divan::bench(args = ["token", "key of 25 KB", "lines of 6 bytes", "quotes"])]
fn registration(bencher: Bencher<'_, '_>, kind: &str) {
    let value = match kind {
        "token" => values(1).remove(0),
        "key of 25 KB" => key(),
        "lines of 6 bytes" => (0..3_600).map(|line| format!("{line:06x}\n")).collect(),
        _ => "\"'<&>/=`+".repeat(2_800),
    };
    let (name, value) = (SecretName::parse("x").unwrap(), Secret::new(value).unwrap());
    bencher.with_inputs(Redactor::new).bench_local_values(|redactor| {
        assert!(redactor.try_register(&name, &value));
        redactor
    });
}
