//! Every kind of Azure credential, against the token endpoint, the metadata address and the
//! command-line tools, and the errors if none works.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::keyvault::write_private;
use crate::support::{Host, KeyVault};

/// Asserts that the status names the credential, that a run is served, and that the vault received
/// the principal's token.
#[track_caller]
fn assert_serves(server: &KeyVault, host: &Host, kind: &str, principal: &str) {
    server.put("key", &json!({"value": "hunter2hunter2"}));
    server.clear_journal();
    let status = host.ok(&["vault", "status"]);
    assert!(status.contains(&format!("credential     `{kind}`")), "{status}");
    assert!(status.contains("read access    yes") && status.contains("list access    yes"), "{status}");
    let run = host.run("exercise", "version = 1\n[secrets]\nkey = [\"get\"]\n", &["get=key"]).finished();
    run.shows("get key: ok: \"[redacted:key]\"").never_shows("hunter2");
    let journal = server.journal();
    let with_token: Vec<_> =
        journal.iter().filter(|request| request.service == "vault" && request.kind != "challenge").collect();
    assert!(with_token.len() >= 3, "{journal:#?}");
    assert!(with_token.iter().all(|request| request.principal.as_deref() == Some(principal)), "{journal:#?}");
}

/// Asserts that the status fails, and returns its message.
#[track_caller]
fn assert_refused(host: &Host) -> String {
    let message = host.fails(5, &["vault", "status"]);
    assert!(message.contains("help: see docs/azure.md for what each credential type needs"), "{message}");
    // A run gets no secret and does not learn why.
    let run = host.run("exercise", "version = 1\n[secrets]\nkey = [\"get\"]\n", &["get=key"]).finished();
    run.shows("get key: error: unavailable: the vault cannot serve now");
    message
}

