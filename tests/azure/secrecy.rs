//! The host's Azure credentials are unreachable for a component: in files, the environment, the
//! network, error texts, and what a run leaves behind.

use serde_json::json;

use crate::support::{Host, KeyVault, files_below};

/// Returns the host's credentials and the start of every token.
fn credentials(server: &KeyVault) -> Vec<String> {
    let info = server.info();
    let read = |path| std::fs::read_to_string(path).unwrap();
    vec![read(&info.client_secret_file), read(&info.federated_token_file), "eyJ".to_owned()]
}

/// Asserts that a text contains neither the start nor the end of a credential. A redactor that only
/// finds whole values would miss these.
#[track_caller]
fn assert_no_credential(text: &[u8], credentials: &[String], of: &str) {
    for credential in credentials {
        let pieces = [&credential[..credential.len().min(16)], &credential[credential.len().saturating_sub(16)..]];
        for piece in pieces {
            let is_found = text.windows(piece.len()).any(|window| window == piece.as_bytes());
            assert!(!is_found, "{of} contains a credential of the host:\n{}", String::from_utf8_lossy(text));
        }
    }
}

/// Creates a host that signs in through the environment, with files whose paths a component could
/// guess.
fn host(server: &KeyVault) -> Host {
    let info = server.info();
    server
        .host_as("workload-identity", "")
        .with_env("AZURE_TENANT_ID", &info.tenant)
        .with_env("AZURE_CLIENT_ID", &info.client_id)
        .with_env("AZURE_FEDERATED_TOKEN_FILE", &info.federated_token_file)
        .with_env("AZURE_CLIENT_SECRET", std::fs::read_to_string(&info.client_secret_file).unwrap())
        .with_env("IDENTITY_HEADER", "header-of-the-host")
        .with_env("STRONGROOM_LOG", "trace,azure_core=trace,azure_identity=trace,reqwest=trace,hyper=trace")
}

