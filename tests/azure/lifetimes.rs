//! Validity periods of secrets, and the time to live of cached answers.

use std::time::Duration;

use serde_json::json;
use strongroom::vault::cache::Settings;

use crate::support::KeyVault;
use crate::support::in_process::InProcessHost;

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

// attack: vault: serve a secret before its start or after its expiry -> the host enforces both
// times, also for cached values
#[test]
fn not_before_and_expiry_are_enforced_by_the_host() {
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
    let steps = ["get=expired", "get=later", "get=disabled", "get-many=expired,later,disabled", "len=now"];
    let run = host.run("exercise", policy, &steps).finished();
    let run = run
        .shows("get expired: error: not-found: expired")
        .shows("get later: error: not-found: later")
        .shows("get disabled: error: not-found: disabled")
        .shows(r#"ok: [("expired", None), ("later", None), ("disabled", None)]"#)
        .shows("len now: ok: 16")
        .never_shows("the value of");
    // The vault has served all but the disabled one, so the host withheld the others.
    let served =
        server.journal().into_iter().filter(|request| request.kind == "get-secret" && request.status == 200).count();
    assert_eq!(served, 3, "{:?}", server.journal());
    let events = host.events(&run.record);
    // In the batch each outcome is the same as for a single read.
    for (name, outcome) in [
        ("expired", "expired in the vault"),
        ("later", "not yet valid in the vault"),
        ("disabled", "disabled in the vault"),
    ] {
        let matches = |event: &&serde_json::Value| event["secret"] == name && event["outcome"] == outcome;
        assert_eq!(events.iter().filter(matches).count(), 2, "{name}: {events:?}");
    }
    let message = host.fails(2, &["secret", "get", "disabled"]);
    assert!(message.contains("the secret `disabled` is disabled in the vault"), "{message}");
}

// attack: vault: serve a secret before its start or after its expiry -> the host enforces both
// times, also for cached values
#[test]
fn expired_secret_is_not_served_from_the_cache() {
    let server = KeyVault::start();
    server.put("brief", &json!({"value": "v", "attributes": {"enabled": true, "exp": now() + 3}}));
    let host = InProcessHost::with_vault(server.cached(Settings::default()), 4);
    let policy = "version = 1\n[secrets]\nbrief = [\"get\"]";
    host.run("exercise", policy, &[]).finished();
    let mut ok = 0;
    let expired = (0..600).find_map(|_| {
        let run = host.run("exercise", policy, &["len=brief"]).finished();
        ok += usize::from(run.shown.contains("ok: 1"));
        std::thread::sleep(Duration::from_millis(50));
        run.shown.contains("error: not-found: brief").then_some(())
    });
    assert!(expired.is_some(), "not expired after {ok} reads");
    assert_eq!(server.count("get-secret"), 1, "the value was not cached");
}

#[test]
fn zero_time_to_live_reads_the_vault_every_time() {
    let server = KeyVault::start();
    server.put("db", &json!({"value": "v"}));
    let policy = "version = 1\n[secrets]\ndb = [\"get\"]";
    let off = Settings { time_to_live: Duration::ZERO, ..Settings::default() };
    let host = InProcessHost::with_vault(server.cached(off), 4);
    for reads in 1..=5 {
        host.run("exercise", policy, &["len=db"]).finished().shows("len db: ok: 1");
        assert_eq!(server.count("get-secret"), reads);
    }
    // Disabled meanwhile: the next run does not get it.
    server.put("db", &json!({"value": "w", "attributes": {"enabled": false}}));
    host.run("exercise", policy, &["get=db"]).finished().shows("get db: error: not-found: db");

    server.put("db", &json!({"value": "x", "attributes": {"enabled": true}}));
    server.clear_journal();
    let host = InProcessHost::with_vault(server.cached(Settings::default()), 4);
    for _ in 1..=5 {
        host.run("exercise", policy, &["len=db"]).finished().shows("len db: ok: 1");
    }
    assert_eq!(server.count("get-secret"), 1);
    // Two commands are two processes with separate caches.
    let host = server.host();
    for reads in 2..=3 {
        host.run("exercise", policy, &["len=db", "len=db"]).finished();
        assert_eq!(server.count("get-secret"), reads);
    }
}
