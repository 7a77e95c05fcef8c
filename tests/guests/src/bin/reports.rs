//! Metrics or progress reports without end.
use strongroom_test_guests::{arg, context};

fn main() {
    for n in 0.. {
        match arg(0).as_str() {
            "progress" => drop(context::report_progress(n, 0, "on")),
            _ => drop(context::log_metric("loss", n as f64, Some(n))),
        }
    }
}
