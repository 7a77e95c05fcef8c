//! Reads `/input`, writes nested files to `/output`, rewrites, renames and removes some, and tries
//! to write `/input`.
use std::fs;

fn main() {
    match fs::read_to_string("/input/data.txt") {
        Ok(text) => println!("input: {}", text.trim_end()),
        Err(error) => println!("input: {error}"),
    }
    println!("write input: {:?}", fs::write("/input/new.txt", "x").map_err(|error| error.kind()));
    println!("change input: {:?}", fs::write("/input/data.txt", "x").map_err(|error| error.kind()));
    println!("remove input: {:?}", fs::remove_file("/input/data.txt").map_err(|error| error.kind()));
    fs::create_dir_all("/output/models/best").unwrap();
    fs::write("/output/models/best/weights.bin", [7; 1000]).unwrap();
    fs::write("/output/report.txt", "first").unwrap();
    fs::write("/output/report.txt", "second").unwrap();
    fs::write("/output/temporary", "x").unwrap();
    fs::rename("/output/temporary", "/output/final.txt").unwrap();
    fs::write("/output/gone", "x").unwrap();
    fs::remove_file("/output/gone").unwrap();
    println!("read back: {}", fs::read_to_string("/output/report.txt").unwrap());
}
