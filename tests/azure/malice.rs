//! A malicious vault, or a server that impersonates it. Tokens are not sent to foreign hosts,
//! memory stays bounded, the operator's error says what is wrong, and a component learns nothing of
//! it.

use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Host, KeyVault};

const POLICY: &str = "version = 1\n[secrets]\ndb = [\"get\"]\n\"db-*\" = [\"list\"]";

/// A vault, and another server whose certificates the host trusts too, so that anything sent there
/// would arrive.
struct Servers {
    server: KeyVault,
    foreign: KeyVault,
    /// The origin of a foreign server without TLS, and the number of connections to it.
    plain: String,
    connections: Arc<AtomicUsize>,
    host: Host,
}

impl Servers {
    fn new() -> Self {
        let (server, foreign) = (KeyVault::start(), KeyVault::start());
        server.put("db", &json!({"value": "hunter2-hunter2"}));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plain = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        // Ends with the test process.
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        let host = host_trusting(&server, &foreign, &server);
        Self { server, foreign, plain, connections, host }
    }

    /// Runs an operator's command and a component under a fault. Only the operator sees `words`,
    /// and foreign hosts receive nothing.
    fn assert_rejected(&self, faults: &[Value], command: &[&str], words: &str) {
        faults.iter().for_each(|fault| self.server.fault(fault));
        let message = self.host.fails(5, command);
        assert!(message.contains(words), "`{words}`, {faults:?}: {message}");
        let steps: &[&str] = if command.contains(&"list") { &["list="] } else { &["get=db"] };
        let run = self.host.run("exercise", POLICY, steps).finished();
        let answer = if command.contains(&"list") { "list : " } else { "get db: " };
        let run = run.shows(&format!("{answer}error: unavailable: the vault cannot serve now"));
        assert!(run.shown.contains(words), "not in the log of the run: {}", run.shown);
        let record = serde_json::to_string(&run.record).unwrap() + &json!(self.host.events(&run.record)).to_string();
        for text in [words, &self.foreign.info().vault, &self.foreign.info().authority, "hunter2"] {
            assert!(!record.contains(text), "{text}: {record}");
        }
        for text in [message, run.shown] {
            assert!(!text.contains("hunter2") && !text.contains("eyJ"), "{text}");
        }
        assert!(self.foreign.journal().is_empty(), "{faults:?}: {:?}", self.foreign.journal());
        assert_eq!(self.connections.load(Ordering::SeqCst), 0, "{faults:?}");
        self.server.clear_faults();
    }
}

/// Creates a host that trusts the certificates of both servers and uses `vault`.
fn host_trusting(one: &KeyVault, other: &KeyVault, vault: &KeyVault) -> Host {
    let both = [one, other].map(|server| std::fs::read_to_string(&server.info().ca_file).unwrap()).concat();
    let host = Host::without_vault();
    let path = host.file("both.pem", both).display().to_string();
    let configuration = vault.configuration("client-secret", &vault.application(), "");
    let own = vault.info().ca_file.display().to_string();
    host.file("config/strongroom/config.toml", configuration.replace(&own, &path));
    host
}

