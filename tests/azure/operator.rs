//! An operator's commands against a Key Vault, and their errors.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::keyvault::write_private;
use crate::support::{Host, KeyVault};

/// Runs `strongroom secret set` with additional options. Returns its exit code and everything it
/// printed.
fn set(host: &Host, name: &str, value: &str, more: &[&str]) -> (i32, String) {
    let mut args = vec!["secret", "set", name, "--keep-newline"];
    args.extend(more);
    let mut child = host.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), printed)
}

fn json_of(host: &Host, args: &[&str]) -> Value {
    serde_json::from_str(&host.ok(args)).unwrap()
}

/// Returns an operator's events in the audit log, as `operation secret: outcome`.
fn outcomes(host: &Host) -> Vec<String> {
    let log = host.ok(&["audit", "show", "--json"]);
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let outcomes = events.filter(|event| event["event"] == "operator-outcome");
    outcomes
        .map(|event| {
            let text = |field: &str| event[field].as_str().unwrap_or("-").to_owned();
            format!("{} {}: {}", text("operation"), text("secret"), text("outcome"))
        })
        .collect()
}

#[test]
fn stored_secret_is_read_described_and_listed() {
    let server = KeyVault::start();
    let host = server.host();
    let attributes =
        ["--content-type", "text/plain", "--not-before", "2026-01-01", "--expires", "2127-01-01T08:00:00Z", "--json"];
    let (code, printed) = set(&host, "Db-Password", "first\nline\n", &attributes);
    assert_eq!(code, 0, "{printed}");
    let first: Value = serde_json::from_str(&printed).unwrap();
    let version = first[0]["version"].as_str().unwrap();
    assert_eq!(set(&host, "DB-PASSWORD", "second", &[]).0, 0);

    assert_eq!(host.get("db-password"), "second");
    assert_eq!(host.ok(&["secret", "get", "db-password", "--version", version]), "first\nline\n");
    let described = json_of(&host, &["secret", "describe", "db-password", "--json"]);
    assert_eq!((&described["name"], &described["content_type"]), (&json!("db-password"), &Value::Null));
    let versions = json_of(&host, &["secret", "versions", "db-password", "--json"]);
    let of = |field: &str| versions.as_array().unwrap().iter().map(|item| item[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("content_type"), [Value::Null, json!("text/plain")]);
    assert_eq!(of("expires"), [Value::Null, json!("2127-01-01T08:00:00Z")]);
    assert_eq!(of("not_before"), [Value::Null, json!("2026-01-01T00:00:00Z")]);
    assert_eq!(of("version")[1], json!(version));

    // Every spelling is one name, which is sent in lower case.
    let requests = server.vault_requests();
    assert!(requests.iter().any(|line| line == "PUT /secrets/db-password"), "{requests:?}");
    assert!(requests.iter().all(|line| *line == line.replace("DB", "db").replace("Db", "db").replace("Pass", "pass")));
    let missing = host.fails(2, &["secret", "get", "db-password", "--version", "0123456789abcdef"]);
    assert!(missing.contains("there is no version `0123456789abcdef`"), "{missing}");
}

#[test]
fn deleted_secret_is_recovered_or_purged() {
    let server = KeyVault::start();
    let host = server.host();
    assert_eq!(set(&host, "a", "before", &[]).0, 0);
    let deleted = host.ok(&["secret", "delete", "a"]);
    assert!(deleted.contains("`strongroom secret recover a` recovers it"), "{deleted}");
    assert!(host.fails(2, &["secret", "get", "a"]).contains("there is no secret `a`"));
    assert!(host.fails(2, &["secret", "versions", "a"]).contains("there is no secret `a`"));

    // The error names both ways to resolve the conflict, and one of them directly.
    let (code, printed) = set(&host, "a", "after", &[]);
    assert_eq!(
        (code, printed.as_str()),
        (
            2,
            "error: could not write `a`: it was deleted, and the vault retains it until it is recovered or purged\n  \
             help: run `strongroom secret set a --recover` to recover it and store the value as its newest version; \
             `strongroom secret recover a` only recovers it, and `strongroom secret purge a` removes it\n"
        )
    );
    let (code, printed) = set(&host, "a", "after", &["--recover"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(host.get("a"), "after");
    assert_eq!(json_of(&host, &["secret", "versions", "a", "--json"]).as_array().unwrap().len(), 2);

    host.ok(&["secret", "delete", "a"]);
    let recovered = host.ok(&["secret", "recover", "a"]);
    assert!(recovered.starts_with("recovered `a`; its newest version is "), "{recovered}");
    assert_eq!(host.get("a"), "after");
    assert!(host.fails(2, &["secret", "recover", "a"]).contains("retains no deleted secret `a`"));

    host.ok(&["secret", "delete", "a"]);
    assert_eq!(host.ok(&["secret", "purge", "a"]), "purged `a`; it cannot be recovered\n");
    assert!(host.fails(2, &["secret", "purge", "a"]).contains("retains no deleted secret `a`"));
    assert_eq!(set(&host, "a", "a new beginning", &["--recover"]).0, 0);
    assert_eq!(json_of(&host, &["secret", "versions", "a", "--json"]).as_array().unwrap().len(), 1);

    let outcomes = outcomes(&host);
    for expected in [
        "set a: conflict: it was deleted and can be recovered",
        "recover a: recovered",
        "recover a: no such secret",
        "purge a: purged",
        "delete a: deleted",
    ] {
        assert!(outcomes.iter().any(|outcome| outcome == expected), "{expected}: {outcomes:?}");
    }
    host.assert_audit_intact();
}

/// Azure takes seconds to delete, recover and purge. Requests in the meantime are explained, and
/// `recover` waits.
#[test]
fn secret_being_deleted_cannot_be_written_yet() {
    let server = KeyVault::start();
    let host = server.host();
    server.set(&json!({"deletion-takes": 3600, "recovery-takes": 3}));
    assert_eq!(set(&host, "a", "before", &[]).0, 0);
    host.ok(&["secret", "delete", "a"]);
    for more in [&[][..], &["--recover"]] {
        let (code, printed) = set(&host, "a", "too early", more);
        assert!(code == 2 && printed.contains("it is being deleted: try again in a few seconds"), "{code}: {printed}");
    }
    server.clock(&json!({"advance": 3600}));
    // The vault does not serve the secret for three seconds; then the value is stored.
    let (code, printed) = set(&host, "a", "after", &["--recover"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(host.get("a"), "after");
}

// promise: A partial batch reports exactly which names were written.
#[test]
fn partial_env_file_reports_exactly_the_stored_names() {
    let server = KeyVault::start();
    let host = server.host();
    let lines: String = (0..30).map(|n| format!("KEY_{n}='value number {n}'\n")).collect();
    let file = host.path().join("many.env");
    write_private(&file, lines);
    let args = ["secret", "set", "--env-file", file.to_str().unwrap(), "--rename"];
    assert_eq!(host.ok(&args).lines().count(), 30);
    assert_eq!(host.get("key-29"), "value number 29");
    assert_eq!(json_of(&host, &["secret", "list", "--json"]).as_array().unwrap().len(), 30);

    host.ok(&["secret", "delete", "key-20"]);
    server.clear_journal();
    let printed = host.fails(2, &args);
    assert!(printed.contains("could not write `key-20`: it was deleted"), "{printed}");
    assert!(printed.contains("help: run `strongroom secret set key-20 --recover`"), "{printed}");
    // The error names exactly what the server wrote, and the audit log agrees for each name.
    let mut written: Vec<String> = server
        .journal()
        .into_iter()
        .filter(|request| request.method == "PUT" && request.status == 200)
        .map(|request| request.path.split(['/', '?']).nth(2).unwrap().to_owned())
        .collect();
    written.sort();
    let named: Vec<String> = written.iter().map(|name| format!("`{name}`")).collect();
    let expected = format!("only these were written before the failure: {}\n", named.join(", "));
    assert!(!written.is_empty() && written.len() < 30 && printed.contains(&expected), "{expected}: {printed}");
    let outcomes = outcomes(&host);
    let last = &outcomes[outcomes.len() - 30..];
    for n in 0..30 {
        let name = format!("key-{n}");
        let outcome = if written.contains(&name) { "written" } else { "not done: the batch stopped half-way" };
        assert!(last.contains(&format!("set {name}: {outcome}")), "{name} {outcome}: {last:?}");
    }
}

#[test]
fn list_covers_several_pages() {
    let server = KeyVault::start();
    for n in 0..60 {
        server.put(&format!("secret-{n:02}"), &json!({"value": "v"}));
    }
    let host = server.host();
    for empty_first in [false, true] {
        server.set(&json!({"empty-page-first": empty_first}));
        server.clear_journal();
        let listed = json_of(&host, &["secret", "list", "--json"]);
        let names: Vec<_> = listed.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(names, (0..60).map(|n| format!("secret-{n:02}")).collect::<Vec<_>>());
        let pages = server.vault_requests().into_iter().filter(|line| line == "GET /secrets").count();
        assert_eq!(pages, if empty_first { 4 } else { 3 });
    }
}

#[test]
fn disabled_secret_is_explained_to_the_operator_only() {
    let server = KeyVault::start();
    server.put("off", &json!({"value": "hunter2hunter2", "attributes": {"enabled": false}}));
    server.put("on", &json!({"value": "hunter3hunter3"}));
    let host = server.host();
    let printed = host.fails(2, &["secret", "get", "off"]);
    assert!(printed.contains("the secret `off` is disabled in the vault"), "{printed}");
    assert!(printed.contains("help:") && printed.contains("set-attributes --name off --enabled true"), "{printed}");
    assert!(host.ok(&["secret", "describe", "off"]).contains("enabled     no"));
    let listed = host.ok(&["secret", "list"]);
    let line = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap().trim_end().to_owned();
    assert!(line("NAME").ends_with("STATE") && line("off").ends_with("disabled"), "{listed}");
    assert!(!line("on ").contains("disabled"), "{listed}");
    assert!(host.ok(&["secret", "versions", "off"]).contains("disabled"));

    let policy = "version = 1\n[secrets]\noff = [\"get\", \"describe\", \"list\"]\non = [\"get\", \"list\"]\n";
    let steps = ["get=off", "describe=off", "get-many=on,off", "list", "get=off"];
    let run = host.run("exercise", policy, &steps).finished().never_shows("hunter2");
    let run = run.shows("get off: error: not-found: off").shows("describe off: error: not-found: off");
    let run = run.shows(r#"get-many on,off: ok: [("on", Some("[redacted:on]")), ("off", None)]"#);
    let run = run.shows(r#"list : ok: ["on"]"#);
    let events = host.events(&run.record);
    let disabled =
        events.iter().filter(|event| event["secret"] == "off" && event["outcome"] == "disabled in the vault");
    assert!(disabled.count() >= 2, "{events:#?}");
}

/// Another client's spelling of a name appears in the vault's answers and links.
#[test]
fn mixed_case_name_in_the_vault_is_the_same_name() {
    let server = KeyVault::start();
    for n in 0..30 {
        server.put("Mixed-Case", &json!({"value": format!("value number {n}")}));
    }
    let host = server.host();
    assert_eq!(host.get("MIXED-case"), "value number 29");
    let versions = json_of(&host, &["secret", "versions", "mixed-case", "--json"]);
    assert_eq!(versions.as_array().unwrap().len(), 30);
    assert_eq!(json_of(&host, &["secret", "list", "--json"])[0]["name"], "mixed-case");
    let policy = "version = 1\n[secrets]\nmixed-case = [\"get\", \"list\"]\n\"m*\" = [\"list\", \"delete\"]\n";
    let run = host.run("exercise", policy, &["get=Mixed-Case", "list", "delete=MIXED-CASE"]).finished();
    let run = run.shows("get Mixed-Case: ok: \"[redacted:mixed-case]\"").shows("list : ok: [\"mixed-case\"]");
    // The exact entry does not grant it, and so the prefix does not apply.
    run.shows("delete MIXED-CASE: error: denied: mixed-case");
    host.ok(&["secret", "delete", "mixed-CASE"]);
    assert!(host.ok(&["secret", "recover", "MIXED-case"]).starts_with("recovered `mixed-case`"));
}