// promise: The credentials of the host are out of reach of a component and in nothing that a run
// leaves behind.
// attack: escape: read the Azure credential of the host from the environment, files, the metadata
// address or error texts -> a run inherits nothing, and upstream text never reaches a component
#[test]
fn hostile_component_finds_no_credential() {
    let server = KeyVault::start();
    let credentials = credentials(&server);
    for name in ["dataset-key", "model-key", "db-password"] {
        server.put(name, &json!({"value": format!("the-value-of-{name}")}));
    }
    let host = host(&server);
    let granted = "version = 1\n[secrets]\ndataset-key = [\"get\"]\n";
    let run = host.run("thief", granted, &[]).finished().never_shows("GOT IT").never_shows("the-value-of-");
    let run = run.never_shows("header-of-the-host").shows("environment             []");
    assert_eq!(run.shown.matches("error: denied: model-key").count(), 2);
    assert_no_credential(run.shown.as_bytes(), &credentials, "what the thief printed");

    // The component knows the addresses of the services, but cannot connect to them.
    let info = server.info();
    let address = |origin: &str| origin.rsplit('/').next().unwrap().replace("localhost", "127.0.0.1");
    let addresses = [&info.vault, &info.authority, &info.metadata, &info.admin].map(|origin| address(origin));
    let mut targets: Vec<&str> = addresses.iter().map(String::as_str).collect();
    targets.extend(["169.254.169.254:80", "168.63.129.16:80", "[fd00:ec2::254]:80"]);
    server.clear_journal();
    let run = host.run("net", granted, &targets).finished().never_shows("CONNECTED");
    assert_eq!(run.shown.matches("PermissionDenied").count(), targets.len(), "{}", run.shown);
    assert_eq!(server.journal().len(), 0);
    // A policy cannot grant the metadata address.
    let careless = host.file("careless.toml", "version = 1\ntcp = [\"169.254.169.254:80\"]\n");
    let guest = crate::support::guest("net").display().to_string();
    let message = host.fails(2, &["run", &guest, "--policy", careless.to_str().unwrap()]);
    assert!(message.contains("169.254.169.254"), "{message}");

    // A run with the credential's folder as its input does not start.
    let folder = server.folder().display().to_string();
    let guest = crate::support::guest("folders").display().to_string();
    let message = host.fails(2, &["run", &guest, "--input", &folder]);
    assert!(message.contains("error:") && message.contains(&folder), "{message}");

    for file in files_below(&host.path().join("home")) {
        assert_no_credential(&std::fs::read(&file).unwrap(), &credentials[..], &file.display().to_string());
    }
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// promise: The credentials of the host are out of reach of a component and in nothing that a run
// leaves behind.
// attack: escape: read the Azure credential of the host from the environment, files, the metadata
// address or error texts -> a run inherits nothing, and upstream text never reaches a component
#[test]
fn errors_and_logs_contain_no_token() {
    let server = KeyVault::start();
    let credentials = credentials(&server);
    server.put("key", &json!({"value": "the-value-of-the-key"}));
    let token = server.admin("POST", "/tokens", Some(&json!({"principal": "application"})));
    let token = token["token"].as_str().unwrap();
    // A vault whose errors repeat what it was sent.
    let echo = json!({"error": {"code": "Forbidden", "message": format!("the token Bearer {token} is not enough"), "innererror": {"code": token}}});
    let fail_with = |status: u16, service: &str| {
        server.clear_faults();
        server.fault(&json!({"what": {"kind": "status", "code": status}, "service": service}));
    };
    let host = host(&server);
    let policy =
        "version = 1\n[secrets]\nkey = [\"get\", \"set\", \"describe\", \"list\"]\n\"gone-*\" = [\"delete\"]\n";
    let mut texts = Vec::new();
    let faults = [
        json!({"what": {"kind": "content-type", "value": "application/json", "body": echo.to_string()}}),
        json!({"what": {"kind": "content-type", "value": "text/html", "body": format!("<html>{token}")}}),
        json!({"what": {"kind": "content-type", "value": "application/json", "body": format!("\"{token}")}}),
        json!({"what": {"kind": "redirect", "to": format!("https://{}.example", &token[..40])}}),
        json!({"what": {"kind": "foreign-challenge", "authority": format!("https://evil.example/{token}")}}),
        json!({"what": {"kind": "content-type", "value": "application/json", "body": echo.to_string()}, "service": "authority"}),
        json!({"what": {"kind": "content-type", "value": "application/json", "body": format!("{{\"access_token\":[\"{token}\"]}}")}, "service": "authority"}),
    ];
    for (round, fault) in faults.into_iter().enumerate() {
        server.clear_faults();
        // The fault affects the reply only: the deletion is carried out.
        server.put(&format!("gone-{round}"), &json!({"value": "v"}));
        let delete = format!("delete=gone-{round}");
        let steps = ["get=key", "get-many=key,none", "set=key=x", "describe=key", "list", &delete];
        server.fault(&fault);
        let run = host.run("exercise", policy, &steps).finished().never_shows("the-value-of");
        assert!(!run.shown.contains(": ok"), "{fault}: {}", run.shown);
        texts.push(run.shown);
        let status = host.output(&["vault", "status"]);
        texts.push(String::from_utf8(status.stdout).unwrap() + &String::from_utf8(status.stderr).unwrap());
    }
    for (status, service) in [(401, "vault"), (403, "vault"), (400, "authority"), (401, "authority")] {
        fail_with(status, service);
        texts.push(host.run("exercise", policy, &["get=key"]).finished().shown);
    }
    // Without a fault.
    server.clear_faults();
    texts.push(host.run("exercise", policy, &["get=key"]).finished().never_shows("the-value-of").shown);
    for text in &texts {
        assert_no_credential(text.as_bytes(), &credentials, "a text");
        assert_no_credential(text.as_bytes(), &[token.to_owned()], "a text");
    }
    for file in files_below(&host.path().join("home")) {
        assert_no_credential(&std::fs::read(&file).unwrap(), &credentials, &file.display().to_string());
    }
}
