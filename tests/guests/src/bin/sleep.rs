//! Sleeps for an hour in a host call. With an argument, it first writes that text to a file.
use strongroom_test_guests::args;

fn main() {
    for text in args() {
        std::fs::write("/output/private", text).unwrap();
    }
    println!("sleeping");
    std::thread::sleep(std::time::Duration::from_secs(3600));
    println!("awake");
}
