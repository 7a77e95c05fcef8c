//! What the host signs in with is out of a component's reach: in files, in the environment, over the network, in the texts of errors, and in what is
//! left behind.

use serde_json::json;

use crate::support::{Host, KeyVault, files_below};

/// What proves this host's identity at the server, and how every token begins.
fn proofs(server: &KeyVault) -> Vec<String> {
    let told = server.told();
    let read = |path| std::fs::read_to_string(path).unwrap();
    vec![read(&told.client_secret_file), read(&told.federated_token_file), "eyJ".to_owned()]
}

/// Nothing of these is in a text, nor in its beginning or end, which a redactor that looks for the whole would miss.
#[track_caller]
fn holds_none(text: &[u8], proofs: &[String], of: &str) {
    for proof in proofs {
        let pieces = [&proof[..proof.len().min(16)], &proof[proof.len().saturating_sub(16)..]];
        for piece in pieces {
            let found = text.windows(piece.len()).any(|window| window == piece.as_bytes());
            assert!(!found, "{of} holds what proves the host's identity:\n{}", String::from_utf8_lossy(text));
        }
    }
}

/// Signs in by the environment, with files whose places a component could guess.
fn host(server: &KeyVault) -> Host {
    let told = server.told();
    server
        .host_as("workload-identity", "")
        .with_env("AZURE_TENANT_ID", &told.tenant)
        .with_env("AZURE_CLIENT_ID", &told.client_id)
        .with_env("AZURE_FEDERATED_TOKEN_FILE", &told.federated_token_file)
        .with_env("AZURE_CLIENT_SECRET", std::fs::read_to_string(&told.client_secret_file).unwrap())
        .with_env("IDENTITY_HEADER", "header-of-the-host")
        .with_env("STRONGROOM_LOG", "trace,azure_core=trace,azure_identity=trace,reqwest=trace,hyper=trace")
}

// promise: The credentials of the host are out of reach of a component and in nothing that a run
// leaves behind.
// attack: escape: read the Azure credential of the host from the environment, files, the metadata
// address or error texts -> a run inherits nothing, and upstream text never reaches a component
#[test]
fn a_hostile_component_finds_no_credential() {
    let server = KeyVault::start();
    let proofs = proofs(&server);
    for name in ["dataset-key", "model-key", "db-password"] {
        server.put(name, &json!({"value": format!("the-value-of-{name}")}));
    }
    let host = host(&server);
    let granted = "version = 1\n[secrets]\ndataset-key = [\"get\"]\n";
    let run = host.run("thief", granted, &[]).finished().never_shows("GOT IT").never_shows("the-value-of-");
    let run = run.never_shows("header-of-the-host").shows("environment             []");
    assert_eq!(run.shown.matches("error: denied: model-key").count(), 2);
    holds_none(run.shown.as_bytes(), &proofs, "what the thief printed");

    // It knows where the services are, and cannot go there.
    let told = server.told();
    let at = |origin: &str| origin.rsplit('/').next().unwrap().replace("localhost", "127.0.0.1");
    let places = [&told.vault, &told.authority, &told.metadata, &told.admin].map(|origin| at(origin));
    let mut targets: Vec<&str> = places.iter().map(String::as_str).collect();
    targets.extend(["169.254.169.254:80", "168.63.129.16:80", "[fd00:ec2::254]:80"]);
    server.forget();
    let run = host.run("net", granted, &targets).finished().never_shows("CONNECTED");
    assert_eq!(run.shown.matches("PermissionDenied").count(), targets.len(), "{}", run.shown);
    assert_eq!(server.journal().len(), 0);
    // Nor can a policy send it to the metadata address.
    let careless = host.file("careless.toml", "version = 1\ntcp = [\"169.254.169.254:80\"]\n");
    let guest = crate::support::guest("net").display().to_string();
    let said = host.fails(2, &["run", &guest, "--policy", careless.to_str().unwrap()]);
    assert!(said.contains("169.254.169.254"), "{said}");

    // Nor is it handed the files, by an operator who does not look.
    let folder = server.folder().display().to_string();
    let guest = crate::support::guest("folders").display().to_string();
    let said = host.fails(2, &["run", &guest, "--input", &folder]);
    assert!(said.contains("error:") && said.contains(&folder), "{said}");

    for file in files_below(&host.path().join("home")) {
        holds_none(&std::fs::read(&file).unwrap(), &proofs[..], &file.display().to_string());
    }
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// promise: The credentials of the host are out of reach of a component and in nothing that a run
// leaves behind.
// attack: escape: read the Azure credential of the host from the environment, files, the metadata
// address or error texts -> a run inherits nothing, and upstream text never reaches a component
#[test]
fn no_error_text_and_no_log_holds_a_token() {
    let server = KeyVault::start();
    let proofs = proofs(&server);
    server.put("key", &json!({"value": "the-value-of-the-key"}));
    let token = server.admin("POST", "/tokens", Some(&json!({"principal": "application"})));
    let token = token["token"].as_str().unwrap();
    // A vault that says in its errors what it was sent.
    let echo = json!({"error": {"code": "Forbidden", "message": format!("the token Bearer {token} is not enough"), "innererror": {"code": token}}});
    let echoes = |status: u16, service: &str| {
        server.no_faults();
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
        server.no_faults();
        // The fault is in the answer: the deletion is carried out.
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
        echoes(status, service);
        texts.push(host.run("exercise", policy, &["get=key"]).finished().shown);
    }
    // And where all is well.
    server.no_faults();
    texts.push(host.run("exercise", policy, &["get=key"]).finished().never_shows("the-value-of").shown);
    for text in &texts {
        holds_none(text.as_bytes(), &proofs, "a text");
        holds_none(text.as_bytes(), &[token.to_owned()], "a text");
    }
    for file in files_below(&host.path().join("home")) {
        holds_none(&std::fs::read(&file).unwrap(), &proofs, &file.display().to_string());
    }
}
