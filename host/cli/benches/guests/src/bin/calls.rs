//! Reads secrets, and prints how many nanoseconds a read took.
//!
//! `calls NAMES REPEATS`: reads `key-0` and so on once each, then the first of them again and again. Prints the mean of either kind.

fn main() {
    #[cfg(target_family = "wasm")]
    reads();
}

#[cfg(target_family = "wasm")]
fn reads() {
    use std::hint::black_box;
    use std::time::Instant;

    use strongroom_bench_guests::{number, secrets};

    let (names, repeats) = (number(0), number(1));
    let names: Vec<String> = (0..names).map(|n| format!("key-{n}")).collect();
    // Reading the clock is a call to the host as well.
    let begun = Instant::now();
    for _ in 0..100 {
        black_box(Instant::now());
    }
    let clock = begun.elapsed().as_nanos() as f64 / 100.0;

    let begun = Instant::now();
    for name in &names {
        black_box(secrets::get_secret(name).unwrap());
    }
    let first = (begun.elapsed().as_nanos() as f64 - clock) / names.len() as f64;
    let begun = Instant::now();
    for _ in 0..repeats {
        black_box(secrets::get_secret(&names[0]).unwrap());
    }
    let again = (begun.elapsed().as_nanos() as f64 - clock) / repeats.max(1) as f64;
    println!("{first:.0} {again:.0}");
}
