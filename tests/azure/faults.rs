//! Faults of the network, of the vault and of the token authority: what passes is waited out, and of what does not the operator is told what
//! failed and what to do, a component only that the vault cannot serve.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::ids::SecretName;
use strongroom::record::Limit;
use strongroom::vault::{Operator as _, VaultError};

use crate::support::{Host, KeyVault};

const UNAVAILABLE: &str = "error: unavailable: the vault cannot serve now";

/// A fault, by a name that is a secret's too.
type Case = (&'static str, Value);

#[test]
fn what_passes_is_waited_out() {
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
                let ended = host.run("exercise", &policy, &[&format!("len={name}")]).finished();
                ended.shows(&format!("len {name}: ok: {length}"));
            });
        }
    });
    let journal = server.journal();
    for (name, what) in &cases {
        let path = format!("/secrets/{name}/");
        let asked = journal.iter().filter(|seen| seen.path.starts_with(&path) && seen.kind != "challenge").count();
        // A slow reply is an answer all the same.
        let expected = if what["kind"] == "slow" { 1 } else { 3 };
        assert_eq!(asked, expected, "{name}: {journal:#?}");
    }
}

/// A host that meets a fault: the words that tell the operator what failed and what to do.
struct Lasting {
    host: Host,
    name: &'static str,
    words: [&'static str; 2],
}

impl Lasting {
    fn is_told(&self) {
        let policy = format!("version = 1\n[secrets]\n{} = [\"get\"]", self.name);
        let ended = self.host.run("exercise", &policy, &[&format!("get={}", self.name)]).finished();
        let ended = ended.shows(&format!("get {}: {UNAVAILABLE}\n", self.name));
        for word in self.words {
            assert!(ended.shown.contains(word), "{}: `{word}` is not in {}", self.name, ended.shown);
        }
        let record = serde_json::to_string(&ended.record).unwrap();
        let audit = json!(self.host.events(&ended.record)).to_string();
        // The audit has words of its own for a vault that cannot be reached.
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
fn of_what_lasts_the_operator_is_told_what_failed_and_what_to_do() {
    let server = KeyVault::start();
    let mut all = Vec::new();
    let throttled = ["the vault throttles this host (status 429, Throttled", "a longer `cache.ttl`"];
    let broken = ["the connection to the vault broke", "check its name, and this host's DNS, network and proxy"];
    for (name, what, words) in [
        ("throttled", json!({"kind": "throttle"}), throttled),
        // Not waited for: it is longer than a call may take.
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
        all.push(Lasting { host: server.host(), name, words });
    }

    let (closed, failing, authority) = (KeyVault::start(), KeyVault::start(), KeyVault::start());
    closed.listen("vault", false);
    let unreachable = ["the vault cannot be reached", "check its name, and this host's DNS, network and proxy"];
    all.push(Lasting { host: closed.host(), name: "refused", words: unreachable });
    failing.fault(&json!({"what": {"kind": "status", "code": 503}, "service": "authority"}));
    let words = ["no token is issued now (", "try again later"];
    all.push(Lasting { host: failing.host(), name: "no-tokens", words });
    authority.listen("authority", false);
    let words = ["the token authority cannot be reached", "check this host's DNS, network and proxy"];
    all.push(Lasting { host: authority.host(), name: "no-authority", words });
    // A name that no resolver has to be asked about: a part of it is longer than parts may be.
    let nowhere = format!("{}.invalid:8443", "x".repeat(64));
    let host = Host::bare();
    let address = server.told().vault.strip_prefix("https://").unwrap();
    let configuration = server.configuration("client-secret", &server.application(), "");
    host.file("config/strongroom/config.toml", configuration.replace(address, &nowhere));
    all.push(Lasting { host, name: "no-name", words: unreachable });

    thread::scope(|scope| {
        for lasting in &all {
            scope.spawn(|| lasting.is_told());
        }
    });
    let hour = server.journal().into_iter().filter(|seen| seen.path.starts_with("/secrets/throttled-for-an-hour"));
    assert_eq!(hour.filter(|seen| seen.kind != "challenge").count(), 1);
}

// attack: vault: reply slowly, throttle for an hour or never reply -> a deadline for each call, and
// the time limit of the run
#[test]
fn a_guest_that_waits_for_a_slow_vault_ends_at_its_limit() {
    let server = KeyVault::start();
    server.put("db", &json!({"value": "v"}));
    server.fault(&json!({"what": {"kind": "slow", "milliseconds": 120_000}}));
    let host = server.host();
    let policy = "version = 1\n[secrets]\ndb = [\"get\"]\n[limits]\ntime = \"2s\"";
    host.run("exercise", policy, &["get=db"]).stopped(Limit::Time);
    host.audit_is_whole();
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
#[test]
fn a_vault_that_is_down_is_left_alone_until_it_is_back() {
    let server = KeyVault::start();
    server.put("db", &json!({"value": "v"}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _context = runtime.enter();
    let (vault, name) = (server.vault(), SecretName::parse("db").unwrap());
    let get = || runtime.block_on(vault.get(&name, None));
    get().unwrap();
    server.fault(&json!({"what": {"kind": "status", "code": 503}}));
    let said = |error: &VaultError| match error {
        VaultError::Unavailable(text) => text.clone(),
        error => panic!("{error}"),
    };
    // One call tries until it may not any more, and says what is wrong; then nobody asks.
    let error = said(&get().unwrap_err());
    assert!(error.contains("the vault failed (status 503"), "{error}");
    while !said(&get().unwrap_err()).contains("times in a row, and is asked again in") {}
    server.forget();
    let error = said(&get().unwrap_err());
    assert!(error.contains("the vault has failed"), "{error}");
    assert!(server.journal().is_empty(), "{:?}", server.journal());
    // Back: noticed by one who tries after the rest, and then by all.
    server.no_faults();
    let noticed = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(100));
        get().is_ok()
    });
    assert!(noticed);
    (0..20).for_each(|_| drop(get().unwrap()));
}
