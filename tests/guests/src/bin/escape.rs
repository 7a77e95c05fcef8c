//! Tries to leave its folders: `..`, absolute paths, links made in `/output` or present in `/input`, renames. Prints what came of each.
use std::fs;
use std::io;

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
        "/input/link-out",
        "/input/folder-out/passwd",
    ] {
        report(&format!("read {path}"), fs::read(path));
    }
    report("list /", fs::read_dir("/").map(|entries| entries.count()));
    for path in [
        "/output/../escaped.txt",
        "/escaped.txt",
        "../escaped.txt",
        "/input/escaped.txt",
        "/input/folder-out/escaped.txt",
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
}

fn symlink(target: &str, name: &str) -> io::Result<()> {
    let output =
        wasip2::filesystem::preopens::get_directories().into_iter().find(|(_, path)| path == "/output").unwrap().0;
    output.symlink_at(target, name).map_err(|code| io::Error::other(format!("{code:?}")))
}
