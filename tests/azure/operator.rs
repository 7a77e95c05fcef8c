//! Every command of an operator against a Key Vault, and what is said where it cannot be carried out.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::keyvault::write_private;
use crate::support::{Host, KeyVault};

/// `strongroom secret set` with more options; what it printed, or why not, and its exit code.
fn set(host: &Host, name: &str, value: &str, more: &[&str]) -> (i32, String) {
    let mut args = vec!["secret", "set", name, "--keep-newline"];
    args.extend(more);
    let mut child = host.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

fn json_of(host: &Host, args: &[&str]) -> Value {
    serde_json::from_str(&host.ok(args)).unwrap()
}

/// An operator's events in the audit, as `operation secret: outcome`.
fn outcomes(host: &Host) -> Vec<String> {
    let trail = host.ok(&["audit", "show", "--json"]);
    let events = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let outcomes = events.filter(|event| event["event"] == "operator-outcome");
    outcomes
        .map(|event| {
            let text = |field: &str| event[field].as_str().unwrap_or("-").to_owned();
            format!("{} {}: {}", text("operation"), text("secret"), text("outcome"))
        })
        .collect()
}

#[test]
fn what_is_set_is_read_described_and_listed() {
    let server = KeyVault::start();
    let host = server.host();
    let attributes =
        ["--content-type", "text/plain", "--not-before", "2026-01-01", "--expires", "2127-01-01T08:00:00Z", "--json"];
    let (code, said) = set(&host, "Db-Password", "first\nline\n", &attributes);
    assert_eq!(code, 0, "{said}");
    let first: Value = serde_json::from_str(&said).unwrap();
    let version = first[0]["version"].as_str().unwrap();
    assert_eq!(set(&host, "DB-PASSWORD", "second", &[]).0, 0);

    assert_eq!(host.get("db-password"), "second");
    assert_eq!(host.ok(&["secret", "get", "db-password", "--version", version]), "first\nline\n");
    let described = json_of(&host, &["secret", "describe", "db-password", "--json"]);
    assert_eq!((&described["name"], &described["content_type"]), (&json!("db-password"), &Value::Null));
    let versions = json_of(&host, &["secret", "versions", "db-password", "--json"]);
    let of = |field: &str| versions.as_array().unwrap().iter().map(|one| one[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("content_type"), [Value::Null, json!("text/plain")]);
    assert_eq!(of("expires"), [Value::Null, json!("2127-01-01T08:00:00Z")]);
    assert_eq!(of("not_before"), [Value::Null, json!("2026-01-01T00:00:00Z")]);
    assert_eq!(of("version")[1], json!(version));

    // Every spelling is one name, and goes over the wire folded.
    let asked = server.asked();
    assert!(asked.iter().any(|line| line == "PUT /secrets/db-password"), "{asked:?}");
    assert!(asked.iter().all(|line| *line == line.replace("DB", "db").replace("Db", "db").replace("Pass", "pass")));
    let missing = host.fails(2, &["secret", "get", "db-password", "--version", "0123456789abcdef"]);
    assert!(missing.contains("there is no version `0123456789abcdef`"), "{missing}");
}

#[test]
fn a_deleted_secret_is_recovered_or_purged() {
    let server = KeyVault::start();
    let host = server.host();
    assert_eq!(set(&host, "a", "before", &[]).0, 0);
    let deleted = host.ok(&["secret", "delete", "a"]);
    assert!(deleted.contains("`strongroom secret recover a` recovers it"), "{deleted}");
    assert!(host.fails(2, &["secret", "get", "a"]).contains("there is no secret `a`"));
    assert!(host.fails(2, &["secret", "versions", "a"]).contains("there is no secret `a`"));

    // What happened, and both ways out; one of them at once.
    let (code, said) = set(&host, "a", "after", &[]);
    assert_eq!(
        (code, said.as_str()),
        (
            2,
            "error: the vault cannot write `a`: it was deleted, and the vault keeps it to be recovered: `strongroom secret recover a` brings \
             it back, `strongroom secret purge a` removes it for good\n  \
             help: run `strongroom secret set a --recover` to recover it and store the value as its newest version\n"
        )
    );
    let (code, said) = set(&host, "a", "after", &["--recover"]);
    assert_eq!(code, 0, "{said}");
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
    host.audit_is_whole();
}

/// Azure takes seconds to delete, to recover and to purge. What is asked for meanwhile is told so, and `recover` waits.
#[test]
fn deleting_and_recovering_take_their_time() {
    let server = KeyVault::start();
    let host = server.host();
    server.set(&json!({"deletion-takes": 3600, "recovery-takes": 3}));
    assert_eq!(set(&host, "a", "before", &[]).0, 0);
    host.ok(&["secret", "delete", "a"]);
    for more in [&[][..], &["--recover"]] {
        let (code, said) = set(&host, "a", "too early", more);
        assert!(code == 2 && said.contains("it is being deleted: try again in a few seconds"), "{code}: {said}");
    }
    server.clock(&json!({"advance": 3600}));
    // The vault does not serve it for three seconds, and it is stored once it does.
    let (code, said) = set(&host, "a", "after", &["--recover"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.get("a"), "after");
}

// promise: A partial batch reports exactly which names were written.
#[test]
fn a_file_of_many_is_stored_and_a_failure_names_what_was() {
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
    server.forget();
    let said = host.fails(2, &args);
    assert!(said.contains("the vault cannot write `key-20`: it was deleted"), "{said}");
    assert!(said.contains("help: run `strongroom secret set key-20 --recover`"), "{said}");
    // Exactly what the server wrote is named, and the audit says the same of each.
    let mut written: Vec<String> = server
        .journal()
        .into_iter()
        .filter(|seen| seen.method == "PUT" && seen.status == 200)
        .map(|seen| seen.path.split(['/', '?']).nth(2).unwrap().to_owned())
        .collect();
    written.sort();
    let named: Vec<String> = written.iter().map(|name| format!("`{name}`")).collect();
    let expected = format!("only these were written before the failure: {}\n", named.join(", "));
    assert!(!written.is_empty() && written.len() < 30 && said.contains(&expected), "{expected}: {said}");
    let outcomes = outcomes(&host);
    let last = &outcomes[outcomes.len() - 30..];
    for n in 0..30 {
        let name = format!("key-{n}");
        let outcome = if written.contains(&name) { "written" } else { "not done: the batch stopped half-way" };
        assert!(last.contains(&format!("set {name}: {outcome}")), "{name} {outcome}: {last:?}");
    }
}

#[test]
fn a_list_goes_over_several_pages() {
    let server = KeyVault::start();
    for n in 0..60 {
        server.put(&format!("secret-{n:02}"), &json!({"value": "v"}));
    }
    let host = server.host();
    for empty_first in [false, true] {
        server.set(&json!({"empty-page-first": empty_first}));
        server.forget();
        let listed = json_of(&host, &["secret", "list", "--json"]);
        let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, (0..60).map(|n| format!("secret-{n:02}")).collect::<Vec<_>>());
        let pages = server.asked().into_iter().filter(|line| line == "GET /secrets").count();
        assert_eq!(pages, if empty_first { 4 } else { 3 });
    }
}

#[test]
fn a_disabled_secret_is_told_to_the_operator_alone() {
    let server = KeyVault::start();
    server.put("off", &json!({"value": "hunter2hunter2", "attributes": {"enabled": false}}));
    server.put("on", &json!({"value": "hunter3hunter3"}));
    let host = server.host();
    let said = host.fails(2, &["secret", "get", "off"]);
    assert!(said.contains("the secret `off` is disabled in the vault"), "{said}");
    assert!(said.contains("help:") && said.contains("set-attributes --name off --enabled true"), "{said}");
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
    let told = events.iter().filter(|event| event["secret"] == "off" && event["outcome"] == "disabled in the vault");
    assert!(told.count() >= 2, "{events:#?}");
}

/// Somebody else's spelling of a name stays in the vault's answers, in its links too.
#[test]
fn a_name_that_others_wrote_in_capitals_is_the_same_name() {
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
    // The exact entry does not grant it, whatever the prefix does.
    run.shows("delete MIXED-CASE: error: denied: mixed-case");
    host.ok(&["secret", "delete", "mixed-CASE"]);
    assert!(host.ok(&["secret", "recover", "MIXED-case"]).starts_with("recovered `mixed-case`"));
}
