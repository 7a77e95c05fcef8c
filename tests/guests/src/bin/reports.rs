//! Reports values of one metric, of a thousand metrics, or of ever new metrics, or progress,
//! endlessly or as often as its second argument says.
use strongroom_test_guests::{arg, context};

fn main() {
    let (kind, count) = (arg(0), arg(1).parse().unwrap_or(u64::MAX));
    let mut refused = 0;
    for n in 0..count {
        let result = match kind.as_str() {
            "progress" => context::report_progress(n, count, "on"),
            "names" => context::log_metric(&format!("loss-{n}"), n as f64, Some(n)),
            "spread" => context::log_metric(&format!("loss-{}", n % 1_000), n as f64, Some(n)),
            _ => context::log_metric("loss", n as f64, Some(n)),
        };
        refused += u64::from(result.is_err());
    }
    println!("{count} reported, {refused} refused");
}
