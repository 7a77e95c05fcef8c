//! An honest program near its quota that rewrites a checkpoint many times, by truncation,
//! replacement and removal. Only existing files count towards the quota.
use std::fs;

fn main() {
    let block = vec![1; 100_000];
    for _ in 0..20 {
        fs::write("/output/truncated", &block).unwrap();
        fs::write("/output/checkpoint.new", &block).unwrap();
        fs::rename("/output/checkpoint.new", "/output/checkpoint").unwrap();
        fs::write("/output/removed", &block).unwrap();
        fs::remove_file("/output/removed").unwrap();
        fs::create_dir("/output/folder").unwrap();
        fs::remove_dir("/output/folder").unwrap();
    }
    let file = fs::OpenOptions::new().write(true).open("/output/truncated").unwrap();
    for _ in 0..20 {
        file.set_len(10).unwrap();
        file.set_len(100_000).unwrap();
    }
    println!("rewritten");
}
