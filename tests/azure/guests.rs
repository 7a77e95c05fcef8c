//! Requests that components cause at a Key Vault.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{EndedRun, KeyVault};

/// Returns the first line of output that starts with `begin`.
fn line<'a>(run: &'a EndedRun, start: &str) -> &'a str {
    run.shown.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no `{start}`:\n{}", run.shown))
}

#[test]
fn component_uses_what_its_policy_grants() {
    let server = KeyVault::start();
    server.put("data-key", &json!({"value": "open-sesame", "contentType": "text/plain"}));
    let host = server.host();
    let policy = "version = 1\n[secrets]\ndata-key = [\"get\", \"describe\", \"list\"]\n\
                  \"made-*\" = [\"set\", \"get\", \"list\", \"delete\"]\nabsent = [\"get\"]\n";
    let steps = [
        "get=data-key",
        "describe=data-key",
        "get=absent",
        "set-many=made-a=value of a,made-b=value of b",
        "get-many=made-b,absent,data-key",
        "list",
        "delete=made-a",
        "set=made-a=again",
        "get=made-a",
        "delete-many=made-b,made-c",
    ];
    let run = host.run("exercise", policy, &steps).finished().never_shows("open-sesame").never_shows("value of b");
    assert!(line(&run, "get data-key").ends_with("ok: \"[redacted:data-key]\""));
    assert!(line(&run, "describe data-key").contains("content-type: Some(\"text/plain\")"), "{}", run.shown);
    let run =
        run.shows("get absent: error: not-found: absent").shows("list : ok: [\"data-key\", \"made-a\", \"made-b\"]");
    let run = run.shows("delete made-a: ok").shows("get made-a: error: not-found: made-a");
    // A deleted name is unavailable until it is recovered or purged. The component learns that; the
    // operator also learns what to do.
    let run = run.shows("error: conflict: made-a").shows("recovered or purged");
    assert!(line(&run, "delete-many").contains("error: partial: made-b"), "{}", run.shown);
    host.ok(&["secret", "recover", "made-a"]);
    assert_eq!(host.get("made-a"), "value of a");

    // The record and the audit log name the vault.
    assert_eq!(run.record.vault.as_ref(), Some(&server.info().vault));
    assert_eq!(host.events(&run.record)[0]["detail"]["vault"], json!(server.info().vault));
    host.assert_audit_intact();
}

// promise: The reply for a name that is not granted does not depend on whether the secret exists,
// and neither the cache nor the vault is asked.
#[test]
fn ungranted_names_cause_no_vault_request() {
    let server = KeyVault::start();
    server.put("crown-jewels", &json!({"value": "the-crown-jewels"}));
    let host = server.host();
    let policy = "version = 1\n[secrets]\nharmless = [\"get\"]\nmine = { allow = [\"get\"], max-uses = 1 }\n";
    let steps = [
        "get=crown-jewels",
        "get=CROWN-JEWELS",
        "get=nothing",
        "get=../keys/crown-jewels",
        "get=crown-jewels/0123",
        "get=%63rown-jewels",
        "get-many=harmless,crown-jewels",
        "set=crown-jewels=x",
        "set=harmless=x",
        "set-many=harmless=x,crown-jewels=x",
        "delete=crown-jewels",
        "describe=crown-jewels",
        "list",
    ];
    let run = host.run("exercise", policy, &steps).finished().never_shows("the-crown");
    assert!(!run.shown.contains(": ok"), "{}", run.shown);
    assert_eq!(server.journal().len(), 0, "{:?}", server.journal());

    // A granted name is requested once, in lower case.
    host.run("exercise", policy, &["get=HarmLess", "get=harmless", "get=mine", "get=mine"]).finished();
    assert_eq!(server.vault_requests(), ["GET /secrets/harmless", "GET /secrets/mine"]);
}

// promise: A list over exact names never pages through the vault.
#[test]
fn list_over_exact_names_does_not_page_the_vault() {
    let server = KeyVault::start();
    for n in 0..60 {
        server.put(&format!("other-{n}"), &json!({"value": "v"}));
    }
    server.put("a", &json!({"value": "value-of-a"}));
    server.put("b-stored", &json!({"value": "value-of-b"}));
    let host = server.host();
    let exact = "version = 1\n[secrets]\na = [\"list\"]\nb = { allow = [\"list\"], stored-as = \"b-stored\" }\nc = [\"list\"]\n";
    host.run("exercise", exact, &["list"]).finished().shows("list : ok: [\"a\", \"b\"]");
    let requests: BTreeSet<String> = server.vault_requests().into_iter().collect();
    let expected = ["GET /secrets/a/versions", "GET /secrets/b-stored/versions", "GET /secrets/c/versions"];
    assert_eq!(requests, expected.map(str::to_owned).into());

    server.clear_journal();
    let prefix = "version = 1\n[secrets]\n\"other-*\" = [\"list\"]\n";
    let run = host.run("exercise", prefix, &["list"]).finished();
    assert_eq!(line(&run, "list").matches("other-").count(), 60);
    assert_eq!(server.vault_requests(), ["GET /secrets"; 3]);
}

