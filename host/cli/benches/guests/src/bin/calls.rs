//! Reads secrets and prints the mean time of a read in nanoseconds.
//!
//! `calls NAMES REPEATS` reads `key-0` and so on once each, then the first one repeatedly, and
//! prints the mean of each kind.

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
    // Subtracted below, because reading the clock is a host call too.
    let started = Instant::now();
    for _ in 0..100 {
        black_box(Instant::now());
    }
    let clock = started.elapsed().as_nanos() as f64 / 100.0;

    let started = Instant::now();
    for name in &names {
        black_box(secrets::get_secret(name).unwrap());
    }
    let first = (started.elapsed().as_nanos() as f64 - clock) / names.len() as f64;
    let started = Instant::now();
    for _ in 0..repeats {
        black_box(secrets::get_secret(&names[0]).unwrap());
    }
    let again = (started.elapsed().as_nanos() as f64 - clock) / repeats.max(1) as f64;
    println!("{first:.0} {again:.0}");
}
