//! Recurses until the stack ends.
#[expect(unconditional_recursion, reason = "that is what this guest is for")]
fn down(n: u64) -> u64 {
    let here = std::hint::black_box([n; 32]);
    down(std::hint::black_box(n + 1)) + here[0]
}

fn main() {
    println!("{}", down(0));
}
