//! Asks for as many names at once as its argument says, all of which exist.
use strongroom_test_guests::{arg, secrets, show};

fn main() {
    let names: Vec<_> = (0..arg(0).parse().unwrap()).map(|n: u32| format!("n{n}")).collect();
    let there = |values: Vec<(String, Option<String>)>| values.iter().filter(|(_, value)| value.is_some()).count();
    println!("{}: {} values", names.len(), show(&secrets::get_secrets(&names).map(there)));
}
