//! Requests as many existing names in one batch as its argument says.
use strongroom_test_guests::{arg, secrets, show};

fn main() {
    let names: Vec<_> = (0..arg(0).parse().unwrap()).map(|n: u32| format!("n{n}")).collect();
    let count_existing =
        |values: Vec<(String, Option<String>)>| values.iter().filter(|(_, value)| value.is_some()).count();
    println!("{}: {} values", names.len(), show(&secrets::get_secrets(&names).map(count_existing)));
}
