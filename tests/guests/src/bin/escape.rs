//! Tries to leave its folders by `..`, absolute paths, links created in `/output` or present in
//! `/input`, renames, and the paths in its arguments. Prints each result.
use std::fs;
use std::io;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

fn report<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => println!("{what}: DONE"),
        Err(error) => println!("{what}: {:?}", error.kind()),
    }
}

fn main() {
    for path in [
        "/etc/passwd",
        "../etc/passwd",
        "/input/../../etc/passwd",
        "/output/../outside.txt",
        "/output/../../../../etc/passwd",
        "/proc/self/environ",
        "/",
        "/proc/1/environ",
        "/dev/null",
        "/input/link-out",
        "/input/folder-out/passwd",
        "/input/up/outside.txt",
        "/input/link-to-link",
        "/input/link-home",
        "/output/../policy.toml",
        "/output/../home/vault/vault.key",
        "/output//../../outside.txt",
        "/output/./../outside.txt",
        "/output/sub/../../outside.txt",
        "/input/\0/../../etc/passwd",
    ] {
        report(&format!("read {path}"), fs::read(path));
    }
    for path in std::env::args().skip(1) {
        report(&format!("read {path}"), fs::read(&path));
        report(&format!("write {path}"), fs::write(&path, "x"));
        report(&format!("list {path}"), fs::read_dir(&path).map(|entries| entries.count()));
    }
    report("list /", fs::read_dir("/").map(|entries| entries.count()));
    for path in [
        "/output/../escaped.txt",
        "/escaped.txt",
        "../escaped.txt",
        "/input/escaped.txt",
        "/input/folder-out/escaped.txt",
        "/input/up/escaped.txt",
        "/input/dangling",
    ] {
        report(&format!("write {path}"), fs::write(path, "x"));
    }
    fs::write("/output/file", "mine").unwrap();
    report("hard link", fs::hard_link("/output/file", "/output/hard"));
    report("hard link of input", fs::hard_link("/input/data.txt", "/output/hard-input"));
    report("symbolic link", symlink("/etc/passwd", "link"));
    report("relative symbolic link", symlink("../../../../etc/passwd", "relative"));
    report("read through the link", fs::read("/output/link"));
    report("rename out", fs::rename("/output/file", "/output/../escaped.txt"));
    report("rename input away", fs::rename("/input/data.txt", "/output/taken.txt"));
    report("rename into input", fs::rename("/output/file", "/input/planted.txt"));
    report("remove input", fs::remove_file("/input/data.txt"));
    report("read fifo", fs::read("/input/fifo"));
    report("write fifo", fs::write("/input/fifo", "x"));
    try_moved_folder();
}

/// Uses handles of folders that were moved, so that `..` leads elsewhere than before.
fn try_moved_folder() {
    let output = output();
    for path in ["a", "a/b", "a/b/c"] {
        output.create_directory_at(path).unwrap();
    }
    let folder = |path: &str| {
        let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
        output.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::DIRECTORY, flags).unwrap()
    };
    let deep = folder("a/b/c");
    output.rename_at("a/b/c", &output, "moved").unwrap();
    let report = |what: &str, done: bool| println!("{what} from a moved folder: {}", if done { "DONE" } else { "no" });
    for path in ["..", "../..", "../outside.txt", "../../outside.txt", "../../../etc/passwd", "/etc/passwd"] {
        let opened = deep.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ);
        report(&format!("open {path}"), opened.is_ok());
        report(&format!("stat {path}"), deep.stat_at(PathFlags::SYMLINK_FOLLOW, path).is_ok());
        report(&format!("hash {path}"), deep.metadata_hash_at(PathFlags::empty(), path).is_ok());
    }
    report("make ../escaped.txt", deep.create_directory_at("../escaped.txt").is_ok());
    report("rename .", output.rename_at(".", &deep, "x").is_ok());
    report("rename onto ..", output.rename_at("file", &deep, "../../escaped.txt").is_ok());
    report("remove ..", deep.remove_directory_at("..").is_ok());
}

fn output() -> Descriptor {
    get_directories().into_iter().find(|(_, path)| path == "/output").unwrap().0
}

fn symlink(target: &str, name: &str) -> io::Result<()> {
    output().symlink_at(target, name).map_err(|code| io::Error::other(format!("{code:?}")))
}
