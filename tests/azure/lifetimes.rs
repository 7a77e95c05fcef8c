//! When a secret may be used, and for how long an answer is good.

use std::time::Duration;

use serde_json::json;
use strongroom::vault::cache::Settings;

use crate::support::KeyVault;
use crate::support::inside::Inside;

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

// attack: vault: serve a secret before its start or after its expiry -> the host enforces both
// times, also for cached values
#[test]
fn not_before_and_expiry_are_kept_by_the_host() {
    let server = KeyVault::start();
    let hour = 3600;
    for (name, attributes) in [
        ("expired", json!({"enabled": true, "exp": now() - hour})),
        ("later", json!({"enabled": true, "nbf": now() + hour})),
        ("now", json!({"enabled": true, "nbf": now() - hour, "exp": now() + hour})),
        ("disabled", json!({"enabled": false})),
    ] {
        server.put(name, &json!({"value": format!("the value of {name}"), "attributes": attributes}));
    }
    let policy =
        "version = 1\n[secrets]\nexpired = [\"get\"]\nlater = [\"get\"]\nnow = [\"get\"]\ndisabled = [\"get\"]";
    let host = server.host();
    let asks = ["get=expired", "get=later", "get=disabled", "get-many=expired,later,disabled", "len=now"];
    let ended = host.run("exercise", policy, &asks).finished();
    let ended = ended
        .shows("get expired: error: not-found: expired")
        .shows("get later: error: not-found: later")
        .shows("get disabled: error: not-found: disabled")
        .shows(r#"ok: [("expired", None), ("later", None), ("disabled", None)]"#)
        .shows("len now: ok: 16")
        .never_shows("the value of");
    // The vault has served all but the disabled one: nobody else would have kept them.
    let served = server.journal().into_iter().filter(|seen| seen.kind == "get-secret" && seen.status == 200).count();
    assert_eq!(served, 3, "{:?}", server.journal());
    let events = host.events(&ended.record);
    // Of the batch each outcome is what it is of one read.
    for (name, outcome) in [
        ("expired", "expired in the vault"),
        ("later", "not yet valid in the vault"),
        ("disabled", "disabled in the vault"),
    ] {
        let said = |event: &&serde_json::Value| event["secret"] == name && event["outcome"] == outcome;
        assert_eq!(events.iter().filter(said).count(), 2, "{name}: {events:?}");
    }
    let said = host.fails(2, &["secret", "get", "disabled"]);
    assert!(said.contains("the secret `disabled` is disabled in the vault"), "{said}");
}

// attack: vault: serve a secret before its start or after its expiry -> the host enforces both
// times, also for cached values
#[test]
fn a_secret_that_expires_is_not_served_from_the_cache_either() {
    let server = KeyVault::start();
    server.put("brief", &json!({"value": "v", "attributes": {"enabled": true, "exp": now() + 3}}));
    let inside = Inside::around(server.cached(Settings::default()), 4);
    let policy = "version = 1\n[secrets]\nbrief = [\"get\"]";
    inside.run("exercise", policy, &[]).finished();
    let mut ok = 0;
    let ended = (0..600).find_map(|_| {
        let seen = inside.run("exercise", policy, &["len=brief"]).finished();
        ok += usize::from(seen.shown.contains("ok: 1"));
        std::thread::sleep(Duration::from_millis(50));
        seen.shown.contains("error: not-found: brief").then_some(())
    });
    assert!(ended.is_some(), "it never expired; {ok} times it was served");
    assert_eq!(server.count("get-secret"), 1, "the cache still has it, and the host keeps the time");
}

#[test]
fn without_a_time_to_live_the_vault_is_asked_every_time() {
    let server = KeyVault::start();
    server.put("db", &json!({"value": "v"}));
    let policy = "version = 1\n[secrets]\ndb = [\"get\"]";
    let off = Settings { time_to_live: Duration::ZERO, ..Settings::default() };
    let inside = Inside::around(server.cached(off), 4);
    for asked in 1..=5 {
        inside.run("exercise", policy, &["len=db"]).finished().shows("len db: ok: 1");
        assert_eq!(server.count("get-secret"), asked);
    }
    // Disabled meanwhile: the next run is not served.
    server.put("db", &json!({"value": "w", "attributes": {"enabled": false}}));
    inside.run("exercise", policy, &["get=db"]).finished().shows("get db: error: not-found: db");

    server.put("db", &json!({"value": "x", "attributes": {"enabled": true}}));
    server.forget();
    let inside = Inside::around(server.cached(Settings::default()), 4);
    for _ in 1..=5 {
        inside.run("exercise", policy, &["len=db"]).finished().shows("len db: ok: 1");
    }
    assert_eq!(server.count("get-secret"), 1);
    // Two commands are two processes, each with a cache of its own.
    let host = server.host();
    for asked in 2..=3 {
        host.run("exercise", policy, &["len=db", "len=db"]).finished();
        assert_eq!(server.count("get-secret"), asked);
    }
}
