//! Holds resources without end: timers, or open files.
use strongroom_test_guests::arg;

fn main() {
    match arg(0).as_str() {
        "files" => {
            std::fs::write("/output/file", "x").unwrap();
            let mut open = Vec::new();
            loop {
                open.push(std::fs::File::open("/output/file").unwrap());
            }
        }
        _ => {
            let mut timers = Vec::new();
            loop {
                timers.push(wasip2::clocks::monotonic_clock::subscribe_duration(3_600_000_000_000));
            }
        }
    }
}
