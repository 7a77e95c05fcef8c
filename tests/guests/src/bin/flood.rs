//! Prints endlessly on both streams; with `line`, a single line that never ends. A number, alone or
//! after `line`, limits the bytes for each stream. A name after that is a secret to read first.
use std::io::Write as _;
use strongroom_test_guests::{arg, secrets};

fn main() {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let text = match arg(0).as_str() {
        "line" => "x".repeat(8192),
        _ => format!("{}\n", "0123456789abcde".repeat(64)),
    };
    if !arg(2).is_empty() {
        secrets::get_secret(&arg(2)).unwrap();
    }
    let number = |n: usize| arg(n).parse::<usize>().ok();
    let mut remaining = number(0).or(number(1)).unwrap_or(usize::MAX);
    while remaining > 0 {
        let piece = &text.as_bytes()[..text.len().min(remaining)];
        out.write_all(piece).unwrap();
        err.write_all(piece).unwrap();
        remaining = remaining.saturating_sub(piece.len());
    }
}
