//! Runs tests that inspect a whole process (memory, descriptors, threads, children) in a process of
//! their own.
//!
//! The process is this test binary, started again for one ignored test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the ignored test `name` in a new process and asserts that it passes.
#[track_caller]
pub(crate) fn assert_passes(name: &str) {
    assert_passes_in(&std::env::temp_dir(), name);
}

/// Like [`assert_passes`], with temporary files in the folder `temp`.
#[track_caller]
pub(crate) fn assert_passes_in(temp: &Path, name: &str) {
    // Builds the guests first, so that the new process starts no compiler.
    let _ = super::guest("hello");
    let output = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads", "1"])
        // One heap for all threads. Otherwise the heaps of idle threads count as used memory.
        .env("MALLOC_ARENA_MAX", "1")
        .env("TMPDIR", temp)
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

/// Returns a field of this process's status in KiB, such as `VmRSS:` or `VmHWM:` (the peak).
pub(crate) fn kilobytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

/// Resets the peak (`VmHWM`). Returns whether the system allows this.
pub(crate) fn reset_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The threads, descriptors and child processes of this process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProcessResources {
    pub(crate) threads: usize,
    pub(crate) descriptors: Vec<PathBuf>,
    pub(crate) children: Vec<String>,
}

impl ProcessResources {
    pub(crate) fn now() -> Self {
        let entries = |folder: &str| -> Vec<PathBuf> {
            let listed = std::fs::read_dir(folder).expect("proc is mounted");
            listed.map(|entry| entry.expect("an entry").path()).collect()
        };
        let mut descriptors: Vec<_> =
            entries("/proc/self/fd").iter().filter_map(|path| std::fs::read_link(path).ok()).collect();
        // Omits the descriptor of the listing itself.
        descriptors.retain(|target| !target.starts_with("/proc"));
        descriptors.sort();
        let mut children = Vec::new();
        for task in entries("/proc/self/task") {
            let listed = std::fs::read_to_string(task.join("children")).unwrap_or_default();
            children.extend(listed.split_whitespace().map(str::to_owned));
        }
        Self { threads: entries("/proc/self/task").len(), descriptors, children }
    }
}
