//! Reads a secret repeatedly until that is refused, then tries every other operation on it.
use strongroom_test_guests::{arg, secrets, show};

fn main() {
    let name = arg(0);
    let mut reads = 0_u64;
    let refusal = loop {
        match secrets::get_secret(&name) {
            Ok(_) => reads += 1,
            refused => break show(&refused.map(|value| value.len())),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    println!("{reads} reads, then {refusal}");
    for _ in 0..3 {
        println!("get {}", show(&secrets::get_secret(&name)));
        println!("get-many {}", show(&secrets::get_secrets(std::slice::from_ref(&name))));
        println!("describe {}", show(&secrets::describe_secret(&name)));
        println!("list {}", show(&secrets::list_secrets()));
        println!("set {}", show(&secrets::set_secret(&name, "later")));
        println!("delete {}", show(&secrets::delete_secret(&name)));
    }
}
