//! Logs about a Key Vault: they contain each call with its request IDs, and no value, token or
//! credential.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use crate::support::{Host, KeyVault, guest};

/// A filter that enables every log target that may exist.
const ALL: &str = "trace,strongroom=trace,azure_core=trace,azure_identity=trace,azure_security_keyvault_secrets=trace,typespec_client_core=trace,\
                   reqwest=trace,hyper=trace,hyper_util=trace,rustls=trace,h2=trace,tokio=trace,tower=trace,wasmtime=trace,wasmtime_wasi=trace";

const VALUE: &str = "hunter2-of-the-vault-0123456789";
const MADE: &str = "made-in-a-run-9876543210-abcdef";

/// Returns a text and its encodings, for searching.
fn forms(text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![text.to_owned(), hex.to_uppercase(), hex];
    for prefix in ["", "a", "ab"] {
        let bytes = format!("{prefix}{text}");
        for encoded in [BASE64_STANDARD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)] {
            // Without the characters that depend on the surrounding text.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// Splits a long text into overlapping pieces, to find parts of it as well.
fn pieces(text: &str) -> Vec<String> {
    text.as_bytes().windows(24).step_by(7).map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
}

/// Runs a command with every log target enabled and returns its log.
fn log_of(host: &Host, args: &[&str], input: &str) -> String {
    let mut command: Command = host.command(args);
    let mut child = command.env("STRONGROOM_LOG", ALL).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Performs all operations of an operator and a run, successfully and with faults. Returns the
/// logs.
fn log_all_operations(server: &KeyVault, host: &Host) -> String {
    let policy = host.file(
        "policy.toml",
        "version = 1\n[secrets]\ndb = [\"get\", \"describe\", \"list\"]\nmade = [\"set\", \"get\", \"delete\"]",
    );
    let component = guest("exercise");
    let run = ["run", component.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "--"];
    let made = format!("set=made={MADE}");
    let mut log = String::new();
    let all = |log: &mut String| {
        log.push_str(&log_of(host, &["secret", "set", "db"], VALUE));
        log.push_str(&log_of(host, &["secret", "get", "db"], ""));
        log.push_str(&log_of(host, &["secret", "list"], ""));
        log.push_str(&log_of(host, &["vault", "status"], ""));
        let steps = ["len=db", "describe=db", "list=", made.as_str(), "len=made", "delete=made"];
        log.push_str(&log_of(host, &[&run[..], &steps].concat(), ""));
        log.push_str(&log_of(host, &["secret", "purge", "made"], ""));
    };
    all(&mut log);
    // A failing or lying vault.
    for what in [
        json!({"kind": "status", "code": 403, "message": "no"}),
        json!({"kind": "content-type", "value": "application/json", "body": format!("{{\"value\":\"{VALUE}\"")}),
        json!({"kind": "content-type", "value": "text/html", "body": VALUE}),
        json!({"kind": "redirect", "to": "https://localhost:1"}),
    ] {
        server.fault(&json!({"what": what}));
        all(&mut log);
        server.clear_faults();
    }
    for what in [
        json!({"kind": "status", "code": 401}),
        json!({"kind": "content-type", "value": "application/json", "body": "{"}),
    ] {
        server.fault(&json!({"what": what, "service": "authority"}));
        log.push_str(&log_of(host, &["secret", "get", "db"], ""));
        server.clear_faults();
    }
    log
}

// promise: A log about a vault holds no value, no token and no credential.
// attack: vault: make the host log values, tokens or its credentials -> the log targets of the
// libraries are capped in code, and request identifiers are shown only if they are letters and
// digits
#[test]
fn trace_log_contains_no_value_token_or_credential() {
    let server = KeyVault::start();
    let info = server.info();
    let secret = std::fs::read_to_string(&info.client_secret_file).unwrap();
    let federated = std::fs::read_to_string(&info.federated_token_file).unwrap();
    let workload = format!(
        "tenant-id = \"{}\"\nclient-id = \"{}\"\ntoken-file = \"{}\"\n",
        info.tenant,
        info.client_id,
        info.federated_token_file.display()
    );
    for host in [server.host(), server.host_as("workload-identity", &workload), server.host_as("managed-identity", "")]
    {
        server.clear_journal();
        let log = log_all_operations(&server, &host);
        let mut forbidden: Vec<String> = [VALUE, MADE].into_iter().flat_map(forms).collect();
        forbidden.extend(forms(secret.trim()));
        // Tokens of the vault, the authority and the workload all start with the same bytes.
        forbidden.extend([
            "eyJ".to_owned(),
            "Bearer ey".to_owned(),
            "client_assertion=".to_owned(),
            "client_secret=".to_owned(),
        ]);
        forbidden.extend(forms(&federated[..32]));
        forbidden.extend(pieces(federated.trim()).into_iter().flat_map(|piece| forms(&piece)));
        for text in forbidden {
            assert!(!log.contains(&text), "`{text}` is in:\n{log}");
        }
        // Checks that the log is complete: it contains the request ID of every reply by the vault.
        let journal = server.admin("GET", "/journal", None);
        let from_vault = |request: &&Value| request["service"] == "vault" && request["fault"].is_null();
        let ids: Vec<&str> = journal
            .as_array()
            .unwrap()
            .iter()
            .filter(from_vault)
            .map(|request| request["request-id"].as_str().unwrap())
            .collect();
        assert!(ids.len() > 20, "{journal}");
        for id in ids {
            assert!(log.contains(&format!("request_id=\"{id}\"")), "{id} is not in:\n{log}");
        }
        for word in [
            "key vault{operation=\"get\"}",
            "key vault{operation=\"list\"}",
            "client_request_id=",
            "attempts=1",
            "status=200",
        ] {
            assert!(log.contains(word), "{word} is not in:\n{log}");
        }
        assert!(!log.contains("/secrets/db"), "the log contains the name of a secret: {log}");
    }
}
