//! Sleeps for an hour, blocked in the host.
fn main() {
    println!("sleeping");
    std::thread::sleep(std::time::Duration::from_secs(3600));
    println!("awake");
}