#[test]
fn foreign_host_accepts_requests_if_sent() {
    let servers = Servers::new();
    servers.foreign.put("db", &json!({"value": "x"}));
    assert_eq!(host_trusting(&servers.server, &servers.foreign, &servers.foreign).get("db"), "x");
    assert!(!servers.foreign.journal().is_empty());
    // Without a fault the vault works.
    assert_eq!(servers.host.get("db"), "hunter2-hunter2");
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: lead a list to another host together with the token -> the next page has to be at
// the origin of the vault and below the same path
#[test]
fn list_page_at_a_foreign_host_is_not_followed() {
    let servers = Servers::new();
    for to in [servers.foreign.info().vault.as_str(), &servers.plain, &servers.server.info().authority] {
        let fault = json!({"what": {"kind": "foreign-next-link", "to": to}});
        servers.assert_rejected(&[fault], &["secret", "list"], "a list that continues outside this vault");
    }
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: page without end -> a list ends after 1,000 pages or two minutes
#[test]
fn endless_list_stops_at_its_page_limit() {
    let servers = Servers::new();
    servers.assert_rejected(
        &[json!({"what": {"kind": "endless-pages"}})],
        &["secret", "list"],
        "a list of more than 1000 pages",
    );
    // One list by the operator and one by the run.
    assert_eq!(servers.server.count("list-secrets"), 2000);
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: redirect a request, or the form with the client secret -> redirects are not
// followed
#[test]
fn redirect_is_not_followed() {
    let servers = Servers::new();
    for to in [&servers.foreign.info().vault, &servers.plain] {
        let fault = json!({"what": {"kind": "redirect", "to": to}});
        servers.assert_rejected(
            &[fault],
            &["secret", "get", "db"],
            "the vault answered with a redirect, which is not followed",
        );
    }
    // At the token authority, which receives the application's secret.
    let fault = json!({"what": {"kind": "redirect", "to": servers.foreign.info().authority}, "service": "authority"});
    servers.assert_rejected(&[fault], &["secret", "get", "db"], "the token authority answered with a redirect");
}

// attack: vault: send a challenge that names another authority or audience -> both are compared
// with those of the vault's domain before a token is requested
#[test]
fn challenge_for_another_audience_gets_no_token() {
    let servers = Servers::new();
    let (own, foreign) = (servers.server.info(), servers.foreign.info());
    let (tenant, elsewhere) = (format!("{}/{}", own.authority, own.tenant), format!("{}/t", foreign.authority));
    for (authority, resource) in [
        (elsewhere.as_str(), None),
        (&format!("{}/t", servers.plain), None),
        (&tenant, Some("https://management.azure.com")),
        (&tenant, Some(foreign.vault.as_str())),
        // Parts that the SDK would take for the audience instead.
        (&format!("{tenant}\", xresource=\"https://management.azure.com"), None),
        (&format!("{tenant}\", a=\"resource=\"https://graph.microsoft.com"), None),
    ] {
        servers.server.clear_journal();
        let fault = json!({"what": {"kind": "foreign-challenge", "authority": authority, "resource": resource}});
        servers.assert_rejected(&[fault], &["secret", "get", "db"], "which is not its token authority or audience");
        let token_requests =
            servers.server.journal().into_iter().filter(|request| request.service == "authority").count();
        assert_eq!(token_requests, 0, "{authority} {resource:?}: a token was requested");
    }
}

// attack: vault: send a reply that is not JSON, is truncated or has another content type -> it is
// not parsed, and the error repeats none of it
#[test]
fn reply_that_is_not_json_is_not_parsed() {
    let servers = Servers::new();
    let typed = |value: &str, body: Value| json!({"what": {"kind": "content-type", "value": value, "body": body}});
    let get = ["secret", "get", "db"];
    let html = typed("text/html", json!("<html>sign in</html>"));
    servers.assert_rejected(&[html], &get, "the vault did not answer with JSON");
    servers.assert_rejected(&[typed("text/plain", Value::Null)], &get, "the vault did not answer with JSON");
    servers.assert_rejected(
        &[typed("application/json", json!("{\"value\":\"hunter2"))],
        &get,
        "not a valid Key Vault reply",
    );
    let authority = json!({"what": {"kind": "content-type", "value": "text/html"}, "service": "authority"});
    servers.assert_rejected(&[authority], &get, "the token authority did not answer with JSON");
}

/// Runs a command and returns its peak memory in KiB.
fn run_with_peak_memory(host: &Host, args: &[&str]) -> (Output, u64) {
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
fn ten_gigabyte_reply_does_not_use_memory() {
    let servers = Servers::new();
    let get = ["secret", "get", "db"];
    let (served, plain) = run_with_peak_memory(&servers.host, &get);
    assert!(served.status.success() && plain > 0);
    for declared in [true, false] {
        let huge = json!({"kind": "huge", "bytes": 10_u64 << 30, "declared": declared});
        for (service, name) in [("vault", "the vault"), ("authority", "the token authority")] {
            let fault = json!({"what": huge, "service": service});
            servers.server.fault(&fault);
            let (_, peak) = run_with_peak_memory(&servers.host, &get);
            assert!(peak < plain + (24 << 10), "{peak} KiB for {fault}, {plain} KiB for a plain reply");
            println!("{fault}: {peak} KiB; a plain reply: {plain} KiB");
            servers.server.clear_faults();
            servers.assert_rejected(&[fault], &get, &format!("{name} answered with more than 1 MiB"));
        }
    }
}
