//! An honest program that prints its arguments and environment and succeeds.
use strongroom_test_guests::args;

fn main() {
    println!("hello, {:?}", args());
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    eprintln!("and this is standard error");
    let mut line = String::new();
    println!("stdin has {} bytes", std::io::stdin().read_line(&mut line).unwrap());
}
