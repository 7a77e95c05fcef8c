//! Asks for one secret, which the benchmark's vault answers when it likes.

fn main() {
    #[cfg(target_family = "wasm")]
    strongroom_bench_guests::secrets::get_secret("parked").unwrap();
}
