//! Prints without end on both streams; with `line`, one line that never ends; with a number, that many bytes and no more.
use std::io::Write as _;
use strongroom_test_guests::arg;

fn main() {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let text = match arg(0).as_str() {
        "line" => "x".repeat(8192),
        _ => format!("{}\n", "0123456789abcde".repeat(64)),
    };
    let mut left = arg(0).parse::<usize>().unwrap_or(usize::MAX);
    while left > 0 {
        let piece = &text.as_bytes()[..text.len().min(left)];
        out.write_all(piece).unwrap();
        err.write_all(piece).unwrap();
        left = left.saturating_sub(piece.len());
    }
}
