//! `kill -9` at any moment. Acknowledged writes survive, the vault opens, the audit log verifies,
//! and the run is `lost`.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use strongroom::audit::lock::{self, Mode};
use strongroom::audit::{Audit, SyncMode};
use strongroom::policy::Policy;
use strongroom::record::{Blame, Outcome, RunRecord};
use strongroom::runner::{Runner, RunnerOptions};
use strongroom::runtime::{Compile, Silent};
use strongroom::spec::RunSpec;
use strongroom::vault::local::{LocalVault, Protection};

use crate::support::in_process::compiler;
use crate::support::{Host, files_below, guest};

/// The number of kills for each kind of work.
const KILLS: u32 = 20;

// promise: Every run that started ends with a run record, and the audit log reports the same
// outcome.
#[test]
fn killed_run_is_lost_and_its_audit_is_recovered() {
    let host = Host::new();
    host.set("key", "a-value-to-keep");
    // Compiles the component first, so that the kills hit the runs themselves.
    host.run("sleep", "version = 1\n[limits]\ntime = \"50ms\"", &[]);
    for round in 0..KILLS {
        let mut child = host.start("sleep", "version = 1\n[secrets]\nkey = [\"get\"]", &["--output", "out"], &[]);
        // The component has printed, so the run has started. Each round waits a little longer.
        let mut printed = [0; 8];
        child.stderr.as_mut().unwrap().read_exact(&mut printed).unwrap();
        assert_eq!(&printed, b"sleeping");
        std::thread::sleep(Duration::from_micros(u64::from(round) * 200));
        child.kill().unwrap();
        child.wait().unwrap();

        let verdict = host.ok(&["audit", "verify"]);
        assert!(verdict.contains("recovered") && !verdict.contains("altered"), "{verdict}");
        let last: strongroom::record::RunRecord =
            serde_json::from_str(&host.ok(&["runs", "show", "last", "--json"])).unwrap();
        assert_eq!(last.outcome, Outcome::Lost, "round {round}");
        // Output is stored before it is shown.
        assert!(host.ok(&["runs", "log", "last"]).starts_with("sleeping"), "round {round}");
        assert_eq!(host.get("key"), "a-value-to-keep");
    }
    let leftovers: Vec<_> =
        files_below(host.path()).into_iter().filter(|path| path.to_string_lossy().contains(".strongroom-")).collect();
    assert!(leftovers.is_empty() && !host.path().join("out").exists(), "{leftovers:?}");
}

// promise: An acknowledged write is never lost.
#[test]
fn acknowledged_write_survives_a_kill() {
    let host = Host::new();
    // One process for each write, killed after a growing delay.
    let mut acknowledged = Vec::new();
    let mut killed = 0;
    for round in 0..KILLS {
        let (name, value) = (format!("secret-{round}"), format!("value-number-{round}"));
        let mut child = host.command(&["secret", "set", &name]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(round) * 1_500));
        // Killing fails if the process has ended already. Its exit code decides.
        let _ = child.kill();
        let status = child.wait().unwrap();
        match status.code() {
            Some(0) => acknowledged.push((name.clone(), value.clone())),
            Some(other) => panic!("exit {other}"),
            None => killed += 1,
        }
        let output = host.output(&["secret", "get", &name]);
        let stored = String::from_utf8(output.stdout).unwrap();
        assert!(
            stored == value || (stored.is_empty() && status.code() != Some(0)),
            "round {round}: {stored:?}, {status:?}"
        );
    }
    for (name, value) in &acknowledged {
        assert_eq!(host.get(name), *value);
    }
    assert!(killed > 0, "no write was killed: the delays do not fit this machine");
    let verdict = host.ok(&["audit", "verify"]);
    assert!(!verdict.contains("altered"), "{verdict}");
}

