//! Requests one name in many spellings, and invalid names, through every operation. If its second
//! argument is a granted name, it also requests batches that contain that one too. Prints each
//! result.
use strongroom_test_guests::{arg, secrets, show};

fn main() {
    let (name, granted) = (arg(0), arg(1));
    let upper = name.to_uppercase();
    let mixed: String =
        name.chars().enumerate().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    // The maximum length, and one character more.
    let [long, longer] = [127, 128].map(|length| "x".repeat(length));
    let spellings = [
        name.as_str(),
        &upper,
        &mixed,
        &long,
        &format!("../secrets/{name}"),
        "../keys/x",
        "a/b",
        &format!("{name}/version"),
        &format!("%2e%2e/{name}"),
        "%2e%2e",
        "",
        ".",
        "*",
        &format!("{name}*"),
        &longer,
        &format!("{name}\u{e4}"),
        // Common case folding turns these characters into an ASCII k and s.
        &name.replace('k', "\u{212a}"),
        &name.replace('s', "\u{17f}"),
        &format!("{name}\0"),
        "\0",
        &format!(" {name}"),
        &format!("{name}\n"),
        &format!("{name}?api-version=7.4"),
    ]
    .map(str::to_owned);
    for spelling in &spellings {
        println!("get {spelling:?}: {}", show(&secrets::get_secret(spelling)));
        println!("describe {spelling:?}: {}", show(&secrets::describe_secret(spelling)));
        println!("set {spelling:?}: {}", show(&secrets::set_secret(spelling, "overwritten")));
        println!("delete {spelling:?}: {}", show(&secrets::delete_secret(spelling)));
        batches(spelling, "", std::slice::from_ref(spelling));
        if !granted.is_empty() {
            batches(spelling, "-behind", &[granted.clone(), spelling.clone()]);
            batches(spelling, "-before", &[spelling.clone(), granted.clone()]);
        }
    }
    println!("list: {}", show(&secrets::list_secrets()));
}

fn batches(spelling: &str, suffix: &str, names: &[String]) {
    println!("get-many{suffix} {spelling:?}: {}", show(&secrets::get_secrets(names)));
    let values: Vec<_> = names.iter().map(|name| (name.clone(), "overwritten".to_owned())).collect();
    println!("set-many{suffix} {spelling:?}: {}", show(&secrets::set_secrets(&values)));
    println!("delete-many{suffix} {spelling:?}: {}", show(&secrets::delete_secrets(names)));
}
