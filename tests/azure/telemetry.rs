//! What is logged of a Key Vault: each call, with the request's identities; no value, no token, nothing that proves who the host is.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};

use crate::support::{Host, KeyVault, guest};

/// Everything that may be switched on.
const ALL: &str = "trace,strongroom=trace,azure_core=trace,azure_identity=trace,azure_security_keyvault_secrets=trace,typespec_client_core=trace,\
                   reqwest=trace,hyper=trace,hyper_util=trace,rustls=trace,h2=trace,tokio=trace,tower=trace,wasmtime=trace,wasmtime_wasi=trace";

const VALUE: &str = "hunter2-of-the-vault-0123456789";
const MADE: &str = "made-in-a-run-9876543210-abcdef";

/// What somebody who looks for a leak would search for.
fn forms(text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![text.to_owned(), hex.to_uppercase(), hex];
    for prefix in ["", "a", "ab"] {
        let bytes = format!("{prefix}{text}");
        for encoded in [BASE64_STANDARD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)] {
            // Without the characters that depend on what stands before and after.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// Pieces of a long text, so that a part of it is found as well.
fn pieces(text: &str) -> Vec<String> {
    text.as_bytes().windows(24).step_by(7).map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
}

/// A command with every log switched on; what it wrote there.
fn logged(host: &Host, args: &[&str], input: &str) -> String {
    let mut command: Command = host.command(args);
    let mut child = command.env("STRONGROOM_LOG", ALL).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All that an operator and a run do, with and without success.
fn everything(server: &KeyVault, host: &Host) -> String {
    let policy = host.file(
        "policy.toml",
        "version = 1\n[secrets]\ndb = [\"get\", \"describe\", \"list\"]\nmade = [\"set\", \"get\", \"delete\"]",
    );
    let component = guest("exercise");
    let run = ["run", component.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "--"];
    let made = format!("set=made={MADE}");
    let mut log = String::new();
    let all = |log: &mut String| {
        log.push_str(&logged(host, &["secret", "set", "db"], VALUE));
        log.push_str(&logged(host, &["secret", "get", "db"], ""));
        log.push_str(&logged(host, &["secret", "list"], ""));
        log.push_str(&logged(host, &["vault", "status"], ""));
        let steps = ["len=db", "describe=db", "list=", made.as_str(), "len=made", "delete=made"];
        log.push_str(&logged(host, &[&run[..], &steps].concat(), ""));
        log.push_str(&logged(host, &["secret", "purge", "made"], ""));
    };
    all(&mut log);
    // What a vault that fails or lies has logged, too.
    for what in [
        json!({"kind": "status", "code": 403, "message": "no"}),
        json!({"kind": "content-type", "value": "application/json", "body": format!("{{\"value\":\"{VALUE}\"")}),
        json!({"kind": "content-type", "value": "text/html", "body": VALUE}),
        json!({"kind": "redirect", "to": "https://localhost:1"}),
    ] {
        server.fault(&json!({"what": what}));
        all(&mut log);
        server.no_faults();
    }
    for what in [
        json!({"kind": "status", "code": 401}),
        json!({"kind": "content-type", "value": "application/json", "body": "{"}),
    ] {
        server.fault(&json!({"what": what, "service": "authority"}));
        log.push_str(&logged(host, &["secret", "get", "db"], ""));
        server.no_faults();
    }
    log
}

// promise: A log about a vault holds no value, no token and no credential.
// attack: vault: make the host log values, tokens or its credentials -> the log targets of the
// libraries are capped in code, and request identifiers are shown only if they are letters and
// digits
#[test]
fn the_most_talkative_log_holds_no_value_no_token_and_no_credential() {
    let server = KeyVault::start();
    let told = server.told();
    let secret = std::fs::read_to_string(&told.client_secret_file).unwrap();
    let federated = std::fs::read_to_string(&told.federated_token_file).unwrap();
    let workload = format!(
        "tenant-id = \"{}\"\nclient-id = \"{}\"\ntoken-file = \"{}\"\n",
        told.tenant,
        told.client_id,
        told.federated_token_file.display()
    );
    for host in [server.host(), server.host_as("workload-identity", &workload), server.host_as("managed-identity", "")]
    {
        server.forget();
        let log = everything(&server, &host);
        let mut sought: Vec<String> = [VALUE, MADE].into_iter().flat_map(forms).collect();
        sought.extend(forms(secret.trim()));
        // The vault's and the authority's tokens are signed alike: they begin with the same bytes, as the workload's own.
        sought.extend([
            "eyJ".to_owned(),
            "Bearer ey".to_owned(),
            "client_assertion=".to_owned(),
            "client_secret=".to_owned(),
        ]);
        sought.extend(forms(&federated[..32]));
        sought.extend(pieces(federated.trim()).into_iter().flat_map(|piece| forms(&piece)));
        for text in sought {
            assert!(!log.contains(&text), "`{text}` is in:\n{log}");
        }
        // It is there to be searched: every reply of the vault, by its identity.
        let journal = server.admin("GET", "/journal", None);
        let of_vault = |seen: &&Value| seen["service"] == "vault" && seen["fault"].is_null();
        let ids: Vec<&str> = journal
            .as_array()
            .unwrap()
            .iter()
            .filter(of_vault)
            .map(|seen| seen["request-id"].as_str().unwrap())
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
        assert!(!log.contains("/secrets/db"), "not even the name of a secret: {log}");
    }
}
