//! Faults of the network, the vault and the token authority. Transient faults are retried. For
//! lasting ones the operator's error says what failed and what to do, and a component learns only
//! that the vault is unavailable.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::ids::SecretName;
use strongroom::record::Limit;
use strongroom::vault::{Operator as _, VaultError};

use crate::support::{Host, KeyVault};

const UNAVAILABLE: &str = "error: unavailable: the vault cannot serve now";

/// A fault, and a name for the case that is also the secret's name.
type Case = (&'static str, Value);

#[test]
fn transient_faults_are_retried() {
    let cases: Vec<Case> = vec![
        ("throttled", json!({"kind": "throttle"})),
        ("throttled-with-a-time", json!({"kind": "throttle", "retry-after": 1})),
        ("internal-error", json!({"kind": "status", "code": 500})),
        ("bad-gateway", json!({"kind": "status", "code": 502})),
        ("unavailable", json!({"kind": "status", "code": 503})),
        ("gateway-timeout", json!({"kind": "status", "code": 504})),
        ("reset", json!({"kind": "reset"})),
        ("reset-within", json!({"kind": "reset", "after": 20})),
        ("slow", json!({"kind": "slow", "milliseconds": 300})),
        ("slow-within", json!({"kind": "slow", "milliseconds": 300, "after": 20})),
    ];
    let server = KeyVault::start();
    for (name, what) in &cases {
        server.put(name, &json!({"value": format!("the value of {name}")}));
        server.fault(&json!({"what": what, "path": format!("/secrets/{name}/"), "times": 2}));
    }
    thread::scope(|scope| {
        for (name, _) in &cases {
            let server = &server;
            scope.spawn(move || {
                let host = server.host();
                let policy = format!("version = 1\n[secrets]\n{name} = [\"get\"]");
                let length = "the value of ".len() + name.len();
                let run = host.run("exercise", &policy, &[&format!("len={name}")]).finished();
                run.shows(&format!("len {name}: ok: {length}"));
            });
        }
    });
    let journal = server.journal();
    for (name, what) in &cases {
        let path = format!("/secrets/{name}/");
        let requests =
            journal.iter().filter(|request| request.path.starts_with(&path) && request.kind != "challenge").count();
        // A slow reply is not retried.
        let expected = if what["kind"] == "slow" { 1 } else { 3 };
        assert_eq!(requests, expected, "{name}: {journal:#?}");
    }
}

/// A host with a lasting fault, and texts that its operator must see.
struct LastingFault {
    host: Host,
    name: &'static str,
    words: [&'static str; 2],
}

impl LastingFault {
    fn assert_reported_to_operator_only(&self) {
        let policy = format!("version = 1\n[secrets]\n{} = [\"get\"]", self.name);
        let run = self.host.run("exercise", &policy, &[&format!("get={}", self.name)]).finished();
        let run = run.shows(&format!("get {}: {UNAVAILABLE}\n", self.name));
        for word in self.words {
            assert!(run.shown.contains(word), "{}: `{word}` is not in {}", self.name, run.shown);
        }
        let record = serde_json::to_string(&run.record).unwrap();
        let audit = json!(self.host.events(&run.record)).to_string();
        // The audit log has its own wording for a vault that cannot be reached.
        let audit = audit.replace("failed: the vault cannot be reached", "");
        for text in [record, audit] {
            for word in self.words {
                assert!(!text.contains(word), "{}: {text}", self.name);
            }
        }
    }
}

// attack: vault: show text to a component in an error -> upstream text is shown to the operator
// only
// attack: vault: reply slowly, throttle for an hour or never reply -> a deadline for each call, and
// the time limit of the run
#[test]
fn lasting_faults_are_explained_to_the_operator() {
    let server = KeyVault::start();
    let mut faults = Vec::new();
    let throttled = ["the vault throttles this host (status 429, Throttled", "a longer `cache.ttl`"];
    let broken = ["the connection to the vault broke", "check its name, and this host's DNS, network and proxy"];
    for (name, what, words) in [
        ("throttled", json!({"kind": "throttle"}), throttled),
        // Not waited for: longer than a call may take.
        ("throttled-for-an-hour", json!({"kind": "throttle", "retry-after": 3600}), throttled),
        (
            "failing",
            json!({"kind": "status", "code": 500, "message": "what the vault says"}),
            ["the vault failed (status 500, InternalServerError, what the vault says)", "try again later"],
        ),
        ("reset", json!({"kind": "reset"}), broken),
        ("reset-within", json!({"kind": "reset", "after": 20}), broken),
        ("silent", json!({"kind": "slow", "milliseconds": 60_000}), ["the vault did not ", "try again later"]),
        (
            "silent-within",
            json!({"kind": "slow", "milliseconds": 60_000, "after": 20}),
            ["the vault did not ", "try again later"],
        ),
    ] {
        server.put(name, &json!({"value": "hunter2-hunter2"}));
        server.fault(&json!({"what": what, "path": format!("/secrets/{name}/")}));
        faults.push(LastingFault { host: server.host(), name, words });
    }

    let (closed, failing, authority) = (KeyVault::start(), KeyVault::start(), KeyVault::start());
    closed.listen("vault", false);
    let unreachable = ["the vault cannot be reached", "check its name, and this host's DNS, network and proxy"];
    faults.push(LastingFault { host: closed.host(), name: "refused", words: unreachable });
    failing.fault(&json!({"what": {"kind": "status", "code": 503}, "service": "authority"}));
    let words = ["no token is issued now (", "try again later"];
    faults.push(LastingFault { host: failing.host(), name: "no-tokens", words });
    authority.listen("authority", false);
    let words = ["the token authority cannot be reached", "check this host's DNS, network and proxy"];
    faults.push(LastingFault { host: authority.host(), name: "no-authority", words });
    // No resolver is asked about this name, because one label is longer than allowed.
    let nowhere = format!("{}.invalid:8443", "x".repeat(64));
    let host = Host::without_vault();
    let address = server.info().vault.strip_prefix("https://").unwrap();
    let configuration = server.configuration("client-secret", &server.application(), "");
    host.file("config/strongroom/config.toml", configuration.replace(address, &nowhere));
    faults.push(LastingFault { host, name: "no-name", words: unreachable });

    thread::scope(|scope| {
        for fault in &faults {
            scope.spawn(|| fault.assert_reported_to_operator_only());
        }
    });
    let hour =
        server.journal().into_iter().filter(|request| request.path.starts_with("/secrets/throttled-for-an-hour"));
    assert_eq!(hour.filter(|request| request.kind != "challenge").count(), 1);
}

// attack: vault: reply slowly, throttle for an hour or never reply -> a deadline for each call, and
// the time limit of the run
#[test]
fn run_waiting_for_a_slow_vault_stops_at_its_limit() {
    let server = KeyVault::start();
    server.put("db", &json!({"value": "v"}));
    server.fault(&json!({"what": {"kind": "slow", "milliseconds": 120_000}}));
    let host = server.host();
    let policy = "version = 1\n[secrets]\ndb = [\"get\"]\n[limits]\ntime = \"2s\"";
    host.run("exercise", policy, &["get=db"]).stopped(Limit::Time);
    host.assert_audit_intact();
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
#[test]
fn failing_vault_is_not_called_until_it_recovers() {
    let server = KeyVault::start();
    server.put("db", &json!({"value": "v"}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _context = runtime.enter();
    let (vault, name) = (server.vault(), SecretName::parse("db").unwrap());
    let get = || runtime.block_on(vault.get(&name, None));
    get().unwrap();
    server.fault(&json!({"what": {"kind": "status", "code": 503}}));
    let text = |error: &VaultError| match error {
        VaultError::Unavailable(message) => message.clone(),
        error => panic!("{error}"),
    };
    // One call retries until its deadline and reports the problem. Later calls fail without a
    // request.
    let error = text(&get().unwrap_err());
    assert!(error.contains("the vault failed (status 503"), "{error}");
    while !text(&get().unwrap_err()).contains("times in a row, and is asked again in") {}
    server.clear_journal();
    let error = text(&get().unwrap_err());
    assert!(error.contains("the vault has failed"), "{error}");
    assert!(server.journal().is_empty(), "{:?}", server.journal());
    // Recovery is detected by one probe, and then all calls succeed.
    server.clear_faults();
    let recovered = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(100));
        get().is_ok()
    });
    assert!(recovered);
    (0..20).for_each(|_| drop(get().unwrap()));
}
