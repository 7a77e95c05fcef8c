//! Makes a million requests that are denied, each for another name; with `shapes`, also invalid
//! names and other operations.
use strongroom_test_guests::{arg, secrets};

fn main() {
    let shapes = arg(0) == "shapes";
    let mut denied = 0_u64;
    for n in 0..1_000_000 {
        let is_denied = match n % 4 {
            1 if shapes => secrets::get_secret(&format!("../{n}")).is_err(),
            2 if shapes => secrets::set_secret(&format!("name-{n}"), "x").is_err(),
            3 if shapes => secrets::get_secrets(&[format!("NAME-{n}")]).is_err(),
            _ => secrets::get_secret(&format!("name-{n}")).is_err(),
        };
        denied += u64::from(is_denied);
    }
    println!("{denied} denied");
}