// promise: A partial batch reports exactly which names were written.
#[test]
fn partial_batch_reports_exactly_the_written_names() {
    let server = KeyVault::start();
    let host = server.host();
    let names: Vec<String> = (0..20).map(|n| format!("k{n:02}")).collect();
    let pairs: Vec<String> = names.iter().map(|name| format!("{name}=value of {name}")).collect();
    // One of them is stored under another name.
    let policy = "version = 1\n[secrets]\n\"k*\" = [\"set\"]\nk01 = { allow = [\"set\"], stored-as = \"stored-01\" }\n";
    server.fault(&json!({"what": {"kind": "status", "code": 403}, "method": "PUT", "path": "/secrets/k11"}));
    let run = host.run("exercise", policy, &[&format!("set-many={}", pairs.join(","))]).finished();

    // A refused request is not retried.
    assert_eq!(server.counters()["faults"]["status"], 1);
    assert!(server.journal().iter().any(|request| request.fault.as_deref() == Some("status") && request.status == 403));
    let written = server.journal().into_iter().filter(|request| request.method == "PUT" && request.status == 200);
    let written: BTreeSet<String> =
        written.map(|request| request.path.split(['/', '?']).nth(2).unwrap().replace("stored-", "k")).collect();
    let reported = line(&run, "set-many").split("error: partial: ").nth(1).expect("a partial result");
    assert_eq!(reported.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(), written);
    assert!(written.contains("k00") && !written.contains("k11") && written.len() < 20, "{written:?}");

    let events = host.events(&run.record);
    for name in &names {
        let concerns = |event: &&serde_json::Value| event["asked"].as_str().or(event["secret"].as_str()) == Some(name);
        let outcome: Vec<_> = events.iter().filter(concerns).filter(|event| event["event"] == "outcome").collect();
        let expected = if written.contains(name) { "done" } else { "not done: the batch stopped half-way" };
        assert!(outcome.len() == 1 && outcome[0]["outcome"] == expected, "{name}: {expected}: {outcome:?}");
    }
    // The vault contains exactly the names that were reported.
    server.clear_faults();
    for name in &names {
        let stored = name.replace("k01", "stored-01");
        assert_eq!(host.output(&["secret", "get", &stored]).status.success(), written.contains(name), "{name}");
    }
}

/// A Key Vault serves secrets outside their validity period; the host does not.
#[test]
fn validity_period_is_enforced_by_the_host() {
    let server = KeyVault::start();
    server.put("early", &json!({"value": "hunter2hunter2", "attributes": {"enabled": true, "nbf": 4_000_000_000_i64}}));
    server.put("late", &json!({"value": "hunter3hunter3", "attributes": {"enabled": true, "exp": 1_000_000_000}}));
    let host = server.host();
    let policy = "version = 1\n[secrets]\nearly = [\"get\", \"describe\"]\nlate = [\"get\", \"describe\"]\n";
    let steps = ["get=early", "get=late", "get-many=early,late", "describe=late"];
    let run = host.run("exercise", policy, &steps).finished().never_shows("hunter");
    assert_eq!(run.shown.matches("error: not-found").count(), 3, "{}", run.shown);
    assert_eq!(
        server.journal().iter().filter(|request| request.kind == "get-secret" && request.status == 200).count(),
        3
    );
    // The operator can read them.
    assert_eq!((host.get("early"), host.get("late")), ("hunter2hunter2".to_owned(), "hunter3hunter3".to_owned()));
}

/// A run keeps the version that it read first. The next run gets the new version.
#[test]
fn rotated_secret_reaches_the_next_run() {
    let server = KeyVault::start();
    server.put("key", &json!({"value": "first-value"}));
    let host = server.host_with("client-secret", &server.application(), "[cache]\nttl = \"0s\"\n");
    let policy = "version = 1\n[secrets]\nkey = [\"get\", \"describe\"]\n";
    let first = host.run("exercise", policy, &["len=key", "describe=key"]).finished();
    server.put("key", &json!({"value": "the second value"}));
    server.clear_journal();
    let second = host.run("exercise", policy, &["len=key", "describe=key"]).finished();
    assert!(line(&first, "len").ends_with("ok: 11") && line(&second, "len").ends_with("ok: 16"), "{}", second.shown);
    // The description is requested for the version that the run has read.
    let requests = server.vault_requests();
    assert!(
        requests.len() == 2 && requests[0] == "GET /secrets/key" && requests[1].starts_with("GET /secrets/key/"),
        "{requests:?}"
    );
}