// attack: resources: print forever, with and without line ends, or a gigabyte in one line -> the
// `log-bytes` limit and a bounded queue
#[test]
fn blocked_output_reader_does_not_prolong_a_run() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\ntime = \"300ms\"\nlog-bytes = \"10MiB\"";
    // The pipes have no reader, and the component prints more than they hold.
    let mut child = host.start("flood", policy, &[], &[]);
    let mut outcome = None;
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(50));
        let output = host.output(&["runs", "show", "last", "--json"]);
        let record = serde_json::from_slice::<strongroom::record::RunRecord>(&output.stdout);
        outcome = record.ok().map(|record| record.outcome).filter(|outcome| *outcome != Outcome::Running);
        if outcome.is_some() {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(outcome, Some(Outcome::Limit));
}

#[test]
fn signal_ends_a_run_as_cancelled() {
    let host = Host::new();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut child = host.start("sleep", "version = 1", &[], &[]);
        let mut printed = [0; 8];
        child.stderr.as_mut().unwrap().read_exact(&mut printed).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let run = crate::support::EndedRun::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.record.outcome), (130, Outcome::Cancelled));
    }
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("intact"), "{verdict}");
}

/// Kills rekeys after growing delays and calls `check` after each, with whether the rekey
/// succeeded. Returns the number killed.
fn kill_rekeys(host: &Host, args: &[&str], mut check: impl FnMut(bool)) -> u32 {
    let mut killed = 0;
    for round in 0..KILLS {
        let mut child = host.command(args).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(round) * 2_500));
        let _ = child.kill();
        let status = child.wait().unwrap();
        match status.code() {
            Some(0) => {}
            Some(other) => panic!("exit {other}"),
            None => killed += 1,
        }
        check(status.code() == Some(0));
    }
    let verdict = host.ok(&["audit", "verify"]);
    assert!(!verdict.contains("altered"), "{verdict}");
    killed
}

// promise: At every moment of a rekey either the former key or the new key opens the vault.
#[test]
fn killed_key_file_rekey_leaves_a_usable_vault() {
    let host = Host::new();
    // Enough data to re-encrypt that some kills hit the rekey.
    let values: String = (0..200).map(|at| format!("NAME-{at}='{}'\n", "value".repeat(1_000))).collect();
    host.file("values.env", &values);
    host.ok(&["secret", "set", "--env-file", "values.env"]);
    host.set("key", "a-value-to-keep");
    let killed = kill_rekeys(&host, &["vault", "rekey"], |_| {
        assert_eq!(host.get("key"), "a-value-to-keep");
        let status: serde_json::Value =
            serde_json::from_str(&host.ok(&["vault", "status", "--verify", "--json"])).unwrap();
        assert_eq!((&status["verified"], &status["rekey_cut_off"]), (&true.into(), &false.into()), "{status}");
        assert_eq!(status["versions"], 201);
    });
    assert!(killed > 0, "no change was killed: the delays do not fit this machine");
    let files = files_below(&host.home().join("vault"));
    assert!(!files.iter().any(|path| path.to_string_lossy().contains(".next")), "{files:?}");
}

