//! Requests names of 60 MiB of control characters, which the host has to escape wherever it writes
//! them.
use strongroom_test_guests::{arg, secrets};

fn main() {
    let name = "\u{1b}".repeat(60 << 20);
    for n in 0..20 {
        let refused = match arg(0).as_str() {
            "names" => secrets::get_secrets(std::slice::from_ref(&name)).is_err(),
            _ => secrets::get_secret(&name).is_err(),
        };
        println!("{n}: {refused}");
    }
}
