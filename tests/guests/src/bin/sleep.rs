//! Sleeps for an hour, blocked in the host. With an argument, it leaves that text in a file before.
use strongroom_test_guests::args;

fn main() {
    for text in args() {
        std::fs::write("/output/private", text).unwrap();
    }
    println!("sleeping");
    std::thread::sleep(std::time::Duration::from_secs(3600));
    println!("awake");
}
