//! Calls the host for ever.
use strongroom_test_guests::context;

fn main() {
    loop {
        std::hint::black_box(context::run_id());
    }
}
