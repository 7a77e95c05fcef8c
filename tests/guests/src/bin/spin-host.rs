//! Calls the host forever.
use strongroom_test_guests::context;

fn main() {
    loop {
        std::hint::black_box(context::run_id());
    }
}
