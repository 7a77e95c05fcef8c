//! Accumulates state that the host has to track, as its argument says: truncated files, nested
//! folders, open listings.
use strongroom_test_guests::arg;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

fn output() -> Descriptor {
    get_directories().into_iter().find(|(_, name)| name == "/output").unwrap().0
}

fn main() {
    let output = output();
    let file = DescriptorFlags::READ | DescriptorFlags::WRITE;
    match arg(0).as_str() {
        // A write that is charged before its file is truncated and completes afterwards.
        "truncate" => {
            let block = vec![7; 1 << 16];
            for n in 0..1_000 {
                let name = format!("{n}");
                let open = output.open_at(PathFlags::empty(), &name, OpenFlags::CREATE, file).unwrap();
                open.set_size(block.len() as u64).unwrap();
                let stream = open.write_via_stream(0).unwrap();
                assert!(stream.check_write().unwrap() >= block.len() as u64);
                stream.write(&block).unwrap();
                if n % 2 == 0 {
                    open.set_size(0).unwrap();
                } else {
                    drop(output.open_at(PathFlags::empty(), &name, OpenFlags::TRUNCATE, file).unwrap());
                }
                stream.blocking_flush().unwrap();
                drop(stream);
                assert_eq!(open.stat().unwrap().size, 0, "bytes remain after truncation");
            }
            println!("all were given back");
        }
        "deep" => {
            let mut at = output;
            for _ in 0..1_500 {
                at.create_directory_at("d").unwrap();
                let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
                at = at.open_at(PathFlags::empty(), "d", OpenFlags::DIRECTORY, flags).unwrap();
            }
        }
        "listings" => {
            let mut open = Vec::new();
            while let Ok(listing) = output.read_directory() {
                open.push(listing);
                assert!(open.len() < 100, "{} listings are open", open.len());
            }
            drop(open.pop());
            println!("again after one was closed: {}", output.read_directory().is_ok());
        }
        other => panic!("no way `{other}`"),
    }
}
