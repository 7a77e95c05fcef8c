//! Uses the functions of the guest contract 0.1.1: tags, logged parameters, text metrics and the
//! time that is left, with valid and invalid arguments.
use strongroom_test_guests::context;

fn main() {
    context::log_parameter("learning_rate", "0.1").unwrap();
    context::log_parameter("learning_rate", "0.01").unwrap();
    context::set_tag("team", "red").unwrap();
    context::set_tag("team", "blue").unwrap();
    context::set_tag("draft", "yes").unwrap();
    context::remove_tag("draft").unwrap();
    context::remove_tag("never-set").unwrap();
    for (step, stage) in ["read", "fit", "write"].into_iter().enumerate() {
        context::log_text("stage", stage, Some(step as u64)).unwrap();
    }
    context::log_text("note", "", None).unwrap();
    let long = "x".repeat(8_193);
    println!("empty name {:?}", context::set_tag("", "value"));
    println!("line break {:?}", context::log_parameter("a\nb", "value"));
    println!("long name {:?}", context::log_text(&"x".repeat(129), "value", None));
    println!("long tag {:?}", context::set_tag("a", &long));
    println!("long parameter {:?}", context::log_parameter("a", &long));
    println!("long text {:?}", context::log_text("a", &long, None));
    let before = context::remaining_time().expect("a run has a time limit");
    let after = context::remaining_time().expect("a run has a time limit");
    println!("time left: {}, and it decreases: {}", before > 0, after <= before);
    println!("seconds {}", before.div_ceil(1_000_000_000));
}
