//! Tests that look at a whole process (its memory, descriptors, threads, children) run in a process of their own: this binary, started again
//! for one ignored test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the ignored test `name` apart from all others. It has to pass.
#[track_caller]
pub(crate) fn passes(name: &str) {
    passes_in(&std::env::temp_dir(), name);
}

/// The same, with its temporary files in this folder.
#[track_caller]
pub(crate) fn passes_in(temp: &Path, name: &str) {
    // The guests are built by then, so that the new process starts no compiler.
    let _ = super::guest("hello");
    let output = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads", "1"])
        // One heap for all threads: what is measured is what the process holds, not what the heaps of idle threads keep for later.
        .env("MALLOC_ARENA_MAX", "1")
        .env("TMPDIR", temp)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A number of kilobytes in this process's status, such as `VmRSS` or `VmHWM` (the most there ever was).
pub(crate) fn kilobytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

/// Forgets what `VmHWM` was. Whether the system lets us.
pub(crate) fn forget_the_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) threads: usize,
    pub(crate) descriptors: Vec<PathBuf>,
    pub(crate) children: Vec<String>,
}

impl Holdings {
    pub(crate) fn now() -> Self {
        let entries = |folder: &str| -> Vec<PathBuf> {
            let listed = std::fs::read_dir(folder).expect("proc is mounted");
            listed.map(|entry| entry.expect("an entry").path()).collect()
        };
        let mut descriptors: Vec<_> =
            entries("/proc/self/fd").iter().filter_map(|path| std::fs::read_link(path).ok()).collect();
        // The listing itself.
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
