//! Tokens that expire, that are revoked, and clocks that do not agree.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::vault::cache::Settings;

use crate::support::KeyVault;
use crate::support::inside::Inside;

const POLICY: &str = "version = 1\n[secrets]\n\"db-*\" = [\"get\"]";

/// Longer than the host rests between two tokens that it asks for because others were refused.
const RESTED: Duration = Duration::from_millis(1200);

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

/// How many tokens were issued or refused.
fn tokens(server: &KeyVault) -> usize {
    server.journal().into_iter().filter(|seen| seen.service == "authority" && seen.method == "POST").count()
}

// promise: A token that the vault refuses is replaced once, and at a limited rate.
#[test]
fn a_token_that_was_refused_is_replaced_by_one_other() {
    let server = server();
    let inside = Inside::around(server.cached(without_cache()), 64);
    let read = |runs: usize| {
        let work = vec![("exercise", POLICY.to_owned(), &["len=db-one"] as &[&str]); runs];
        for seen in inside.run_all(&work, runs) {
            seen.finished().shows("len db-one: ok: 15");
        }
    };
    read(20);
    assert_eq!(tokens(&server), 1);
    let changes: [(&str, &dyn Fn()); 3] = [
        ("revoked", &|| server.change_principal("application", &json!("revoke-tokens"))),
        // Expired by the vault's clock; and then one that is not good yet.
        ("the vault's clock two hours on", &|| server.clock(&json!({"advance": 7200}))),
        ("the vault's clock four hours back", &|| server.clock(&json!({"advance": -14_400}))),
    ];
    for (at, (what, change)) in changes.into_iter().enumerate() {
        sleep(RESTED);
        change();
        read(20);
        assert_eq!(tokens(&server), at + 2, "{what}: one token for twenty runs");
    }
}

#[test]
fn a_token_is_replaced_before_it_expires() {
    let server = server();
    // Shorter than what the host wants to have left.
    server.set(&json!({"token-lifetime": 200}));
    let inside = Inside::around(server.cached(without_cache()), 4);
    for _ in 0..3 {
        inside.run("exercise", POLICY, &["len=db-one"]).finished().shows("len db-one: ok: 15");
    }
    assert!(tokens(&server) >= 2, "{:?}", server.journal());
    assert_eq!(server.counters()["statuses"]["401"], json!(1), "only the challenge: {}", server.counters());
}

// attack: vault: have runs served after the credential of the host was revoked -> a refusal takes
// effect at once, whatever the grace period
#[test]
fn a_credential_that_is_revoked_ends_access_while_runs_go_on() {
    let server = server();
    let settings = Settings { grace: Duration::from_secs(3600), ..Settings::default() };
    let inside = Inside::around(server.cached(settings), 4);
    inside.run("exercise", POLICY, &["len=db-one"]).finished().shows("len db-one: ok: 15");
    server.change_principal("application", &json!({"disabled": true}));
    server.change_principal("application", &json!("revoke-tokens"));
    // What the cache has is served for its time; what it has not is not to be had, grace or not.
    let seen = inside.run("exercise", POLICY, &["len=db-one", "get=db-two"]).finished();
    let seen = seen.shows("len db-one: ok: 15").shows("get db-two: error: unavailable: the vault cannot serve now\n");
    let events = inside.events(&seen.record);
    let of = |name: &str| events.iter().rfind(|event| event["secret"] == name && !event["outcome"].is_null()).cloned();
    assert_eq!(of("db-two").unwrap()["outcome"], "failed: the vault refused the host");

    // An operator is told what to do.
    let host = server.host();
    let said = host.fails(5, &["secret", "get", "db-one"]);
    for word in
        ["Entra does not accept the application's secret", "AADSTS", "`az ad app credential reset` makes another"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    // And access comes back with the credential.
    sleep(RESTED);
    server.change_principal("application", &json!({"disabled": false}));
    inside.run("exercise", POLICY, &["len=db-two"]).finished().shows("len db-two: ok: 15");
}

// promise: A token that the vault refuses is replaced once, and at a limited rate.
// attack: vault: refuse every token so that the host keeps requesting new ones -> one new token for
// each refusal, at most one a second
#[test]
fn a_host_whose_tokens_are_all_refused_asks_for_few() {
    let server = server();
    let inside = Inside::around(Arc::clone(&server.cached(without_cache())), 4);
    inside.run("exercise", POLICY, &["len=db-one"]).finished();
    server.fault(&json!({"what": {"kind": "status", "code": 401}}));
    let before = tokens(&server);
    let many: Vec<&str> = vec!["get=db-one"; 20];
    let seen = inside.run("exercise", POLICY, Vec::leak(many)).finished();
    assert_eq!(seen.shown.matches("error: unavailable: the vault cannot serve now").count(), 20, "{}", seen.shown);
    let requests: Vec<Value> = server.journal().iter().map(|seen| json!(seen.kind)).collect();
    assert!(tokens(&server) - before <= 10, "{requests:?}");
    let said = server.host().fails(5, &["secret", "get", "db-one"]);
    for word in ["the vault does not accept the token of this host (status 401", "the host's clock is wrong"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
