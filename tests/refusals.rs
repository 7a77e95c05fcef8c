//! Runs that are refused before they start: components with unsupported imports, files that are not
//! components, and contradictory inputs. An error before the start creates and changes nothing.

use strongroom::record::{Blame, Outcome};

use crate::support::{Host, files_below, guest};

// promise: A component that imports anything that is not linked runs no code, and the error names
// the import.
// attack: access: import HTTP or an unknown interface -> imports are compared with the linked
// interfaces before anything is compiled
#[test]
fn unsupported_import_is_refused_by_name() {
    let host = Host::new();
    for (name, import) in [("http", "wasi:http/"), ("unknown-import", "example:nowhere/thing@1.2.3")] {
        let run = host.run(name, "version = 1", &[]);
        assert_eq!(
            (run.code, run.record.outcome, run.record.blame),
            (3, Outcome::Refused, Some(Blame::Guest)),
            "{}",
            run.shown
        );
        assert!(run.record.reason.clone().unwrap().contains(import), "{:?}", run.record.reason);
        run.never_shows("guest code runs");
    }
    host.assert_audit_intact();
}

// promise: A component that imports anything that is not linked runs no code, and the error names
// the import.
// attack: access: import a function that a linked interface does not have, in any WASI version ->
// linking fails before any code runs and names the import
#[test]
fn import_of_missing_function_is_refused_by_name() {
    let host = Host::new();
    let run = host.run("wrong-import", "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome, run.record.blame), (3, Outcome::Refused, Some(Blame::Guest)));
    let reason = run.record.reason.unwrap();
    assert!(reason.contains("wasi:cli/environment@0.2.0") && reason.contains("set-environment"), "{reason}");
}

// attack: access: pass a truncated, random, empty or text file, a core module or a component of
// another world -> the file type is detected from its sections, and what is invalid fails as the
// component's own error
#[test]
fn component_of_another_world_is_refused() {
    let host = Host::new();
    let run = host.run("wrong-run", "version = 1", &[]);
    assert_eq!((run.code, run.record.outcome), (3, Outcome::Refused));
    assert!(run.record.reason.clone().unwrap().contains("has no function `run`"), "{:?}", run.record.reason);
    let run = host.run("wrong-train", "version = 1", &[]).failed();
    let reason = run.record.reason.unwrap();
    assert!(reason.contains("type mismatch") || reason.contains("expected"), "{reason}");
}

/// Returns all files in a host's folder with their contents.
fn snapshot(host: &Host) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    // Opening a vault or an audit log writes bookkeeping files. Records, outputs and secrets must
    // not change.
    let is_compared = |path: &std::path::Path| {
        let path = path.to_string_lossy().into_owned();
        !path.contains("/audit/") && !path.contains("sqlite3-") && !path.ends_with(".lock") && !path.contains("/code/")
    };
    let files = files_below(host.path()).into_iter().filter(|path| is_compared(path));
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[track_caller]
fn assert_refused(host: &Host, code: i32, args: &[&str], says: &[&str]) {
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
fn invalid_component_file_is_refused_by_kind() {
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
    host.file("handler.wasm", std::fs::read(guest("http-handler")).unwrap());
    host.file("async.wasm", std::fs::read(guest("async-abi")).unwrap());
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
        ("handler.wasm", "but `wasi:http/incoming-handler@0.2.0`"),
        ("async.wasm", "needs WASI 0.3, which is not supported yet"),
        ("random.wasm", "random.wasm"),
        (".", "."),
    ] {
        assert_refused(&host, 2, &["run", file], &[says]);
    }
}

#[test]
fn contradictory_inputs_are_refused() {
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
    assert_refused(&host, 2, &["run", hello, "--policy", "absent.toml"], &["absent.toml"]);
    assert_refused(&host, 2, &["run", hello, "--policy", "malformed.toml"], &["malformed.toml:1"]);
    assert_refused(&host, 2, &["run", hello, "--policy", "unknown.toml"], &["unknown.toml:2", "secret"]);
    assert_refused(
        &host,
        2,
        &["run", hello, "--policy", "contradiction.toml"],
        &["contradiction.toml:4", "secrets.KEY"],
    );
    assert_refused(&host, 2, &["run", hello, "--policy", "pinned.toml"], &["sha256:0000"]);
    assert_refused(&host, 2, &["run", hello, "--policy", "metadata.toml"], &["metadata.toml:2"]);
    assert_refused(&host, 2, &["run", hello, "--input", "absent"], &["absent"]);
    assert_refused(&host, 2, &["run", hello, "--input", "in/data"], &["in/data"]);
    assert_refused(&host, 2, &["run", hello, "--output", "full"], &["not empty"]);
    assert_refused(&host, 2, &["run", hello, "--output", "in/data/x"], &["in/data/x"]);
    assert_refused(&host, 2, &["run", hello, "--input", "in", "--output", "in/out"], &["overlap"]);
    assert_refused(&host, 2, &["run", hello, "--param", "no-equals-sign"], &["NAME=VALUE"]);
    // A policy cannot exceed the host's ceilings.
    host.file("config/strongroom/config.toml", "[ceilings]\nmemory = \"1GiB\"\n");
    assert_refused(&host, 2, &["run", hello, "--policy", "huge.toml"], &["memory", "1GiB"]);
    // Component and policy in the wrong order.
    assert_refused(&host, 2, &["run", "unknown.toml", "--policy", hello], &["component"]);
}

#[test]
fn command_without_vault_creates_nothing() {
    let host = Host::without_vault();
    let hello = guest("hello").display().to_string();
    for args in [&["run", hello.as_str()] as &[&str], &["secret", "list"], &["secret", "get", "x"]] {
        assert_refused(&host, 5, args, &["strongroom init"]);
        assert!(!host.home().exists(), "{args:?} has made a home");
    }
    assert_refused(&host, 5, &["run", &hello, "--vault", "local:/nowhere/at/all"], &["/nowhere/at/all"]);
    assert_refused(&host, 2, &["run", &hello, "--vault", "ftp://vault"], &["vault"]);
    assert!(!host.home().exists());
}

#[test]
fn wrong_passphrase_or_damaged_vault_changes_nothing() {
    let host = Host::without_vault();
    host.file("right", "correct horse\n");
    host.file("wrong", "battery staple\n");
    for file in ["right", "wrong"] {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(host.path().join(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    host.ok(&["init", "--passphrase", "--passphrase-file", "right"]);
    host.file("value", "the value");
    host.ok(&["secret", "set", "key", "--from-file", "value", "--passphrase-file", "right"]);
    assert_refused(&host, 5, &["secret", "get", "key", "--passphrase-file", "wrong"], &["passphrase"]);
    assert_eq!(host.ok(&["secret", "get", "key", "--passphrase-file", "right"]), "the value");

    let database = host.home().join("vault/vault.sqlite3");
    let whole = std::fs::read(&database).unwrap();
    std::fs::write(&database, &whole[..whole.len() / 3]).unwrap();
    assert_refused(&host, 5, &["secret", "get", "key", "--passphrase-file", "right"], &["vault"]);
    std::fs::write(&database, &whole).unwrap();
    assert_eq!(host.ok(&["secret", "get", "key", "--passphrase-file", "right"]), "the value");
}
