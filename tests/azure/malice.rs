//! A vault, or somebody in its place, that means harm: no token leaves for a foreign host, memory stays bounded, the operator is told what
//! is wrong, and a component nothing of it.

use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Host, KeyVault};

const POLICY: &str = "version = 1\n[secrets]\ndb = [\"get\"]\n\"db-*\" = [\"list\"]";

/// A vault, and another server whose certificates the host trusts as well: what would be sent there would arrive.
struct Field {
    server: KeyVault,
    foreign: KeyVault,
    /// A foreign host without TLS, and how many connections it has had.
    plain: String,
    connections: Arc<AtomicUsize>,
    host: Host,
}

impl Field {
    fn new() -> Self {
        let (server, foreign) = (KeyVault::start(), KeyVault::start());
        server.put("db", &json!({"value": "hunter2-hunter2"}));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let host = trusting(&server, &foreign, &server);
        Self { server, foreign, plain, connections, host }
    }

    /// An operator's command and a run under a fault: the operator is told these words, the component nothing, foreign hosts nothing at all.
    fn meets(&self, faults: &[Value], command: &[&str], words: &str) {
        faults.iter().for_each(|fault| self.server.fault(fault));
        let said = self.host.fails(5, command);
        assert!(said.contains(words), "`{words}`, {faults:?}: {said}");
        let asks: &[&str] = if command.contains(&"list") { &["list="] } else { &["get=db"] };
        let ended = self.host.run("exercise", POLICY, asks).finished();
        let answer = if command.contains(&"list") { "list : " } else { "get db: " };
        let ended = ended.shows(&format!("{answer}error: unavailable: the vault cannot serve now"));
        assert!(ended.shown.contains(words), "the operator reads it in the log of a run: {}", ended.shown);
        let record =
            serde_json::to_string(&ended.record).unwrap() + &json!(self.host.events(&ended.record)).to_string();
        for text in [words, &self.foreign.told().vault, &self.foreign.told().authority, "hunter2"] {
            assert!(!record.contains(text), "{text}: {record}");
        }
        for text in [said, ended.shown] {
            assert!(!text.contains("hunter2") && !text.contains("eyJ"), "{text}");
        }
        assert!(self.foreign.journal().is_empty(), "{faults:?}: {:?}", self.foreign.journal());
        assert_eq!(self.connections.load(Ordering::SeqCst), 0, "{faults:?}");
        self.server.no_faults();
    }
}

/// A host that trusts the certificates of both servers, with one of them as its vault.
fn trusting(one: &KeyVault, other: &KeyVault, vault: &KeyVault) -> Host {
    let both = [one, other].map(|server| std::fs::read_to_string(&server.told().ca_file).unwrap()).concat();
    let host = Host::bare();
    let path = host.file("both.pem", both).display().to_string();
    let configuration = vault.configuration("client-secret", &vault.application(), "");
    let own = vault.told().ca_file.display().to_string();
    host.file("config/strongroom/config.toml", configuration.replace(&own, &path));
    host
}

