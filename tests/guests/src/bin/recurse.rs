//! Recurses until the engine's stack ends, without touching the stack that the program keeps in its own memory.
use strongroom_test_guests::args;

/// Division keeps the compiler from making a loop of it.
fn down(n: u64, end: u64) -> u64 {
    if n == end { n } else { down(n + 1, end) / (n | 1) }
}

fn main() {
    // As many as never are reached.
    println!("{}", down(0, u64::MAX - args().len() as u64));
}
