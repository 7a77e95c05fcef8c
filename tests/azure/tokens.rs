//! Expired and revoked tokens, and clocks that disagree.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::vault::cache::Settings;

use crate::support::KeyVault;
use crate::support::in_process::InProcessHost;

const POLICY: &str = "version = 1\n[secrets]\n\"db-*\" = [\"get\"]";

/// Longer than the host waits between two replacements of refused tokens.
const REPLACEMENT_PAUSE: Duration = Duration::from_millis(1200);

fn without_cache() -> Settings {
    Settings { time_to_live: Duration::ZERO, ..Settings::default() }
}

fn server() -> KeyVault {
    let server = KeyVault::start();
    for name in ["db-one", "db-two"] {
        server.put(name, &json!({"value": "hunter2-hunter2"}));
    }
    server
}

/// Returns the number of requests for tokens.
fn tokens(server: &KeyVault) -> usize {
    server.journal().into_iter().filter(|request| request.service == "authority" && request.method == "POST").count()
}

// promise: A token that the vault refuses is replaced once, and at a limited rate.
#[test]
fn refused_token_is_replaced_once() {
    let server = server();
    let host = InProcessHost::with_vault(server.cached(without_cache()), 64);
    let read = |runs: usize| {
        let requests = vec![("exercise", POLICY.to_owned(), &["len=db-one"] as &[&str]); runs];
        for run in host.run_all(&requests, runs) {
            run.finished().shows("len db-one: ok: 15");
        }
    };
    read(20);
    assert_eq!(tokens(&server), 1);
    let changes: [(&str, &dyn Fn()); 3] = [
        ("revoked", &|| server.change_principal("application", &json!("revoke-tokens"))),
        // Expired by the vault's clock, then not yet valid by it.
        ("the vault's clock two hours on", &|| server.clock(&json!({"advance": 7200}))),
        ("the vault's clock four hours back", &|| server.clock(&json!({"advance": -14_400}))),
    ];
    for (index, (what, change)) in changes.into_iter().enumerate() {
        sleep(REPLACEMENT_PAUSE);
        change();
        read(20);
        assert_eq!(tokens(&server), index + 2, "{what}: not one token for twenty runs");
    }
}

#[test]
fn token_is_replaced_before_it_expires() {
    let server = server();
    // Shorter than the remaining lifetime that the host requires.
    server.set(&json!({"token-lifetime": 200}));
    let host = InProcessHost::with_vault(server.cached(without_cache()), 4);
    for _ in 0..3 {
        host.run("exercise", POLICY, &["len=db-one"]).finished().shows("len db-one: ok: 15");
    }
    assert!(tokens(&server) >= 2, "{:?}", server.journal());
    assert_eq!(server.counters()["statuses"]["401"], json!(1), "only the challenge: {}", server.counters());
}

// attack: vault: have runs served after the credential of the host was revoked -> a refusal takes
// effect at once, whatever the grace period
#[test]
fn revoked_credential_ends_access_despite_grace_period() {
    let server = server();
    let settings = Settings { grace: Duration::from_secs(3600), ..Settings::default() };
    let host = InProcessHost::with_vault(server.cached(settings), 4);
    host.run("exercise", POLICY, &["len=db-one"]).finished().shows("len db-one: ok: 15");
    server.change_principal("application", &json!({"disabled": true}));
    server.change_principal("application", &json!("revoke-tokens"));
    // Cached values are served for their time to live. Others are unavailable, whatever the grace
    // period.
    let run = host.run("exercise", POLICY, &["len=db-one", "get=db-two"]).finished();
    let run = run.shows("len db-one: ok: 15").shows("get db-two: error: unavailable: the vault cannot serve now\n");
    let events = host.events(&run.record);
    let last_event =
        |name: &str| events.iter().rfind(|event| event["secret"] == name && !event["outcome"].is_null()).cloned();
    assert_eq!(last_event("db-two").unwrap()["outcome"], "failed: the vault refused the host");

    // The operator's error says what to do.
    let message = server.host().fails(5, &["secret", "get", "db-one"]);
    for word in
        ["Entra does not accept the application's secret", "AADSTS", "`az ad app credential reset` makes another"]
    {
        assert!(message.contains(word), "{word}: {message}");
    }
    // Access returns with the credential.
    sleep(REPLACEMENT_PAUSE);
    server.change_principal("application", &json!({"disabled": false}));
    host.run("exercise", POLICY, &["len=db-two"]).finished().shows("len db-two: ok: 15");
}

// promise: A token that the vault refuses is replaced once, and at a limited rate.
// attack: vault: refuse every token so that the host keeps requesting new ones -> one new token for
// each refusal, at most one a second
#[test]
fn refused_tokens_are_replaced_at_a_limited_rate() {
    let server = server();
    let host = InProcessHost::with_vault(Arc::clone(&server.cached(without_cache())), 4);
    host.run("exercise", POLICY, &["len=db-one"]).finished();
    server.fault(&json!({"what": {"kind": "status", "code": 401}}));
    let before = tokens(&server);
    let many: Vec<&str> = vec!["get=db-one"; 20];
    let run = host.run("exercise", POLICY, Vec::leak(many)).finished();
    assert_eq!(run.shown.matches("error: unavailable: the vault cannot serve now").count(), 20, "{}", run.shown);
    let requests: Vec<Value> = server.journal().iter().map(|request| json!(request.kind)).collect();
    assert!(tokens(&server) - before <= 10, "{requests:?}");
    let message = server.host().fails(5, &["secret", "get", "db-one"]);
    for word in ["the vault does not accept the token of this host (status 401", "the host's clock is wrong"] {
        assert!(message.contains(word), "{word}: {message}");
    }
}
