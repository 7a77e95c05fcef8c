//! Panics. With the name of a secret as its argument, the panic message contains that secret's
//! value.
use strongroom_test_guests::{arg, secrets};

fn main() {
    let name = arg(0);
    if name.is_empty() {
        panic!("something is wrong");
    }
    let value = secrets::get_secret(&name).unwrap();
    panic!("something is wrong with {value}");
}
