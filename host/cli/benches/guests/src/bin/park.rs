//! Reads one secret, for which the benchmark's vault waits.

fn main() {
    #[cfg(target_family = "wasm")]
    strongroom_bench_guests::secrets::get_secret("parked").unwrap();
}
