//! Fills `/output` in the way that its first argument names, endlessly or as often as the second
//! says.
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use strongroom_test_guests::arg;

fn main() {
    let block = vec![1; 1 << 16];
    let count = arg(1).parse().unwrap_or(u64::MAX);
    match arg(0).as_str() {
        "file" => {
            let mut file = File::create("/output/file").unwrap();
            loop {
                if file.write_all(&block).is_err() {
                    println!("a write failed, trying on");
                }
            }
        }
        "append" => loop {
            let mut file = OpenOptions::new().append(true).create(true).open("/output/log").unwrap();
            let _ = file.write_all(&block);
        },
        "sparse" => {
            let file = File::create("/output/sparse").unwrap();
            file.set_len(10 << 30).unwrap();
            println!("made a sparse file");
        }
        "seek" => {
            let mut file = File::create("/output/far").unwrap();
            file.seek(SeekFrom::Start(10 << 30)).unwrap();
            file.write_all(b"x").unwrap();
            println!("wrote far away");
        }
        "files" => {
            for n in 0..count {
                File::create(format!("/output/{n}")).unwrap();
                if n % 1_000 == 999 {
                    println!("made {}", n + 1);
                }
            }
        }
        "folders" => {
            for n in 0..count {
                fs::create_dir(format!("/output/{n}")).unwrap();
                if n % 1_000 == 999 {
                    println!("made {}", n + 1);
                }
            }
        }
        // Removed files that are still open occupy space.
        "removed" => {
            let mut open = Vec::new();
            for n in 0.. {
                let path = format!("/output/{n}");
                let mut file = File::create(&path).unwrap();
                file.write_all(&block).unwrap();
                fs::remove_file(&path).unwrap();
                open.push(file);
            }
        }
        other => panic!("no way `{other}`"),
    }
}
