//! Arguments too large: a name of 128 MiB, a list of a million names, a value of 100 MiB.
use strongroom_test_guests::{arg, secrets, show};

fn main() {
    let answer = match arg(0).as_str() {
        "name" => show(&secrets::get_secret(&"x".repeat(128 << 20))),
        "value" => show(&secrets::set_secret("key", &"x".repeat(100 << 20))),
        "list" => show(&secrets::get_secrets(&(0..1_000_000).map(|n| format!("n{n}")).collect::<Vec<_>>())),
        other => panic!("no way `{other}`"),
    };
    println!("{}", answer.chars().take(200).collect::<String>());
}
