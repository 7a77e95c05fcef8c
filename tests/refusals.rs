//! What is not run at all: components that import too much, files that are no components, and inputs that contradict each other. Nothing is
//! created or changed by an error before the start.

use strongroom::record::{Blame, Outcome};

use crate::support::{Host, files_below, guest};

// promise: A component that imports anything that is not linked runs no code, and the error names
// the import.
// attack: access: import HTTP or an unknown interface -> imports are compared with the linked
// interfaces before anything is compiled
#[test]
fn an_import_that_nobody_granted_is_refused_by_name() {
    let host = Host::new();
    for (name, import) in [("http", "wasi:http/"), ("unknown-import", "example:nowhere/thing@1.2.3")] {
        let run = host.run(name, "version = 1", &[]);
        assert_eq!(
            (run.code, run.record.outcome, run.record.blame),
            (3, Outcome::Refused, Some(Blame::Policy)),
            "{}",
            run.shown
        );
        assert!(run.record.reason.clone().unwrap().contains(import), "{:?}", run.record.reason);
        run.never_shows("guest code runs");
    }
    host.audit_is_whole();
}

// promise: A component that imports anything that is not linked runs no code, and the error names
// the import.
// attack: access: import a function that a linked interface does not have, or a newer WASI version
// -> linking fails before any code runs and names the import
#[test]
fn a_function_that_an_interface_does_not_have_is_refused_by_name() {
    let host = Host::new();
    let run = host.run("wrong-import", "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome, run.record.blame), (3, Outcome::Refused, Some(Blame::Policy)));
    let reason = run.record.reason.unwrap();
    assert!(reason.contains("wasi:cli/environment@0.2.0") && reason.contains("set-environment"), "{reason}");
}

// attack: access: pass a truncated, random, empty or text file, a core module or a component of
// another world -> the file type is detected from its sections, and what is invalid fails as the
// component's own error
#[test]
fn a_component_of_another_world_is_told_so() {
    let host = Host::new();
    let run = host.run("wrong-run", "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome), (3, Outcome::Refused));
    assert!(run.record.reason.clone().unwrap().contains("has no function `run`"), "{:?}", run.record.reason);
    let run = host.run("wrong-train", "version = 1", &[]).failed();
    let reason = run.record.reason.unwrap();
    assert!(reason.contains("type mismatch") || reason.contains("expected"), "{reason}");
}

/// Everything in a host's folder, with its content.
fn snapshot(host: &Host) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    // Opening a vault or an audit writes their own bookkeeping; what must not appear is a record, an output, or a change of a secret.
    let kept = |path: &std::path::Path| {
        let path = path.to_string_lossy().into_owned();
        !path.contains("/audit/") && !path.contains("sqlite3-") && !path.ends_with(".lock") && !path.contains("/code/")
    };
    let files = files_below(host.path()).into_iter().filter(|path| kept(path));
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[track_caller]
fn is_refused(host: &Host, code: i32, args: &[&str], says: &[&str]) {
    let before = snapshot(host);
    let message = host.fails(code, args);
    for text in says {
        assert!(message.contains(text), "`{text}` is not in:\n{message}");
    }
    assert_eq!(message.matches("error:").count(), 1, "one message:\n{message}");
    assert_eq!(snapshot(host), before, "{args:?} has changed something");
}

// attack: access: pass a truncated, random, empty or text file, a core module or a component of
// another world -> the file type is detected from its sections, and what is invalid fails as the
// component's own error
#[test]
fn what_is_no_component_is_told_apart() {
    let host = Host::new();
    let hello = std::fs::read(guest("hello")).unwrap();
    let core = wat::parse_str("(module)").unwrap();
    host.file("empty.wasm", b"");
    host.file("text.wasm", "(component)");
    host.file("prose.wasm", "hello there\n");
    host.file("core.wasm", core);
    host.file("truncated.wasm", &hello[..hello.len() / 2]);
    let mut corrupt = hello.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 200].fill(0xff);
    host.file("corrupt.wasm", corrupt);
    host.file("nothing.wasm", wat::parse_str("(component)").unwrap());
    host.file("random.wasm", (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>());
    for (file, says) in [
        ("missing.wasm", "missing.wasm"),
        ("empty.wasm", "empty"),
        ("text.wasm", "text"),
        ("prose.wasm", "prose.wasm"),
        ("core.wasm", "core"),
        ("truncated.wasm", "truncated.wasm"),
        ("corrupt.wasm", "corrupt.wasm"),
        ("nothing.wasm", "wasi:cli/run"),
        ("random.wasm", "random.wasm"),
        (".", "."),
    ] {
        is_refused(&host, 2, &["run", file], &[says]);
    }
}

#[test]
fn inputs_that_contradict_each_other_are_refused() {
    let host = Host::new();
    let hello = guest("hello").display().to_string();
    let hello = hello.as_str();
    host.file("full/file", "x");
    host.file("in/data", "x");
    host.file("malformed.toml", "version = \n");
    host.file("unknown.toml", "version = 1\nsecret = 1\n");
    host.file("contradiction.toml", "version = 1\n[secrets]\nkey = [\"get\"]\nKEY = []\n");
    host.file("pinned.toml", format!("version = 1\ncomponent = \"sha256:{}\"\n", "0".repeat(64)));
    host.file("huge.toml", "version = 1\n[limits]\nmemory = \"100000GiB\"\n");
    host.file("metadata.toml", "version = 1\ntcp = [\"169.254.169.254:80\"]\n");
    is_refused(&host, 2, &["run", hello, "--policy", "absent.toml"], &["absent.toml"]);
    is_refused(&host, 2, &["run", hello, "--policy", "malformed.toml"], &["malformed.toml:1"]);
    is_refused(&host, 2, &["run", hello, "--policy", "unknown.toml"], &["unknown.toml:2", "secret"]);
    is_refused(&host, 2, &["run", hello, "--policy", "contradiction.toml"], &["contradiction.toml:4", "secrets.KEY"]);
    is_refused(&host, 2, &["run", hello, "--policy", "pinned.toml"], &["sha256:0000"]);
    is_refused(&host, 2, &["run", hello, "--policy", "metadata.toml"], &["metadata.toml:2"]);
    is_refused(&host, 2, &["run", hello, "--input", "absent"], &["absent"]);
    is_refused(&host, 2, &["run", hello, "--input", "in/data"], &["in/data"]);
    is_refused(&host, 2, &["run", hello, "--output", "full"], &["not empty"]);
    is_refused(&host, 2, &["run", hello, "--output", "in/data/x"], &["in/data/x"]);
    is_refused(&host, 2, &["run", hello, "--input", "in", "--output", "in/out"], &["overlap"]);
    is_refused(&host, 2, &["run", hello, "--param", "no-equals-sign"], &["NAME=VALUE"]);
    // A policy cannot ask for more than the host-wide ceiling.
    host.file("config/strongroom/config.toml", "[ceilings]\nmemory = \"1GiB\"\n");
    is_refused(&host, 2, &["run", hello, "--policy", "huge.toml"], &["memory", "1GiB"]);
    // Component and policy in the wrong order.
    is_refused(&host, 2, &["run", "unknown.toml", "--policy", hello], &["component"]);
}

#[test]
fn without_a_vault_nothing_is_created() {
    let host = Host::bare();
    let hello = guest("hello").display().to_string();
    for args in [&["run", hello.as_str()] as &[&str], &["secret", "list"], &["secret", "get", "x"]] {
        is_refused(&host, 5, args, &["strongroom init"]);
        assert!(!host.home().exists(), "{args:?} has made a home");
    }
    is_refused(&host, 5, &["run", &hello, "--vault", "local:/nowhere/at/all"], &["/nowhere/at/all"]);
    is_refused(&host, 2, &["run", &hello, "--vault", "ftp://vault"], &["vault"]);
    assert!(!host.home().exists());
}

#[test]
fn a_wrong_passphrase_and_a_damaged_vault_change_nothing() {
    let host = Host::bare();
    host.file("right", "correct horse\n");
    host.file("wrong", "battery staple\n");
    for file in ["right", "wrong"] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(host.path().join(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    host.ok(&["init", "--passphrase", "--passphrase-file", "right"]);
    host.file("value", "the value");
    host.ok(&["secret", "set", "key", "--from-file", "value", "--passphrase-file", "right"]);
    is_refused(&host, 5, &["secret", "get", "key", "--passphrase-file", "wrong"], &["passphrase"]);
    assert_eq!(host.ok(&["secret", "get", "key", "--passphrase-file", "right"]), "the value");

    let database = host.home().join("vault/vault.sqlite3");
    let whole = std::fs::read(&database).unwrap();
    std::fs::write(&database, &whole[..whole.len() / 3]).unwrap();
    is_refused(&host, 5, &["secret", "get", "key", "--passphrase-file", "right"], &["vault"]);
    std::fs::write(&database, &whole).unwrap();
    assert_eq!(host.ok(&["secret", "get", "key", "--passphrase-file", "right"]), "the value");
}
