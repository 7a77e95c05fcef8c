//! Disks that are full, read-only or gone. Requests fail with an error that says what to do,
//! existing data stays intact, and everything works again once there is space.
//!
//! A limit on the file size makes a write fail half-way for any user. Other tests mount a small
//! disk in a mount namespace of their own; if this user may not mount, they print so and do
//! nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use strongroom::audit::{Audit, SyncMode};
use strongroom::record::{Blame, Outcome, RunRecord};

use crate::support::{Host, guest};

/// Wraps a command in another program.
fn wrapped_in(wrapper: &[&str], command: &Command) -> Command {
    let mut command_line = Command::new(wrapper[0]);
    command_line.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args()).env_clear();
    command_line.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command_line.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command_line
}

/// Runs a command to its end with `input` on its standard input.
fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Returns a command with a limit on the size of each file that it writes. The signal that a write
/// over the limit causes has its default action, which ends the process, even if the process of
/// this test ignores it.
fn with_file_limit(host: &Host, kilobytes: u32, args: &[&str]) -> Command {
    // POSIX counts blocks of 512 bytes.
    let script = format!("ulimit -f {} && exec \"$0\" \"$@\"", kilobytes * 2);
    wrapped_in(&["env", "--default-signal=XFSZ", "sh", "-c", &script], &host.command(args))
}

/// Asserts that the command failed with a host error that contains each of `parts`, and printed
/// nothing else.
#[track_caller]
fn assert_refused(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in:\n{stderr}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Asserts that everything works and that no data has changed.
#[track_caller]
fn assert_everything_works(command: impl Fn(&[&str]) -> Command) {
    let run = |args: &[&str], input: &str| {
        let output = feed(command(args), input);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["secret", "get", "keep"], ""), "a-value-that-is-kept");
    run(&["secret", "set", "more"], "another-value");
    assert_eq!(run(&["secret", "get", "more"], ""), "another-value");
    run(&["run", guest("hello").to_str().unwrap()], "");
    let verdict = run(&["audit", "verify"], "");
    assert!(!verdict.contains("altered") && !verdict.contains("truncated"), "{verdict}");
    // No run is still recorded as running.
    let runs = run(&["runs", "list", "--json"], "");
    assert!(!runs.contains("\"running\""), "{runs}");
}