#[test]
fn the_foreign_host_would_take_what_it_is_sent() {
    let field = Field::new();
    field.foreign.put("db", &json!({"value": "x"}));
    assert_eq!(trusting(&field.server, &field.foreign, &field.foreign).get("db"), "x");
    assert!(!field.foreign.journal().is_empty());
    // And without a fault the vault serves.
    assert_eq!(field.host.get("db"), "hunter2-hunter2");
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: lead a list to another host together with the token -> the next page has to be at
// the origin of the vault and below the same path
#[test]
fn a_list_does_not_lead_to_a_foreign_host() {
    let field = Field::new();
    for to in [field.foreign.told().vault.as_str(), &field.plain, &field.server.told().authority] {
        let fault = json!({"what": {"kind": "foreign-next-link", "to": to}});
        field.meets(&[fault], &["secret", "list"], "a list that continues outside this vault");
    }
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: page without end -> a list ends after 1,000 pages or two minutes
#[test]
fn a_list_without_end_ends() {
    let field = Field::new();
    field.meets(&[json!({"what": {"kind": "endless-pages"}})], &["secret", "list"], "a list of more than 1000 pages");
    // A list of an operator's and one of a run's.
    assert_eq!(field.server.count("list-secrets"), 2000);
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: redirect a request, or the form with the client secret -> redirects are not
// followed
#[test]
fn a_redirect_leads_nowhere() {
    let field = Field::new();
    for to in [&field.foreign.told().vault, &field.plain] {
        let fault = json!({"what": {"kind": "redirect", "to": to}});
        field.meets(&[fault], &["secret", "get", "db"], "the vault answered with a redirect, which is not followed");
    }
    // At the token authority, which is sent the application's secret.
    let fault = json!({"what": {"kind": "redirect", "to": field.foreign.told().authority}, "service": "authority"});
    field.meets(&[fault], &["secret", "get", "db"], "the token authority answered with a redirect");
}

// attack: vault: send a challenge that names another authority or audience -> both are compared
// with those of the vault's domain before a token is requested
#[test]
fn a_challenge_that_names_somebody_else_gets_no_token() {
    let field = Field::new();
    let (own, foreign) = (field.server.told(), field.foreign.told());
    let (tenant, elsewhere) = (format!("{}/{}", own.authority, own.tenant), format!("{}/t", foreign.authority));
    for (authority, resource) in [
        (elsewhere.as_str(), None),
        (&format!("{}/t", field.plain), None),
        (&tenant, Some("https://management.azure.com")),
        (&tenant, Some(foreign.vault.as_str())),
        // What the SDK would take for an audience, before the one that is named.
        (&format!("{tenant}\", xresource=\"https://management.azure.com"), None),
        (&format!("{tenant}\", a=\"resource=\"https://graph.microsoft.com"), None),
    ] {
        field.server.forget();
        let fault = json!({"what": {"kind": "foreign-challenge", "authority": authority, "resource": resource}});
        field.meets(&[fault], &["secret", "get", "db"], "which is not its token authority or audience");
        let asked_for = field.server.journal().into_iter().filter(|seen| seen.service == "authority").count();
        assert_eq!(asked_for, 0, "{authority} {resource:?}: no token is even asked for");
    }
}

// attack: vault: send a reply that is not JSON, is truncated or has another content type -> it is
// not parsed, and the error repeats none of it
#[test]
fn what_is_no_json_is_not_read() {
    let field = Field::new();
    let typed = |value: &str, body: Value| json!({"what": {"kind": "content-type", "value": value, "body": body}});
    let get = ["secret", "get", "db"];
    let html = typed("text/html", json!("<html>sign in</html>"));
    field.meets(&[html], &get, "the vault did not answer with JSON");
    field.meets(&[typed("text/plain", Value::Null)], &get, "the vault did not answer with JSON");
    field.meets(&[typed("application/json", json!("{\"value\":\"hunter2"))], &get, "not a valid Key Vault reply");
    let authority = json!({"what": {"kind": "content-type", "value": "text/html"}, "service": "authority"});
    field.meets(&[authority], &get, "the token authority did not answer with JSON");
}

/// Runs a command and watches the most memory that it has, in KiB.
fn watched(host: &Host, args: &[&str]) -> (Output, u64) {
    let mut child = host.command(args).stdin(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        peak = peak.max(line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    (child.wait_with_output().unwrap(), peak)
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: send a reply of 10 GiB, with or without a declared length -> at most 1 MiB is read
#[test]
fn a_reply_of_ten_gigabytes_takes_no_memory() {
    let field = Field::new();
    let get = ["secret", "get", "db"];
    let (served, plain) = watched(&field.host, &get);
    assert!(served.status.success() && plain > 0);
    for declared in [true, false] {
        let huge = json!({"kind": "huge", "bytes": 10_u64 << 30, "declared": declared});
        for (service, name) in [("vault", "the vault"), ("authority", "the token authority")] {
            let fault = json!({"what": huge, "service": service});
            field.server.fault(&fault);
            let (_, peak) = watched(&field.host, &get);
            assert!(peak < plain + (24 << 10), "{peak} KiB for {fault}, {plain} KiB for a plain reply");
            println!("{fault}: {peak} KiB; a plain reply: {plain} KiB");
            field.server.no_faults();
            field.meets(&[fault], &get, &format!("{name} answered with more than 1 MiB"));
        }
    }
}
