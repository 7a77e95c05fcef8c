//! Reports values of one metric, of a thousand metrics, or of ever new metrics, progress, tags,
//! logged parameters or text metrics, endlessly or as often as its second argument says.
use strongroom_test_guests::{arg, context};

fn main() {
    let (kind, count) = (arg(0), arg(1).parse().unwrap_or(u64::MAX));
    let mut refused = 0;
    let text = "x".repeat(8_192);
    for n in 0..count {
        let result = match kind.as_str() {
            "progress" => context::report_progress(n, count, "on"),
            "names" => context::log_metric(&format!("loss-{n}"), n as f64, Some(n)),
            "tags" => context::set_tag(&format!("tag-{n}"), "value"),
            "parameters" => context::log_parameter(&format!("parameter-{n}"), &text),
            "text-names" => context::log_text(&format!("text-{n}"), "", Some(n)),
            "texts" => context::log_text("text", &n.to_string(), Some(n)),
            "spread" => context::log_metric(&format!("loss-{}", n % 1_000), n as f64, Some(n)),
            _ => context::log_metric("loss", n as f64, Some(n)),
        };
        refused += u64::from(result.is_err());
    }
    println!("{count} reported, {refused} refused");
}
