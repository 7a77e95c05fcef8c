//! Reads a file in `/input` that is a hard link to a file elsewhere, and tries every way to change
//! it.
use std::fs::{self, File, OpenOptions};
use std::io;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

fn report<T, E: std::fmt::Debug>(what: &str, result: Result<T, E>) {
    match result {
        Ok(_) => println!("{what}: DONE"),
        Err(error) => println!("{what}: {error:?}"),
    }
}

fn main() {
    let path = "/input/linked";
    println!("read: {:?}", fs::read_to_string(path));
    report("write", fs::write(path, "changed"));
    report("append", OpenOptions::new().append(true).open(path));
    report("truncate", OpenOptions::new().write(true).truncate(true).open(path));
    report("create over", File::create(path));
    report("remove", fs::remove_file(path));
    report("rename", fs::rename(path, "/input/other"));
    report("rename out", fs::rename(path, "/output/taken"));
    report("link out", fs::hard_link(path, "/output/linked"));
    let input = folder("/input");
    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    report("open to write", input.open_at(PathFlags::empty(), "linked", OpenFlags::empty(), write));
    report("times by path", input.set_times_at(PathFlags::empty(), "linked", NewTimestamp::Now, NewTimestamp::Now));
    let file = input.open_at(PathFlags::empty(), "linked", OpenFlags::empty(), DescriptorFlags::READ).unwrap();
    report("write through a handle", file.write(b"changed", 0));
    report("size through a handle", file.set_size(0));
    report("times through a handle", file.set_times(NewTimestamp::Now, NewTimestamp::Now));
    report("stream through a handle", file.write_via_stream(0).map(drop));
    report("append through a handle", file.append_via_stream().map(drop));
    report("link to the output", input.link_at(PathFlags::empty(), "linked", &folder("/output"), "linked"));
    report("copy, as anybody who may read", fs::copy(path, "/output/copy").map_err(|error: io::Error| error.kind()));
}

fn folder(name: &str) -> Descriptor {
    get_directories().into_iter().find(|(_, path)| path == name).unwrap().0
}
