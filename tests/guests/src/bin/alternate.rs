//! Writes two values of 24 KiB in turn to one secret, ten thousand times.
use strongroom_test_guests::secrets;

fn main() {
    let values = ["a", "b"].map(|letter| letter.repeat(24 << 10));
    for (n, value) in values.iter().cycle().take(10_000).enumerate() {
        if let Err(error) = secrets::set_secret("key", value) {
            println!("write {n}: {error:?}");
            return;
        }
    }
    println!("all written");
}
