//! Metrics, metrics of as many names, or progress reports: as many as its second argument says, or without end.
use strongroom_test_guests::{arg, context};

fn main() {
    let (kind, most) = (arg(0), arg(1).parse().unwrap_or(u64::MAX));
    let mut refused = 0;
    for n in 0..most {
        let answer = match kind.as_str() {
            "progress" => context::report_progress(n, most, "on"),
            "names" => context::log_metric(&format!("loss-{n}"), n as f64, Some(n)),
            _ => context::log_metric("loss", n as f64, Some(n)),
        };
        refused += u64::from(answer.is_err());
    }
    println!("{most} reported, {refused} refused");
}
