//! Components of every WASI 0.2 patch level meet the same guards: a guest's imports are renamed to each, and it gets no further than any other.

use std::net::TcpListener;
use std::path::PathBuf;

use strongroom::record::{Limit, Outcome};

use crate::support::inside::Inside;
use crate::support::patch::{NEWEST, to_patch_level};
use crate::support::{Host, guest};

/// A guest as a toolchain of another patch level would have made it.
fn made_for(inside: &Inside, name: &str, patch: u64) -> String {
    let component = std::fs::read(guest(name)).unwrap();
    let (component, rewritten) = to_patch_level(&component, patch);
    assert!(rewritten > 5, "only {rewritten} names of `{name}` were rewritten");
    let path: PathBuf = inside.path().join(format!("{name}-0.2.{patch}.wasm"));
    std::fs::write(&path, &component).unwrap();
    let interfaces = strongroom::runtime::imports::inspect(&component).unwrap();
    let wasi: Vec<_> = interfaces.imports.iter().filter(|import| import.name.starts_with("wasi:")).collect();
    let end = format!("@0.2.{patch}");
    assert!(wasi.len() > 5 && wasi.iter().all(|import| import.name.ends_with(&end)), "{wasi:?}");
    path.to_string_lossy().into_owned()
}

// promise: Every patch release of WASI 0.2 is subject to the same checks.
// attack: escape: use another patch release of WASI to get functions without checks -> one instance
// of each interface serves all of WASI 0.2
#[test]
fn files_are_guarded_at_every_patch_level() {
    let inside = Inside::new(&[]);
    let policy = "version = 1\n[limits]\noutput-bytes = \"1MiB\"\noutput-files = 50";
    for patch in 0..=NEWEST {
        let fill = made_for(&inside, "fill", patch);
        for way in ["file", "append", "sparse", "seek"] {
            inside.run(&fill, policy, &[way]).stopped(Limit::OutputBytes);
        }
        for way in ["files", "folders"] {
            inside.run(&fill, policy, &[way]).stopped(Limit::OutputFiles);
        }
        let seen = inside.run(&made_for(&inside, "escape", patch), "version = 1", &[]).finished();
        let done: Vec<_> = seen.shown.lines().filter(|line| line.ends_with(": DONE")).collect();
        assert!(done.is_empty() || done == ["list /: DONE"], "0.2.{patch}: {done:?}");
        assert!(seen.shown.lines().count() > 60, "{}", seen.shown);
    }
}

// promise: Every patch release of WASI 0.2 is subject to the same checks.
// attack: escape: use another patch release of WASI to get functions without checks -> one instance
// of each interface serves all of WASI 0.2
#[test]
fn sockets_are_guarded_at_every_patch_level() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let granted = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    granted.set_nonblocking(true).unwrap();
    let trap_at = trap.local_addr().unwrap().to_string();
    let policy = format!("version = 1\ntcp = [\"{}\"]\n[limits]\ntime = \"20s\"", granted.local_addr().unwrap());
    let inside = Inside::new(&[]);
    for patch in 0..=NEWEST {
        let net = made_for(&inside, "net", patch);
        let target: &'static [&'static str] = vec![&*trap_at.clone().leak()].leak();
        let seen = inside.run(&net, &policy, target).finished();
        for text in ["CONNECTED", "LISTENING", "Ok(", "datagrams: true"] {
            let lines = seen.shown.lines().filter(|line| !line.starts_with("bound: "));
            assert_eq!(lines.filter(|line| line.contains(text)).count(), 0, "0.2.{patch}: {text} in\n{}", seen.shown);
        }
        assert!(seen.shown.contains("look up localhost:80: Err"), "{}", seen.shown);
        assert!(trap.accept().is_err(), "0.2.{patch} has connected");
    }
}

// attack: escape: use another patch release of WASI to get functions without checks -> one instance
// of each interface serves all of WASI 0.2
#[test]
fn output_and_secrets_are_guarded_at_every_patch_level() {
    let inside = Inside::new(&[("key", "hunter2-hunter2-hunter2")]);
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n[limits]\ntime = \"200ms\"\nlog-bytes = \"10KiB\"";
    for patch in 0..=NEWEST {
        let seen = inside.run(&made_for(&inside, "flood", patch), policy, &["line"]).stopped(Limit::Time);
        assert_eq!(seen.record.log.kept, 10 << 10);
        let seen = inside.run(&made_for(&inside, "trap", patch), policy, &["key"]);
        assert_eq!(seen.record.outcome, Outcome::Failed);
        assert!(!seen.shown.contains("hunter2") && seen.shown.contains("[redacted:key]"), "{}", seen.shown);
        let seen = inside.run(&made_for(&inside, "handles", patch), "version = 1", &["timers"]);
        seen.stopped(Limit::Resources);
    }
}

// attack: access: import a function that a linked interface does not have, or a newer WASI version
// -> linking fails before any code runs and names the import
#[test]
fn other_versions_are_refused_by_name() {
    let host = Host::new();
    let inside = Inside::new(&[]);
    let hello = std::fs::read(guest("hello")).unwrap();
    let (newer, _) = to_patch_level(&hello, NEWEST + 1);
    let path = inside.path().join("newer.wasm");
    std::fs::write(&path, newer).unwrap();
    let run = host.run(path.to_str().unwrap(), "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome), (3, Outcome::Refused), "{}", run.shown);
    assert!(run.record.reason.clone().unwrap().contains(&format!("@0.2.{}", NEWEST + 1)));
    run.never_shows("hello");
}