/// Installs a tool that prints a person's token, or an error on standard error.
fn tool(server: &KeyVault, host: &Host, name: &str, answer: Result<&str, &str>) {
    let script = match answer {
        Ok(person) => {
            let answer = server.admin("POST", "/tokens", Some(&json!({"principal": person})));
            let token = answer["token"].as_str().unwrap();
            let expires = answer["expires"].as_i64().unwrap();
            let text = match name {
                "az" => json!({"accessToken": token, "expires_on": expires, "tokenType": "Bearer"}),
                _ => json!({"token": token, "expiresOn": "2099-01-01T00:00:00Z"}),
            };
            write_private(&host.path().join(format!("bin/{name}.json")), text.to_string());
            format!("#!/bin/sh\nexec cat {}/bin/{name}.json\n", host.path().display())
        }
        Err(error) => format!("#!/bin/sh\ncat >&2 <<'END'\n{error}\nEND\nexit 1\n"),
    };
    let script = host.file(&format!("bin/{name}"), script);
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Gives a host a folder of its own for tools.
fn with_tools(host: Host) -> Host {
    let bin = host.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    host.with_env("PATH", path)
}

fn person(server: &KeyVault, name: &str) {
    let permissions = json!([{"action": "get"}, {"action": "read-metadata"}]);
    server.new_application(name, &permissions);
}

/// Sets the environment of a pod with a workload identity.
fn in_a_pod(server: &KeyVault, host: Host) -> Host {
    let info = server.info();
    host.with_env("AZURE_TENANT_ID", &info.tenant)
        .with_env("AZURE_CLIENT_ID", &info.client_id)
        .with_env("AZURE_FEDERATED_TOKEN_FILE", &info.federated_token_file)
}

#[test]
fn client_secret_credential_signs_in() {
    let server = KeyVault::start();
    assert_serves(&server, &server.host(), "client-secret", "application");
    assert!(server.journal().iter().any(|request| request.kind == "token-client-secret"));

    let wrong = server.folder().join("wrong");
    write_private(&wrong, "guessed");
    let azure =
        server.application().replace(server.info().client_secret_file.to_str().unwrap(), wrong.to_str().unwrap());
    let message = assert_refused(&server.host_as("client-secret", &azure));
    assert!(
        message.contains("`client-secret`: Entra does not accept the application's secret (AADSTS7000215"),
        "{message}"
    );
    assert!(message.contains("az ad app credential reset") && !message.contains("guessed"), "{message}");

    server.change_principal("application", &json!({"disabled": true}));
    let message = assert_refused(&server.host());
    assert!(message.contains("AADSTS7000112"), "{message}");
}

#[test]
fn workload_identity_signs_in_by_environment_or_file() {
    let server = KeyVault::start();
    assert_serves(
        &server,
        &in_a_pod(&server, server.host_as("workload-identity", "")),
        "workload-identity",
        "application",
    );
    assert!(server.journal().iter().any(|request| request.kind == "token-client-assertion"));

    let info = server.info();
    let azure = format!(
        "tenant-id = \"{}\"\nclient-id = \"{}\"\ntoken-file = \"{}\"\n",
        info.tenant,
        info.client_id,
        info.federated_token_file.display()
    );
    assert_serves(&server, &server.host_as("workload-identity", &azure), "workload-identity", "application");

    // A pod's token that Entra does not accept.
    let other = server.folder().join("other-token");
    write_private(&other, std::fs::read_to_string(&info.federated_token_file).unwrap() + "x");
    let azure = azure.replace(info.federated_token_file.to_str().unwrap(), other.to_str().unwrap());
    let message = assert_refused(&server.host_as("workload-identity", &azure));
    assert!(message.contains("`workload-identity`: Entra does not accept the pod's token (AADSTS700027"), "{message}");
    assert!(message.contains("federated credential"), "{message}");
}

#[test]
fn managed_identity_signs_in_by_each_of_its_ids() {
    let server = KeyVault::start();
    assert_serves(&server, &server.host_as("managed-identity", ""), "managed-identity", "system-assigned");
    let assigned = &server.info().user_assigned;
    for (key, id) in
        [("client-id", &assigned.client_id), ("object-id", &assigned.object_id), ("resource-id", &assigned.resource_id)]
    {
        let host = server.host_as("managed-identity", &format!("{key} = \"{id}\""));
        assert_serves(&server, &host, "managed-identity", "user-assigned");
        assert!(server.journal().iter().any(|request| request.kind == "token-metadata"));
    }
    let host = server.host_as("managed-identity", "client-id = \"00000000-0000-0000-0000-000000000000\"");
    let message = assert_refused(&host);
    assert!(message.contains("`managed-identity`: this machine has no such identity: assign one to it"), "{message}");
    server.listen("metadata", false);
    let message = assert_refused(&server.host_as("managed-identity", ""));
    assert!(message.contains("this is not an Azure machine: choose another credential"), "{message}");
}

#[test]
fn command_line_tools_sign_in() {
    let server = KeyVault::start();
    person(&server, "somebody");
    for (kind, tool_name, advice) in
        [("azure-cli", "az", "run `az login`"), ("azure-developer-cli", "azd", "run `azd auth login`")]
    {
        let host = with_tools(server.host_as(kind, ""));
        let message = assert_refused(&host);
        assert!(message.contains(&format!("`{kind}`: `{tool_name}` is not on the path: install")), "{message}");
        tool(&server, &host, tool_name, Err("ERROR: nobody has signed in"));
        let message = assert_refused(&host);
        assert!(message.contains(&format!("`{tool_name}` gave no token (")) && message.contains(advice), "{message}");
        assert!(message.contains("nobody has signed in"), "{message}");
        tool(&server, &host, tool_name, Ok("somebody"));
        assert_serves(&server, &host, kind, "somebody");
    }
}

// promise: The search for a credential ends at the first one that is present but refused.
#[test]
fn auto_uses_the_first_present_credential() {
    let server = KeyVault::start();
    person(&server, "by-az");
    person(&server, "by-azd");
    let everything = |host: Host| {
        let host = with_tools(host);
        tool(&server, &host, "az", Ok("by-az"));
        tool(&server, &host, "azd", Ok("by-azd"));
        host
    };
    assert_serves(
        &server,
        &everything(in_a_pod(&server, server.host_as("auto", ""))),
        "workload-identity",
        "application",
    );
    assert!(server.journal().iter().all(|request| request.service != "metadata"));
    let host = everything(server.host_as("auto", ""));
    assert_serves(&server, &host, "managed-identity", "system-assigned");
    server.listen("metadata", false);
    assert_serves(&server, &host, "azure-cli", "by-az");
    std::fs::remove_file(host.path().join("bin/az")).unwrap();
    assert_serves(&server, &host, "azure-developer-cli", "by-azd");

    std::fs::remove_file(host.path().join("bin/azd")).unwrap();
    let message = assert_refused(&host);
    for line in [
        "no credential for Azure answered:",
        "`workload-identity`: this is not a pod with a workload identity: label the pod",
        "`managed-identity`: the metadata address does not answer, so this is not an Azure machine",
        "`azure-cli`: `az` is not on the path: install the Azure CLI",
        "`azure-developer-cli`: `azd` is not on the path: install the Azure Developer CLI",
    ] {
        assert!(message.contains(line), "{line}: {message}");
    }
}

// promise: The search for a credential ends at the first one that is present but refused.
#[test]
fn auto_stops_at_a_refused_credential() {
    let server = KeyVault::start();
    person(&server, "by-az");
    server.change_principal("application", &json!({"disabled": true}));
    let host = with_tools(in_a_pod(&server, server.host_as("auto", "")));
    tool(&server, &host, "az", Ok("by-az"));
    let message = assert_refused(&host);
    assert!(message.contains("`workload-identity`") && message.contains("AADSTS7000112"), "{message}");
    let journal = server.journal();
    assert!(journal.iter().all(|request| request.service != "metadata" && request.principal.is_none()), "{journal:#?}");
}

// promise: The search for a credential ends at the first one that is present but refused.
#[test]
fn auto_stops_at_a_tool_with_a_refused_user() {
    let server = KeyVault::start();
    person(&server, "by-azd");
    server.listen("metadata", false);
    let host = with_tools(server.host_as("auto", ""));
    tool(&server, &host, "azd", Ok("by-azd"));
    tool(&server, &host, "az", Err("ERROR: AADSTS50173: The provided grant was revoked. Please run:\naz login"));
    server.clear_journal();
    let message = assert_refused(&host);
    assert!(message.contains("`azure-cli`: `az` gave no token (ERROR: AADSTS50173"), "{message}");
    let journal = server.journal();
    assert!(journal.iter().all(|request| request.principal.is_none()), "{journal:#?}");

    // No person is signed in with `az`, so the one signed in with `azd` is used, with a warning.
    tool(&server, &host, "az", Err("ERROR: Please run 'az login' to setup account."));
    assert_serves(&server, &host, "azure-developer-cli", "by-azd");
    let output = host.output(&["vault", "status"]);
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(warning.contains("azure-cli") && warning.contains("`auto` tries the next credential"), "{warning}");
    assert_eq!(warning.matches("tries the next credential").count(), 1, "{warning}");

    tool(&server, &host, "azd", Err("ERROR: not logged in, run `azd auth login` to login"));
    let message = assert_refused(&host);
    assert!(message.contains("no credential for Azure answered:"), "{message}");
}

// attack: escape: get a directory that contains the vault, its key or a credential as input or
// output -> a run with such a directory does not start
#[test]
fn folder_with_a_tools_credentials_is_refused_as_input() {
    let server = KeyVault::start();
    let host = server.host_as("auto", "");
    let (az, person) = (host.path().join("of-az"), host.path().join("person"));
    std::fs::create_dir(&az).unwrap();
    std::fs::create_dir_all(person.join(".azd/auth")).unwrap();
    let host = host.with_env("AZURE_CONFIG_DIR", &az).with_env("HOME", &person);
    let guest = crate::support::guest("folders").display().to_string();
    for folder in [&az, &person, &person.join(".azd"), &person.join(".azd/auth")] {
        let folder = folder.display().to_string();
        let message = host.fails(2, &["run", &guest, "--input", &folder]);
        assert!(message.contains("contains strongroom's private files") && message.contains(&folder), "{message}");
    }
}

/// The status shows the permissions of the credential's role.
#[test]
fn status_shows_permissions_of_the_credential() {
    let server = KeyVault::start();
    let one = server.new_application("one-secret", &json!([{"action": "get", "secret": "key"}]));
    server.put("key", &json!({"value": "hunter2hunter2"}));
    server.put("other", &json!({"value": "hunter3hunter3"}));
    let host = server.host_as("client-secret", &one);
    let status = host.ok(&["vault", "status"]);
    assert!(status.contains("read access    not on the whole vault"), "{status}");
    assert!(status.contains("list access    not on the whole vault"), "{status}");
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\nother = [\"get\"]\n";
    let run = host.run("exercise", policy, &["get=key", "get=other"]).finished().shows("get key: ok");
    // The component does not learn the reason; the operator does.
    let run = run.shows("get other: error: unavailable: the vault cannot serve now").shows("Key Vault Secrets User");
    assert!(host.events(&run.record).iter().any(|event| event["outcome"] == "failed: the vault refused the host"));
}
