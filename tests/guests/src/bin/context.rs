//! Uses all of the context interface, with valid and invalid arguments.
use strongroom_test_guests::context;

fn main() {
    println!("run {}", context::run_id());
    println!("parameter epochs {:?}", context::parameter("epochs"));
    println!("parameter absent {:?}", context::parameter("absent"));
    println!("parameters {:?}", context::parameters());
    for step in 0..3 {
        context::log_metric("loss", 1.0 / (step as f64 + 1.0), Some(step)).unwrap();
    }
    context::log_metric("odd", f64::NAN, None).unwrap();
    context::log_metric("odd", f64::INFINITY, None).unwrap();
    println!("empty name {:?}", context::log_metric("", 0.0, None));
    println!("line break {:?}", context::log_metric("a\nb", 0.0, None));
    println!("long {:?}", context::log_metric(&"x".repeat(129), 0.0, None));
    context::report_progress(2, 3, "two of three").unwrap();
    println!("long message {:?}", context::report_progress(0, 0, &"x".repeat(1025)));
}
