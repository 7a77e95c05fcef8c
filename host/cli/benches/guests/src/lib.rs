//! Bindings of the guest contract for the benchmarks' guests.

#[cfg(target_family = "wasm")]
mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit", world: "program" });
}
#[cfg(target_family = "wasm")]
pub use bindings::strongroom::training::secrets;

/// Returns the `n`th argument as a number.
pub fn number(n: usize) -> usize {
    std::env::args().nth(n + 1).and_then(|text| text.parse().ok()).unwrap_or(0)
}