// promise: At every moment of a rekey either the former key or the new key opens the vault.
#[test]
fn killed_passphrase_rekey_leaves_exactly_one_passphrase() {
    use std::os::unix::fs::PermissionsExt;

    let host = Host::without_vault();
    let passphrase = |at: u32| {
        let path = host.file(&format!("passphrase-{at}"), format!("correct horse {at}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let mut current = passphrase(0);
    host.ok(&["init", "--passphrase-file", &current]);
    // Argon2id takes most of the time, so the delays grow faster than for a key file.
    let mut killed = 0;
    for round in 1..=KILLS / 2 {
        let next = passphrase(round);
        let args = ["vault", "rekey", "--passphrase-file", &current, "--new-passphrase-file", &next];
        let mut child = host.command(&args).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(round) * 60));
        let _ = child.kill();
        let status = child.wait().unwrap();
        killed += u32::from(status.code().is_none());
        let opens = |passphrase: &str| {
            host.output(&["vault", "status", "--verify", "--passphrase-file", passphrase]).status.code() == Some(0)
        };
        let is_new = opens(&next);
        assert!(is_new || status.code() != Some(0), "round {round}: an acknowledged rekey was lost");
        assert_ne!(is_new, opens(&current), "round {round}: both passphrases or neither open the vault");
        if is_new {
            current = next;
        }
    }
    assert!(killed > 0, "no change was killed: the delays do not fit this machine");
}

/// Runs a component that writes three files. Closes the audit log once it has this many events, so
/// that it refuses every later one.
fn run_with_audit_of(events: u64) -> (RunRecord, usize, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _context = runtime.enter();
    let vault = LocalVault::create(&folder.path().join("vault"), Protection::KeyFile).unwrap();
    let audit = Audit::open(&folder.path().join("audit"), SyncMode::Os).unwrap();
    let options = RunnerOptions::new(Arc::new(vault), audit.clone(), Compile::Child(compiler())).temp(folder.path());
    let runner = Runner::new(options).unwrap();
    let output = folder.path().join("out");
    let mut spec = RunSpec::new(guest("fill")).args(["files", "3"]);
    spec.output = Some(output.clone());
    let closing = audit.clone();
    let never = std::future::poll_fn(move |_| {
        if closing.position().count >= events {
            closing.close().unwrap();
        }
        Poll::<()>::Pending
    });
    let run = runner.run(spec, Arc::new(Policy::empty()), Arc::new(Silent), never);
    let record = runtime.block_on(run).unwrap();
    audit.close().unwrap();
    let events = strongroom::audit::read(&folder.path().join("audit")).unwrap();
    let events = events.filter_map(|item| item.unwrap().event).filter(|line| line.event.run == Some(record.id));
    let kinds = events.map(|line| format!("{:?} {:?}", line.event.event, line.event.count)).collect();
    (record, if output.exists() { files_below(&output).len() } else { 0 }, kinds)
}

// promise: Outputs are published only after a durable audit event that says so.
#[test]
fn outputs_are_published_between_two_events() {
    let (record, files, events) = run_with_audit_of(u64::MAX);
    assert_eq!((record.outcome, files), (Outcome::Finished, 3), "{record:?}");
    assert_eq!(events, ["RunStart None", "Publish Some(3)", "RunEnd None"]);
}

// promise: Outputs are published only after a durable audit event that says so.
// attack: leak: publish outputs although the audit log cannot be written -> nothing is published
#[test]
fn outputs_of_run_without_audit_are_not_published() {
    let (record, files, events) = run_with_audit_of(2);
    assert_eq!((record.outcome, record.blame, files), (Outcome::HostFault, Some(Blame::Host), 0), "{record:?}");
    assert!(record.reason.unwrap().contains("the audit could not be written"));
    assert_eq!((record.outputs.len(), events.as_slice()), (0, &["RunStart None".to_owned()][..]));
}

// promise: A stopped process delays another one only for a bounded time, and the error names it.
#[test]
fn run_that_ends_while_the_ledger_is_busy_only_warns() {
    let host = Host::new();
    let mut child = host.start("sleep", "version = 1", &[], &[]);
    child.stderr.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    let ledger = std::fs::File::open(host.home().join("audit/ledger.jsonl")).unwrap();
    lock::acquire(&ledger, Mode::Exclusive).unwrap();
    let signal = rustix::process::Signal::TERM;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let holder = format!("process {} holds its lock", std::process::id());
    assert!(stderr.contains("warning: the audit ledger") && stderr.contains(&holder), "{stderr}");
    let error = host.fails(5, &["secret", "list"]);
    assert!(error.contains(&holder) && error.contains("help: wait until that process ends"), "{error}");
    drop(ledger);
    host.ok(&["secret", "list"]);
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("audit log matches 1 run record"), "{verdict}");
}

// promise: A stopped process delays another one only for a bounded time, and the error names it.
#[test]
fn busy_run_store_does_not_block_commands() {
    let host = Host::new();
    host.ok(&["run", guest("hello").to_str().unwrap()]);
    let store = std::fs::File::open(host.home().join("runs/.lock")).unwrap();
    lock::acquire(&store, Mode::Exclusive).unwrap();
    let holder = format!("process {} holds its lock", std::process::id());
    for args in [&["runs", "list"][..], &["secret", "list"], &["run", guest("hello").to_str().unwrap()]] {
        let output = host.output(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains(&holder), "{args:?}: {stderr}");
    }
}
