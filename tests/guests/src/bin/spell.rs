//! Asks for one name in many spellings, and for what is no name, through every operation. Prints each answer.
use strongroom_test_guests::{arg, secrets, show};

fn main() {
    let name = arg(0);
    let upper = name.to_uppercase();
    let mixed: String =
        name.chars().enumerate().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    let long = "x".repeat(128);
    let spellings = [
        name.as_str(),
        &upper,
        &mixed,
        &format!("../secrets/{name}"),
        "../keys/x",
        &format!("{name}/version"),
        &format!("%2e%2e/{name}"),
        "",
        &long,
        &format!("{name}\u{e4}"),
        &format!("{name}\0"),
        &format!(" {name}"),
        &format!("{name}\n"),
        &format!("{name}?api-version=7.4"),
    ]
    .map(str::to_owned);
    for spelling in &spellings {
        println!("get {spelling:?}: {}", show(&secrets::get_secret(spelling)));
        println!("get-many {spelling:?}: {}", show(&secrets::get_secrets(std::slice::from_ref(spelling))));
        println!("describe {spelling:?}: {}", show(&secrets::describe_secret(spelling)));
        println!("set {spelling:?}: {}", show(&secrets::set_secret(spelling, "overwritten")));
        println!(
            "set-many {spelling:?}: {}",
            show(&secrets::set_secrets(&[(spelling.clone(), "overwritten".to_owned())]))
        );
        println!("delete {spelling:?}: {}", show(&secrets::delete_secret(spelling)));
        println!("delete-many {spelling:?}: {}", show(&secrets::delete_secrets(std::slice::from_ref(spelling))));
    }
    println!("list: {}", show(&secrets::list_secrets()));
}
