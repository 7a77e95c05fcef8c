//! An honest program that fails: text on standard error, exit code 1.
fn main() {
    eprintln!("the data has no rows");
    std::process::exit(1);
}
