//! `kill -9` at any moment: what was acknowledged is there, the vault opens, the audit verifies, the run is `lost`.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use strongroom::record::Outcome;

use crate::support::{Host, files_below};

/// How often each kind of work is killed.
const KILLS: u32 = 20;

// promise: Every run that started ends with a run record, and the audit log reports the same
// outcome.
#[test]
fn a_killed_run_is_lost_in_its_record_and_the_audit_says_recovered() {
    let host = Host::new();
    host.set("key", "a-value-to-keep");
    // Compiled once, so that the kills fall into the runs themselves.
    host.run("sleep", "version = 1\n[limits]\ntime = \"50ms\"", &[]);
    for round in 0..KILLS {
        let mut child = host.start("sleep", "version = 1\n[secrets]\nkey = [\"get\"]", &["--output", "out"], &[]);
        // The component's word, so the run has started; a little later each time.
        let mut said = [0; 8];
        child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"sleeping");
        std::thread::sleep(Duration::from_micros(u64::from(round) * 200));
        child.kill().unwrap();
        child.wait().unwrap();

        let verdict = host.ok(&["audit", "verify"]);
        assert!(verdict.contains("recovered") && !verdict.contains("altered"), "{verdict}");
        let last: strongroom::record::RunRecord =
            serde_json::from_str(&host.ok(&["runs", "show", "last", "--json"])).unwrap();
        assert_eq!(last.outcome, Outcome::Lost, "round {round}");
        // What was seen of it was kept before it was shown.
        assert!(host.ok(&["runs", "log", "last"]).starts_with("sleeping"), "round {round}");
        assert_eq!(host.get("key"), "a-value-to-keep");
    }
    let left: Vec<_> =
        files_below(host.path()).into_iter().filter(|path| path.to_string_lossy().contains(".strongroom-")).collect();
    assert!(left.is_empty() && !host.path().join("out").exists(), "{left:?}");
}

// promise: An acknowledged write is never lost.
#[test]
fn a_killed_write_is_there_if_it_was_acknowledged() {
    let host = Host::new();
    // A shell-like driver: one process a write, killed after a growing delay.
    let mut acknowledged = Vec::new();
    let mut killed = 0;
    for round in 0..KILLS {
        let (name, value) = (format!("secret-{round}"), format!("value-number-{round}"));
        let mut child = host.command(&["secret", "set", &name]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(round) * 1_500));
        // A process that has ended already takes no signal; its exit is what counts.
        let _ = child.kill();
        let status = child.wait().unwrap();
        match status.code() {
            Some(0) => acknowledged.push((name.clone(), value.clone())),
            Some(other) => panic!("exit {other}"),
            None => killed += 1,
        }
        let output = host.output(&["secret", "get", &name]);
        let there = String::from_utf8(output.stdout).unwrap();
        assert!(
            there == value || (there.is_empty() && status.code() != Some(0)),
            "round {round}: {there:?}, {status:?}"
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
fn a_reader_that_stands_still_does_not_keep_a_run_alive() {
    let host = Host::new();
    let policy = "version = 1\n[limits]\ntime = \"300ms\"\nlog-bytes = \"10MiB\"";
    // Nobody reads the pipes, and the component prints more than they hold.
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
fn signals_end_a_run_as_cancelled() {
    let host = Host::new();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut child = host.start("sleep", "version = 1", &[], &[]);
        let mut said = [0; 8];
        child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let run = crate::support::Ended::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.record.outcome), (130, Outcome::Cancelled));
    }
    let verdict = host.ok(&["audit", "verify"]);
    assert!(verdict.contains("intact"), "{verdict}");
}

/// Kills changes of the key, later each time, and has what is there looked at after each. Answers how many were killed.
fn kill_rekeys(host: &Host, args: &[&str], mut look: impl FnMut(bool)) -> u32 {
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
        look(status.code() == Some(0));
    }
    let verdict = host.ok(&["audit", "verify"]);
    assert!(!verdict.contains("altered"), "{verdict}");
    killed
}

// promise: At every moment of a rekey either the former key or the new key opens the vault.
#[test]
fn a_killed_change_of_the_key_file_leaves_a_vault_that_opens() {
    let host = Host::new();
    // Enough to be sealed anew that some kills fall into it.
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
    let left = files_below(&host.home().join("vault"));
    assert!(!left.iter().any(|path| path.to_string_lossy().contains(".next")), "{left:?}");
}

// promise: At every moment of a rekey either the former key or the new key opens the vault.
#[test]
fn a_killed_change_of_the_passphrase_leaves_the_former_one_or_the_new_one() {
    use std::os::unix::fs::PermissionsExt;

    let host = Host::bare();
    let passphrase = |at: u32| {
        let path = host.file(&format!("passphrase-{at}"), format!("correct horse {at}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let mut current = passphrase(0);
    host.ok(&["init", "--passphrase-file", &current]);
    // Argon2id takes most of the time, so the kills are spread wider than for a key file.
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
        assert!(is_new || status.code() != Some(0), "round {round}: it was acknowledged");
        assert_ne!(is_new, opens(&current), "round {round}: one of the two opens it");
        if is_new {
            current = next;
        }
    }
    assert!(killed > 0, "no change was killed: the delays do not fit this machine");
}
