//! Reads, lists and writes through a name in `/input` that the test swaps between a folder and a
//! link to another folder. Counts the results.
use std::fs;

fn main() {
    let (mut inside, mut outside, mut none) = (0_u64, 0_u64, 0_u64);
    println!("reading");
    while !fs::exists("/input/stop").unwrap_or(false) {
        match fs::read_to_string("/input/swapped/file") {
            Ok(text) if text == "inside" => inside += 1,
            Ok(_) => outside += 1,
            Err(_) => none += 1,
        }
        outside += u64::from(fs::write("/input/swapped/planted", "x").is_ok());
        let names = fs::read_dir("/input/swapped").into_iter().flatten().flatten().map(|entry| entry.file_name());
        outside += names.filter(|name| name == "other").count() as u64;
    }
    println!("inside: {inside} outside: {outside} none: {none}");
    println!("at last: {:?}", fs::read_to_string("/input/swapped/file"));
}
