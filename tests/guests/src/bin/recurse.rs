//! Recurses until the engine's stack is exhausted, without using the stack in the program's own
//! memory.
use strongroom_test_guests::args;

/// Division prevents the compiler from turning the recursion into a loop.
fn down(n: u64, end: u64) -> u64 {
    if n == end { n } else { down(n + 1, end) / (n | 1) }
}

fn main() {
    // A depth that is never reached.
    println!("{}", down(0, u64::MAX - args().len() as u64));
}
