//! `/input` and `/output`: allowed operations, quotas, and attempts to escape.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use strongroom::record::{Limit, OUTPUTS_DISCARDED};

use crate::support::{Host, leftovers};

#[test]
fn outputs_are_published_and_listed() {
    let host = Host::new();
    host.file("in/data.txt", "seven");
    let run = host.run_with("folders", "version = 1", &["--input", "in", "--output", "out"], &[]).finished();
    let run = run.shows("input: seven").shows("read back: second");
    let run =
        ["write input: Err", "change input: Err", "remove input: Err"].iter().fold(run, |run, text| run.shows(text));
    let listed: Vec<_> = run.record.outputs.iter().map(|output| (output.path.as_str(), output.bytes)).collect();
    assert_eq!(listed, [("final.txt", 1), ("models/best/weights.bin", 1000), ("report.txt", 6)]);
    assert_eq!(run.record.outputs[2].sha256, strongroom::ids::Digest::of(b"second"));
    assert_eq!(std::fs::read_to_string(host.path().join("out/report.txt")).unwrap(), "second");
    assert_eq!(std::fs::read_to_string(host.path().join("in/data.txt")).unwrap(), "seven");
    assert_no_leftovers(&host);
}

// promise: A component has no standard input unless the specification names a regular file for it.
#[test]
fn standard_input_is_the_named_file_or_empty() {
    let host = Host::new();
    let text = "strongroom\n".repeat(300_000);
    host.file("text", &text);
    let sum: u64 = text.bytes().map(u64::from).sum();
    let run = host.run_with("stdin", "version = 1", &["--stdin", "text"], &[]).finished();
    run.shows(&format!("{} bytes, sum {sum}", text.len()));
    host.run_with("stdin", "version = 1", &[], &[]).finished().shows("0 bytes, sum 0");
}

#[test]
fn outputs_of_a_failed_run_are_not_published() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\noutput-bytes = \"1MiB\"";
    let run = host.run_with("fill", policy, &["--output", "out"], &["file"]).stopped(Limit::OutputBytes);
    assert!(!host.path().join("out").exists() && run.record.outputs.is_empty());
    assert_no_leftovers(&host);
}

// promise: Output quotas are charged before the call that uses them.
// attack: resources: fill the disk with large, sparse, appended, numerous or removed open files, or
// race with truncation -> quotas are charged before the call by apparent size, and freed only after
// pending writes have completed
#[test]
fn filling_the_output_is_stopped_at_its_quota() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\noutput-bytes = \"2MiB\"\noutput-files = 100";
    for way in ["file", "append", "sparse", "seek", "removed"] {
        let run = host.run("fill", policy, &[way]).stopped(Limit::OutputBytes);
        run.never_shows("made a sparse file").never_shows("wrote far away").never_shows("trying on");
    }
    for way in ["files", "folders"] {
        host.run("fill", policy, &[way]).stopped(Limit::OutputFiles);
    }
    assert_no_leftovers(&host);
}

// attack: resources: fill the disk with large, sparse, appended, numerous or removed open files, or
// race with truncation -> quotas are charged before the call by apparent size, and freed only after
// pending writes have completed
#[test]
fn quota_of_pending_write_is_not_freed_early() {
    let policy = "version = 1\n[limits]\noutput-bytes = \"8MiB\"";
    Host::new().run("pile", policy, &["truncate"]).finished().shows("all were given back");
}

// attack: resources: nest directories until they cannot be removed -> removal needs two descriptors
// at any depth
#[test]
fn too_deeply_nested_output_fails_and_is_removed() {
    let host = Host::new();
    let run = host.run_with("pile", "version = 1", &["--output", "out"], &["deep"]).failed();
    assert!(run.record.reason.unwrap().contains("nested too deeply"));
    assert!(!host.path().join("out").exists());
    assert_no_leftovers(&host);
}

