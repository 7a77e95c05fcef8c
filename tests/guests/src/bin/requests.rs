//! A million denied requests.
use strongroom_test_guests::secrets;

fn main() {
    let mut denied = 0_u64;
    for n in 0..1_000_000 {
        denied += u64::from(secrets::get_secret(&format!("name-{n}")).is_err());
    }
    println!("{denied} denied");
}