fn host() -> Host {
    let host = Host::new();
    host.set("keep", "a-value-that-is-kept");
    host
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn vault_that_cannot_grow_refuses_writes_and_keeps_data() {
    let host = host();
    // More than the file limit, less than the maximum length of a value.
    let long = "x".repeat(25_000);
    assert_refused(
        &feed(with_file_limit(&host, 40, &["secret", "set", "new"]), &long),
        &["vault.sqlite3", "could not be written", "free space", "ulimit -f"],
    );
    assert_refused(
        &feed(with_file_limit(&host, 40, &["secret", "set", "keep"]), &long),
        &["vault.sqlite3", "could not be written", "free space"],
    );
    assert_eq!(host.get("keep"), "a-value-that-is-kept");
    assert!(!host.ok(&["secret", "list"]).contains("new"));
    assert_everything_works(|args| host.command(args));
}

// promise: While the audit log cannot be written, every request is denied.
#[test]
fn ledger_that_cannot_grow_releases_nothing() {
    let host = host();
    let dir = host.home().join("audit");
    // Grow the ledger until the next entry exceeds the limit. Where the limit cuts that entry
    // depends on the lengths of earlier entries, whose times vary in length.
    let ledger = || std::fs::metadata(dir.join("ledger.jsonl")).unwrap().len();
    while ledger() < 64 * 1024 - 400 {
        Audit::open(&dir, SyncMode::Os).unwrap().close().unwrap();
    }
    for _ in 0..3 {
        let before = ledger();
        for (args, input) in [
            (&["secret", "get", "keep"][..], ""),
            (&["secret", "set", "keep"], "new"),
            (&["run", guest("hello").to_str().unwrap()], ""),
        ] {
            let output = feed(with_file_limit(&host, 64, args), input);
            if output.status.success() {
                // There was space for the first and last entries of one more segment.
                assert!(ledger() > before);
                continue;
            }
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{stderr}");
            assert!(
                stderr.contains("ledger.jsonl") && (stderr.contains("free space") || stderr.contains("ulimit -f")),
                "{stderr}"
            );
        }
    }
    assert_refused(
        &feed(with_file_limit(&host, 64, &["secret", "get", "keep"]), ""),
        &["write the audit ledger", "ulimit -f"],
    );
    let verdict = host.ok(&["audit", "verify"]);
    assert!(!verdict.contains("altered") && !verdict.contains("unlisted"), "{verdict}");
    host.set("keep", "a-value-that-is-kept");
    assert_everything_works(|args| host.command(args));
}

// attack: resources: end the host with a write beyond its limit on the size of files -> the write is
// an error for the component, and the run has a record
#[test]
fn component_that_writes_over_the_file_limit_gets_an_error() {
    let host = host();
    let component = guest("fill");
    let policy = host.file("policy.toml", "version = 1\n[limits]\noutput-bytes = \"100GiB\"\ntime = \"2s\"");
    for (way, outcome) in [("sparse", Outcome::Failed), ("seek", Outcome::Failed), ("file", Outcome::Limit)] {
        // Enough for the audit log and the record. The compiled code does not fit into the cache.
        let args = ["run", component.to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap(), "--", way];
        let output = feed(with_file_limit(&host, 256, &args), "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{way}: {stderr}"));
        assert_eq!(record.outcome, outcome, "{way}: {record:?}");
    }
    assert_everything_works(|args| host.command(args));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn segment_that_cannot_grow_ends_the_run_with_a_record() {
    let host = host();
    // Each request is denied and audited until the file cannot grow. All are for one name, which
    // keeps the record short.
    let policy = host.file("policy.toml", "version = 1");
    let component = guest("exercise");
    let mut args = vec!["run", component.to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap(), "--"];
    args.extend(["get=nothing"; 1_000]);
    let output = feed(with_file_limit(&host, 64, &args), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!((record.outcome, record.blame), (Outcome::HostFault, Some(Blame::Host)), "{record:?}");
    let reason = record.reason.unwrap();
    assert!(reason.contains("the audit could not be written") && reason.contains("fix the disk"), "{reason}");
    let shown: RunRecord = serde_json::from_str(&host.ok(&["runs", "show", "last", "--json"])).unwrap();
    assert_eq!((shown.id, shown.outcome), (record.id, Outcome::HostFault));
    assert_everything_works(|args| host.command(args));
    assert!(host.ok(&["audit", "verify"]).contains("torn last line"));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn removed_home_ends_the_run_as_host_fault() {
    let host = host();
    let mut child = host.start("sleep", "version = 1", &["--output", "out"], &[]);
    let mut printed = [0; 8];
    child.stderr.as_mut().unwrap().read_exact(&mut printed).unwrap();
    std::fs::remove_dir_all(host.home()).unwrap();
    let signal = rustix::process::Signal::TERM;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!(record.outcome, Outcome::HostFault, "{record:?}");
    assert!(record.reason.unwrap().contains("the record could not be written"));
    assert!(stderr.contains("error") && stderr.contains("ledger.jsonl"), "{stderr}");
    // Nothing recreates the home, and a run that did not finish publishes no outputs.
    assert!(!host.home().exists() && !host.path().join("out").exists());
    let error = host.fails(5, &["secret", "get", "keep"]);
    assert!(error.contains("there is no vault") && error.contains("help: "), "{error}");
}

/// A small disk mounted on a folder in a mount namespace of its own.
struct Disk {
    holder: Child,
    folder: PathBuf,
}

impl Disk {
    /// Mounts a disk, or returns `None` if this user may not mount.
    fn mount(folder: &Path, kilobytes: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let script = format!("mount -t tmpfs -o mode=700,size={kilobytes}k none \"$0\" && echo mounted && exec cat");
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount").args(["sh", "-c", &script]).arg(folder);
        let mut holder = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let disk = Self { holder, folder: folder.to_owned() };
        if line == "mounted\n" {
            return Some(disk);
        }
        println!("not run: this user may not mount a disk");
        None
    }

    /// Returns a command that sees the disk.
    fn command(&self, host: &Host, args: &[&str]) -> Command {
        self.enter(&host.command(args))
    }

    fn enter(&self, command: &Command) -> Command {
        wrapped_in(&["nsenter", "--mount", "--target", &self.holder.id().to_string(), "--"], command)
    }

    fn set(&self, host: &Host, name: &str, value: &str) -> Output {
        feed(self.command(host, &["secret", "set", name]), value)
    }

    fn script(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, self.folder.to_str().unwrap()]);
        let output = feed(self.enter(&shell), "");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Uses all remaining space.
    fn fill(&self) {
        self.script("! cat /dev/zero > \"$0/filler\" 2> /dev/null");
    }

    fn free_space(&self) {
        self.script("rm \"$0/filler\"");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The last process of the namespace ends, which removes the namespace and the disk.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Creates a host whose home is on a small disk.
fn host_on_a_small_disk(kilobytes: u32) -> Option<(Host, Disk)> {
    let host = Host::without_vault();
    let disk = Disk::mount(&host.home(), kilobytes)?;
    assert!(feed(disk.command(&host, &["init"]), "").status.success());
    assert!(disk.set(&host, "keep", "a-value-that-is-kept").status.success());
    Some((host, disk))
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn full_disk_fails_requests_until_space_is_freed() {
    let Some((host, disk)) = host_on_a_small_disk(1024) else { return };
    let component = guest("hello");
    let run = ["run", component.to_str().unwrap()];
    // A killed run leaves a record that the next command has to update, even if it only reads.
    let policy = host.file("policy.toml", "version = 1");
    let mut killed = disk
        .command(&host, &["run", guest("sleep").to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap()])
        .spawn()
        .unwrap();
    killed.stderr.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();

    disk.fill();
    for _ in 0..3 {
        assert_refused(&disk.set(&host, "new", "x"), &["free space"]);
        assert_refused(&feed(disk.command(&host, &["secret", "get", "keep"]), ""), &["free space"]);
        assert_refused(&feed(disk.command(&host, &run), ""), &["free space"]);
    }
    // Commands that write nothing succeed.
    for args in [&["audit", "verify"][..], &["audit", "show"], &["runs", "list"], &["runs", "show", "last"]] {
        let output = feed(disk.command(&host, args), "");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    disk.free_space();
    assert_everything_works(|args| disk.command(&host, args));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn disk_that_fills_during_a_run_ends_it() {
    let Some((host, disk)) = host_on_a_small_disk(1024) else { return };
    let policy = host.file("policy.toml", "version = 1\n[secrets]\n\"name-*\" = [\"get\"]");
    let component = guest("requests");
    let args = ["run", component.to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap()];
    // Audited requests fill the disk long before they reach the limit on requests.
    let output = feed(disk.command(&host, &args), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!((record.outcome, record.blame), (Outcome::HostFault, Some(Blame::Host)), "{record:?}");
    disk.script("cd \"$0\" && rm -rf code");
    assert_everything_works(|args| disk.command(&host, args));
}

// promise: While the audit log cannot be written, every request is denied.
#[test]
fn audit_log_on_full_disk_releases_nothing() {
    let host = host();
    let dir = host.home().join("audit");
    let audit = host.path().join("audit-before");
    std::fs::rename(&dir, &audit).unwrap();
    let Some(disk) = Disk::mount(&dir, 64) else { return };
    disk.script(&format!("cp -r \"{}\"/. \"$0\"", audit.display()));
    disk.fill();
    let component = guest("hello");
    // The last page of the segment may have room for a few more commands.
    let mut gets = (0..50).map(|_| feed(disk.command(&host, &["secret", "get", "keep"]), ""));
    assert_refused(&gets.find(|output| !output.status.success()).unwrap(), &["audit", "free space"]);
    assert_refused(&disk.set(&host, "new", "x"), &["audit", "free space"]);
    assert_refused(&feed(disk.command(&host, &["run", component.to_str().unwrap()]), ""), &["audit", "free space"]);
    disk.free_space();
    let listed = feed(disk.command(&host, &["secret", "list"]), "");
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("new"), "a write was done without an audit event");
    assert_everything_works(|args| disk.command(&host, args));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn read_only_disk_fails_requests() {
    let Some((host, disk)) = host_on_a_small_disk(4096) else { return };
    let component = guest("hello");
    let run = ["run", component.to_str().unwrap()];
    assert!(feed(disk.command(&host, &run), "").status.success());
    disk.script("mount -o remount,ro none \"$0\"");
    assert_refused(&disk.set(&host, "new", "x"), &["vault.sqlite3", "read-only", "writable disk"]);
    assert_refused(
        &feed(disk.command(&host, &["secret", "get", "keep"]), ""),
        &["vault.sqlite3", "read-only", "writable disk"],
    );
    assert_refused(&feed(disk.command(&host, &run), ""), &["vault.sqlite3", "read-only", "writable disk"]);
    for args in [&["audit", "verify"][..], &["audit", "show"], &["runs", "list"], &["runs", "show", "last"]] {
        let output = feed(disk.command(&host, args), "");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    disk.script("mount -o remount,rw none \"$0\"");

    // Only the audit folder is read-only.
    disk.script("mount --bind \"$0/audit\" \"$0/audit\" && mount -o remount,bind,ro \"$0/audit\"");
    assert_refused(&disk.set(&host, "new", "x"), &["audit", "writable disk"]);
    assert_refused(&feed(disk.command(&host, &["secret", "get", "keep"]), ""), &["audit", "writable disk"]);
    assert_refused(&feed(disk.command(&host, &run), ""), &["audit", "writable disk"]);
    disk.script("umount \"$0/audit\"");
    assert_everything_works(|args| disk.command(&host, args));
}