// promise: Publishing outputs is bounded by the run's time limit.
// attack: resources: leave a sparse file that takes minutes to hash -> hashing is bounded by the
// run's time limit and honours cancellation; discarded outputs are not hashed
#[test]
fn hashing_a_huge_output_ends_at_the_time_limit() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\ntime = \"2s\"\noutput-bytes = \"20GiB\"";
    let run = host.run_with("fill", policy, &["--output", "out"], &["sparse"]).stopped(Limit::Time);
    assert!(run.record.reason.as_ref().unwrap().contains("hashed"), "{:?}", run.record.reason);
    assert!(!host.path().join("out").exists());
    // Without an output directory there is nothing to hash.
    let run = host.run("fill", policy, &["sparse"]).finished();
    assert!(run.record.warnings.iter().any(|warning| warning == OUTPUTS_DISCARDED), "{:?}", run.record.warnings);
    assert_no_leftovers(&host);
}

// attack: resources: hold files, streams, sockets, timers or its own resources -> both handle
// tables are capped
#[test]
fn open_directory_listings_are_limited() {
    let run = Host::new().run("pile", "version = 1", &["listings"]).finished();
    run.shows("again after one was closed: true");
}

// attack: escape: redirect outputs or inputs by moving or replacing directories before or during
// the run -> input, output and the parent of the output stay open from the check on, and outputs go
// only there, over nothing but an empty directory
#[test]
fn output_parent_replaced_by_link_gets_no_outputs() {
    let host = Host::new();
    for folder in ["in/swapped", "jobs", "elsewhere"] {
        std::fs::create_dir_all(host.path().join(folder)).unwrap();
    }
    let policy = "version = 1\n[limits]\ntime = \"2m\"";
    let mut run = host.start("race", policy, &["--input", "in", "--output", "jobs/out"], &[]);
    run.stderr.as_mut().unwrap().read_exact(&mut [0; 7]).unwrap();
    std::fs::rename(host.path().join("jobs"), host.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("elsewhere", host.path().join("jobs")).unwrap();
    host.file("in/stop", "");
    let run = crate::support::EndedRun::from(run.wait_with_output().unwrap());
    assert_eq!((run.code, run.record.outcome), (5, strongroom::record::Outcome::HostFault));
    let reason = run.record.reason.unwrap();
    assert!(reason.contains("the parent of the output directory was moved or replaced during the run"), "{reason}");
    for folder in ["elsewhere", "moved"] {
        let entries: Vec<_> = std::fs::read_dir(host.path().join(folder)).unwrap().collect();
        assert!(entries.is_empty(), "{folder}: {entries:?}");
    }
    assert_no_leftovers(&host);
}

#[test]
fn quota_counts_only_existing_files() {
    // Three files of 100,000 bytes exist at a time, and are rewritten repeatedly.
    let policy = "version = 1\n[limits]\noutput-bytes = \"400KiB\"\noutput-files = 4";
    let run = Host::new().run_with("rewrite", policy, &["--output", "out"], &[]).finished().shows("rewritten");
    assert_eq!(run.record.outputs.len(), 2);
}

// promise: No path leads out of the directories of a run.
// attack: escape: leave its directories by `..`, absolute paths, links in `/input`, renames or
// handles of moved directories -> files are opened relative to an open directory that no path
// leaves
// attack: escape: create a link in `/output` that a careless reader follows -> a component cannot
// create links
// attack: escape: block a thread of the host on a FIFO in `/input` -> only regular files and
// directories are opened
#[test]
fn component_reaches_nothing_outside_its_folders() {
    let host = Host::new();
    host.file("in/data.txt", "seven");
    host.file("outside.txt", "not for components");
    for (name, target) in [
        ("link-out", "/etc/passwd"),
        ("folder-out", "/etc"),
        ("up", ".."),
        ("link-home", "../home/vault/vault.key"),
        ("link-to-link", "link-out"),
        ("dangling", "../made-by-the-component"),
    ] {
        std::os::unix::fs::symlink(target, host.path().join("in").join(name)).unwrap();
    }
    rustix::fs::mknodat(rustix::fs::CWD, host.path().join("in/fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let policy = "version = 1\n[limits]\ntime = \"20s\"";
    let run = host.run_with("escape", policy, &["--input", "in", "--output", "out"], &[]).finished();
    let done: Vec<_> = run.shown.lines().filter(|line| line.ends_with(": DONE")).collect();
    // Of the root, the component sees only its own folders.
    assert!(done.is_empty() || done == ["list /: DONE"], "{done:?}\n{}", run.shown);
    assert!(run.shown.lines().filter(|line| line.contains(": ")).count() > 60, "{}", run.shown);
    let outputs: Vec<_> = run.record.outputs.iter().map(|output| output.path.as_str()).collect();
    assert_eq!(outputs, ["file"]);
    for escaped in ["escaped.txt", "in/planted.txt", "in/escaped.txt", "made-by-the-component", "home/escaped.txt"] {
        assert!(!host.path().join(escaped).exists(), "{escaped}");
    }
    assert_eq!(std::fs::read_to_string(host.path().join("outside.txt")).unwrap(), "not for components");
    assert_eq!(std::fs::read_to_string(host.path().join("in/data.txt")).unwrap(), "seven");
    assert!(!std::path::Path::new("/escaped.txt").exists());
    // No link was created, not even a dangling one.
    let links = std::fs::read_dir(host.path().join("out")).unwrap();
    assert!(links.map(|entry| entry.unwrap().file_type().unwrap()).all(|kind| !kind.is_symlink()));
}

// attack: escape: change a file of the operator through a hard link in `/input` -> nothing in
// `/input` can be opened for writing, and outputs are new files
#[test]
fn hard_link_in_input_is_never_changed() {
    let host = Host::new();
    // For the system, a hard link to an operator's file elsewhere is a file of this folder.
    let outside = host.file("elsewhere/file", "of the operator");
    host.file("in/data.txt", "seven");
    std::fs::hard_link(&outside, host.path().join("in/linked")).unwrap();
    let before = std::fs::metadata(&outside).unwrap();
    let run = host.run_with("hardlink", "version = 1", &["--input", "in", "--output", "out"], &[]).finished();
    let run = run.shows("read: Ok(\"of the operator\")");
    let done: Vec<_> = run.shown.lines().filter(|line| line.ends_with(": DONE")).collect();
    assert_eq!(done, ["copy, as anybody who may read: DONE"], "{}", run.shown);
    assert_eq!(run.shown.lines().filter(|line| line.contains(": ")).count(), 18, "{}", run.shown);
    let after = std::fs::metadata(&outside).unwrap();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "of the operator");
    let attributes = |meta: &std::fs::Metadata| (meta.nlink(), meta.ino(), meta.mode(), meta.modified().unwrap());
    assert_eq!(attributes(&after), attributes(&before));
    // The copy is a separate file.
    let copy = std::fs::metadata(host.path().join("out/copy")).unwrap();
    assert!(copy.nlink() == 1 && copy.ino() != before.ino());
}

// promise: No path leads out of the directories of a run.
// attack: escape: use the moment in which a directory is replaced by a link -> no path is checked
// first and used later
#[test]
fn folder_swapped_for_a_link_is_not_followed() {
    let host = Host::new();
    host.file("in/swapped/file", "inside");
    host.file("outside/file", "outside");
    host.file("outside/other", "x");
    std::os::unix::fs::symlink("../outside", host.path().join("in/link")).unwrap();
    let policy = "version = 1\n[limits]\ntime = \"2m\"";
    let mut run = host.start("race", policy, &["--input", "in"], &[]);
    let mut printed = [0; 7];
    run.stderr.as_mut().unwrap().read_exact(&mut printed).unwrap();
    assert_eq!(&printed, b"reading");
    let folder = rustix::fs::open(host.path().join("in"), rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap();
    // An even number of exchanges restores the original folder.
    for _ in 0..4_000 {
        rustix::fs::renameat_with(&folder, "swapped", &folder, "link", rustix::fs::RenameFlags::EXCHANGE).unwrap();
        std::thread::yield_now();
    }
    host.file("in/stop", "");
    let run = crate::support::EndedRun::from(run.wait_with_output().unwrap()).finished();
    run.shows(" outside: 0 ").shows("at last: Ok(\"inside\")");
    assert!(!host.path().join("outside/planted").exists());
}

/// Asserts that no staging folder or other temporary file is left.
fn assert_no_leftovers(host: &Host) {
    assert_eq!(leftovers(host.path(), &host.home()), Vec::<std::path::PathBuf>::new());
}
