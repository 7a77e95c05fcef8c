//! Components of every WASI 0.2 patch level are subject to the same checks, and components for every
//! patch level of the guest contract run. The tests rewrite the imports of guests for each level.

use std::net::TcpListener;
use std::path::PathBuf;

use strongroom::record::{Limit, Outcome};
use strongroom::runtime::imports::TRAINING_PATCH;

use crate::support::in_process::InProcessHost;
use crate::support::patch::{CONTRACT, NEWEST, WASI, to_patch_level};
use crate::support::{Host, guest};

/// Returns a guest as a toolchain of another patch level would build it.
fn guest_for(host: &InProcessHost, name: &str, patch: u64) -> String {
    let component = std::fs::read(guest(name)).unwrap();
    let (component, rewritten) = to_patch_level(&component, WASI, patch);
    assert!(rewritten > 5, "only {rewritten} names of `{name}` were rewritten");
    let path: PathBuf = host.path().join(format!("{name}-0.2.{patch}.wasm"));
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
fn file_checks_apply_at_every_patch_level() {
    let host = InProcessHost::new(&[]);
    let policy = "version = 1\n[limits]\noutput-bytes = \"1MiB\"\noutput-files = 50";
    for patch in 0..=NEWEST + 1 {
        let fill = guest_for(&host, "fill", patch);
        for way in ["file", "append", "sparse", "seek"] {
            host.run(&fill, policy, &[way]).stopped(Limit::OutputBytes);
        }
        for way in ["files", "folders"] {
            host.run(&fill, policy, &[way]).stopped(Limit::OutputFiles);
        }
        let run = host.run(&guest_for(&host, "escape", patch), "version = 1", &[]).finished();
        let done: Vec<_> = run.shown.lines().filter(|line| line.ends_with(": DONE")).collect();
        assert!(done.is_empty() || done == ["list /: DONE"], "0.2.{patch}: {done:?}");
        assert!(run.shown.lines().count() > 60, "{}", run.shown);
    }
}

// promise: Every patch release of WASI 0.2 is subject to the same checks.
// attack: escape: use another patch release of WASI to get functions without checks -> one instance
// of each interface serves all of WASI 0.2
#[test]
fn socket_checks_apply_at_every_patch_level() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let granted = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    granted.set_nonblocking(true).unwrap();
    let trap_at = trap.local_addr().unwrap().to_string();
    let policy = format!("version = 1\ntcp = [\"{}\"]\n[limits]\ntime = \"20s\"", granted.local_addr().unwrap());
    let host = InProcessHost::new(&[]);
    for patch in 0..=NEWEST + 1 {
        let net = guest_for(&host, "net", patch);
        let target: &'static [&'static str] = vec![&*trap_at.clone().leak()].leak();
        let run = host.run(&net, &policy, target).finished();
        for text in ["CONNECTED", "LISTENING", "Ok(", "datagrams: true"] {
            let lines = run.shown.lines().filter(|line| !line.starts_with("bound: "));
            assert_eq!(lines.filter(|line| line.contains(text)).count(), 0, "0.2.{patch}: {text} in\n{}", run.shown);
        }
        assert!(run.shown.contains("look up localhost:80: Err"), "{}", run.shown);
        assert!(trap.accept().is_err(), "0.2.{patch} has connected");
    }
}

// attack: escape: use another patch release of WASI to get functions without checks -> one instance
// of each interface serves all of WASI 0.2
#[test]
fn output_checks_apply_at_every_patch_level() {
    let host = InProcessHost::new(&[("key", "hunter2-hunter2-hunter2")]);
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n[limits]\ntime = \"200ms\"\nlog-bytes = \"10KiB\"";
    for patch in 0..=NEWEST + 1 {
        let run = host.run(&guest_for(&host, "flood", patch), policy, &["line"]).stopped(Limit::Time);
        assert_eq!(run.record.log.kept, 10 << 10);
        let run = host.run(&guest_for(&host, "trap", patch), policy, &["key"]);
        assert_eq!(run.record.outcome, Outcome::Failed);
        assert!(!run.shown.contains("hunter2") && run.shown.contains("[redacted:key]"), "{}", run.shown);
        let run = host.run(&guest_for(&host, "handles", patch), "version = 1", &["timers"]);
        run.stopped(Limit::Resources);
    }
}

// attack: access: import a function that a linked interface does not have, in any WASI version ->
// linking fails before any code runs and names the import
#[test]
fn newer_patch_level_runs_only_with_functions_that_exist() {
    let host = InProcessHost::new(&[]);
    host.run(&guest_for(&host, "hello", NEWEST + 1), "version = 1", &[]).finished();

    let host = Host::new();
    let missing = include_str!("guests/wat/wrong-import.wat").replace("@0.2.0", &format!("@0.2.{}", NEWEST + 1));
    let path = host.file("newer.wasm", wat::parse_str(missing).unwrap());
    let run = host.run(path.to_str().unwrap(), "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome), (3, Outcome::Refused), "{}", run.shown);
    let reason = run.record.reason.unwrap();
    for text in ["`set-environment`", &format!("wasi:cli/environment@0.2.{}", NEWEST + 1), "this host has WASI 0.2."] {
        assert!(reason.contains(text), "`{text}` is not in: {reason}");
    }
}

// promise: Components built for an earlier version of the guest contract run unchanged.
#[test]
fn component_for_every_patch_level_of_contract_runs() {
    let host = InProcessHost::new(&[("db-user", "alice-the-first")]);
    let (labels, exercise) = (std::fs::read(guest("labels")).unwrap(), std::fs::read(guest("exercise")).unwrap());
    for patch in 0..=TRAINING_PATCH + 1 {
        let run = |name: &str, component: &[u8], policy: &str, args: &'static [&'static str]| {
            let (component, rewritten) = to_patch_level(component, CONTRACT, patch);
            assert!(rewritten > 0, "{name}");
            let path = host.path().join(format!("{name}-0.1.{patch}.wasm"));
            std::fs::write(&path, component).unwrap();
            host.run(&path.to_string_lossy(), policy, args).finished()
        };
        let labelled = run("labels", &labels, "version = 1", &[]);
        assert_eq!(labelled.record.logged_tags["team"], "blue", "0.1.{patch}");
        let policy = "version = 1\n[secrets]\ndb-user = [\"get\"]";
        let exercised = run("exercise", &exercise, policy, &["len=db-user"]);
        assert!(exercised.shown.contains("len db-user: ok: 15"), "0.1.{patch}: {}", exercised.shown);
    }
}

// attack: access: import a function that a linked interface does not have, in any WASI version ->
// linking fails before any code runs and names the import
#[test]
fn newer_contract_with_unknown_function_is_refused_by_name() {
    let host = Host::new();
    let import = format!(
        r#"(import "strongroom:training/context@0.1.{}" (instance (export "read-vault" (func (result string)))))"#,
        TRAINING_PATCH + 1
    );
    let text = include_str!("guests/wat/wrong-import.wat");
    let (start, rest) = text.split_once("(import").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let path = host.file("newer.wasm", wat::parse_str(format!("{start}{import}\n{rest}")).unwrap());
    let run = host.run(path.to_str().unwrap(), "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome), (3, Outcome::Refused), "{}", run.shown);
    let reason = run.record.reason.unwrap();
    let here = format!("but this host has 0.1.{TRAINING_PATCH} of it");
    for text in ["`read-vault`", &format!("strongroom:training/context@0.1.{}", TRAINING_PATCH + 1), &here] {
        assert!(reason.contains(text), "`{text}` is not in: {reason}");
    }
}
