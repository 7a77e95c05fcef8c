//! Disks that are full, cannot be written, or are gone: the answer is no, with an error that says what to do; what was there stays; and with
//! room everything works again.
//!
//! A limit on the size of files makes a write fail half-way, as any user. A small disk of its own, in a mount namespace that ends with the
//! test, is there where this user may mount; elsewhere those tests say that they did not run.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use strongroom::audit::{Audit, SyncMode};
use strongroom::record::{Blame, Outcome, RunRecord};

use crate::support::{Host, guest};

/// The same command, started through another program.
fn through(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper[0]);
    wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args()).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wrapped
}

/// Runs a command to its end with this on its standard input.
fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// A command under a limit on the size of each file it writes, which it is told by an error and not by a signal.
fn limited(host: &Host, kilobytes: u32, args: &[&str]) -> Command {
    // POSIX counts in blocks of 512 bytes.
    let script = format!("trap '' XFSZ && ulimit -f {} && exec \"$0\" \"$@\"", kilobytes * 2);
    through(&["sh", "-c", &script], &host.command(args))
}

/// It failed as a host does, said each of these, and gave nothing away.
#[track_caller]
fn says_no(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in:\n{stderr}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Everything works, and nobody has changed anything.
#[track_caller]
fn all_is_well(command: impl Fn(&[&str]) -> Command) {
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
    // No run is left between.
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
fn a_vault_that_cannot_grow_refuses_a_value_and_keeps_what_it_has() {
    let host = host();
    // More than the limit, less than a value may have.
    let long = "x".repeat(25_000);
    says_no(
        &feed(limited(&host, 40, &["secret", "set", "new"]), &long),
        &["vault.sqlite3", "could not be written", "make room", "ulimit -f"],
    );
    says_no(
        &feed(limited(&host, 40, &["secret", "set", "keep"]), &long),
        &["vault.sqlite3", "could not be written", "make room"],
    );
    assert_eq!(host.get("keep"), "a-value-that-is-kept");
    assert!(!host.ok(&["secret", "list"]).contains("new"));
    all_is_well(|args| host.command(args));
}

// promise: While the audit log cannot be written, every request is denied.
#[test]
fn an_audit_ledger_that_cannot_grow_keeps_every_value_in() {
    let host = host();
    let dir = host.home().join("audit");
    // Grown until it is over the limit with the next entry, and before with none: where the limit cuts that entry depends on the length of the
    // ones before, which have times of various lengths.
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
            let output = feed(limited(&host, 64, args), input);
            if output.status.success() {
                // There was room for the beginning and the end of one more segment.
                assert!(ledger() > before);
                continue;
            }
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{stderr}");
            assert!(
                stderr.contains("ledger.jsonl") && (stderr.contains("make room") || stderr.contains("ulimit -f")),
                "{stderr}"
            );
        }
    }
    says_no(&feed(limited(&host, 64, &["secret", "get", "keep"]), ""), &["write the audit ledger", "ulimit -f"]);
    let left = host.ok(&["audit", "verify"]);
    assert!(!left.contains("altered") && !left.contains("unlisted"), "{left}");
    host.set("keep", "a-value-that-is-kept");
    all_is_well(|args| host.command(args));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn a_segment_that_cannot_grow_ends_the_run_with_a_record() {
    let host = host();
    // Each request is denied and audited, until the file may not grow any more. They are for one name, which keeps the record short.
    let policy = host.file("policy.toml", "version = 1");
    let component = guest("exercise");
    let mut args = vec!["run", component.to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap(), "--"];
    args.extend(["get=nothing"; 1_000]);
    let output = feed(limited(&host, 64, &args), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!((record.outcome, record.blame), (Outcome::HostFault, Some(Blame::Host)), "{record:?}");
    let reason = record.reason.unwrap();
    assert!(reason.contains("the audit could not be written") && reason.contains("fix the disk"), "{reason}");
    let shown: RunRecord = serde_json::from_str(&host.ok(&["runs", "show", "last", "--json"])).unwrap();
    assert_eq!((shown.id, shown.outcome), (record.id, Outcome::HostFault));
    all_is_well(|args| host.command(args));
    assert!(host.ok(&["audit", "verify"]).contains("torn last line"));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn a_home_that_is_removed_does_not_hold_up_a_run() {
    let host = host();
    let mut child = host.start("sleep", "version = 1", &["--output", "out"], &[]);
    let mut said = [0; 8];
    child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
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
    // Nothing of it comes back, and the outputs of a run that did not finish are nowhere.
    assert!(!host.home().exists() && !host.path().join("out").exists());
    let error = host.fails(5, &["secret", "get", "keep"]);
    assert!(error.contains("there is no vault") && error.contains("help: "), "{error}");
}

/// A small disk under a folder, seen by those alone who enter its namespace.
struct Disk {
    holder: Child,
    folder: PathBuf,
}

impl Disk {
    /// None where this user may not mount.
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

    /// A command that sees the disk.
    fn command(&self, host: &Host, args: &[&str]) -> Command {
        self.enter(&host.command(args))
    }

    fn enter(&self, command: &Command) -> Command {
        through(&["nsenter", "--mount", "--target", &self.holder.id().to_string(), "--"], command)
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

    /// Takes all the room that is left.
    fn fill(&self) {
        self.script("! cat /dev/zero > \"$0/filler\" 2> /dev/null");
    }

    fn make_room(&self) {
        self.script("rm \"$0/filler\"");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its last process ends, and with it the namespace and the disk.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A host whose home is on a disk of its own.
fn host_on_a_small_disk(kilobytes: u32) -> Option<(Host, Disk)> {
    let host = Host::bare();
    let disk = Disk::mount(&host.home(), kilobytes)?;
    assert!(feed(disk.command(&host, &["init"]), "").status.success());
    assert!(disk.set(&host, "keep", "a-value-that-is-kept").status.success());
    Some((host, disk))
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn a_full_disk_is_told_and_everything_works_when_there_is_room() {
    let Some((host, disk)) = host_on_a_small_disk(1024) else { return };
    let component = guest("hello");
    let run = ["run", component.to_str().unwrap()];
    // A run was cut off before, so that there is something left to write for whoever only reads.
    let policy = host.file("policy.toml", "version = 1");
    let mut cut = disk
        .command(&host, &["run", guest("sleep").to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap()])
        .spawn()
        .unwrap();
    cut.stderr.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    cut.kill().unwrap();
    cut.wait().unwrap();

    disk.fill();
    for _ in 0..3 {
        says_no(&disk.set(&host, "new", "x"), &["make room"]);
        says_no(&feed(disk.command(&host, &["secret", "get", "keep"]), ""), &["make room"]);
        says_no(&feed(disk.command(&host, &run), ""), &["make room"]);
    }
    // Reading what needs no new file goes on.
    for args in [&["audit", "verify"][..], &["audit", "show"], &["runs", "list"], &["runs", "show", "last"]] {
        let output = feed(disk.command(&host, args), "");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    disk.make_room();
    all_is_well(|args| disk.command(&host, args));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn a_disk_that_fills_up_during_a_run_ends_it() {
    let Some((host, disk)) = host_on_a_small_disk(1024) else { return };
    let policy = host.file("policy.toml", "version = 1\n[secrets]\n\"name-*\" = [\"get\"]");
    let component = guest("requests");
    let args = ["run", component.to_str().unwrap(), "--json", "--policy", policy.to_str().unwrap()];
    // A megabyte is full of requests that are granted, of which each is audited, long before the limit on them.
    let output = feed(disk.command(&host, &args), "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let record: RunRecord = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    assert_eq!((record.outcome, record.blame), (Outcome::HostFault, Some(Blame::Host)), "{record:?}");
    disk.script("cd \"$0\" && rm -rf code");
    all_is_well(|args| disk.command(&host, args));
}

// promise: While the audit log cannot be written, every request is denied.
#[test]
fn an_audit_on_a_full_disk_of_its_own_keeps_every_value_in() {
    let host = host();
    let dir = host.home().join("audit");
    let audit = host.path().join("audit-before");
    std::fs::rename(&dir, &audit).unwrap();
    let Some(disk) = Disk::mount(&dir, 64) else { return };
    disk.script(&format!("cp -r \"{}\"/. \"$0\"", audit.display()));
    disk.fill();
    let component = guest("hello");
    says_no(&feed(disk.command(&host, &["secret", "get", "keep"]), ""), &["audit", "make room"]);
    says_no(&disk.set(&host, "new", "x"), &["audit", "make room"]);
    says_no(&feed(disk.command(&host, &["run", component.to_str().unwrap()]), ""), &["audit", "make room"]);
    disk.make_room();
    let listed = feed(disk.command(&host, &["secret", "list"]), "");
    assert!(!String::from_utf8(listed.stdout).unwrap().contains("new"), "a write without an audit was done");
    all_is_well(|args| disk.command(&host, args));
}

// promise: On a full, read-only or removed disk requests fail, existing data stays intact, and work
// continues once there is space.
#[test]
fn a_disk_that_cannot_be_written_is_told() {
    let Some((host, disk)) = host_on_a_small_disk(4096) else { return };
    let component = guest("hello");
    let run = ["run", component.to_str().unwrap()];
    assert!(feed(disk.command(&host, &run), "").status.success());
    disk.script("mount -o remount,ro none \"$0\"");
    says_no(&disk.set(&host, "new", "x"), &["vault.sqlite3", "read-only", "can be written"]);
    says_no(
        &feed(disk.command(&host, &["secret", "get", "keep"]), ""),
        &["vault.sqlite3", "read-only", "can be written"],
    );
    says_no(&feed(disk.command(&host, &run), ""), &["vault.sqlite3", "read-only", "can be written"]);
    for args in [&["audit", "verify"][..], &["audit", "show"], &["runs", "list"], &["runs", "show", "last"]] {
        let output = feed(disk.command(&host, args), "");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    disk.script("mount -o remount,rw none \"$0\"");

    // The audit alone.
    disk.script("mount --bind \"$0/audit\" \"$0/audit\" && mount -o remount,bind,ro \"$0/audit\"");
    says_no(&disk.set(&host, "new", "x"), &["audit", "can be written"]);
    says_no(&feed(disk.command(&host, &["secret", "get", "keep"]), ""), &["audit", "can be written"]);
    says_no(&feed(disk.command(&host, &run), ""), &["audit", "can be written"]);
    disk.script("umount \"$0/audit\"");
    all_is_well(|args| disk.command(&host, args));
}
