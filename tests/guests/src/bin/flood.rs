//! Prints without end on both streams; with `line`, one line that never ends. A number, alone or behind `line`, is how many bytes of it go to each
//! stream; a name behind that is a secret that is read before.
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
    let mut left = number(0).or(number(1)).unwrap_or(usize::MAX);
    while left > 0 {
        let piece = &text.as_bytes()[..text.len().min(left)];
        out.write_all(piece).unwrap();
        err.write_all(piece).unwrap();
        left = left.saturating_sub(piece.len());
    }
}
