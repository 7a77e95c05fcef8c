//! Who the host is to Azure: every kind of credential against the token endpoint, the metadata address and the tools, and what is said where
//! none answers.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::keyvault::write_private;
use crate::support::{Host, KeyVault};

/// The status names the credential, a run is served, and the vault has seen the principal.
#[track_caller]
fn serves(server: &KeyVault, host: &Host, kind: &str, principal: &str) {
    server.put("key", &json!({"value": "hunter2hunter2"}));
    server.forget();
    let status = host.ok(&["vault", "status"]);
    assert!(status.contains(&format!("signed in by  `{kind}`")), "{status}");
    assert!(status.contains("may read      yes") && status.contains("may list      yes"), "{status}");
    let run = host.run("exercise", "version = 1\n[secrets]\nkey = [\"get\"]\n", &["get=key"]).finished();
    run.shows("get key: ok: \"[redacted:key]\"").never_shows("hunter2");
    let seen = server.journal();
    let with_token: Vec<_> = seen.iter().filter(|seen| seen.service == "vault" && seen.kind != "challenge").collect();
    assert!(with_token.len() >= 3, "{seen:#?}");
    assert!(with_token.iter().all(|seen| seen.principal.as_deref() == Some(principal)), "{seen:#?}");
}

/// The status cannot be told; why not.
#[track_caller]
fn refused(host: &Host) -> String {
    let said = host.fails(5, &["vault", "status"]);
    assert!(said.contains("help: docs/azure.md has what each kind of credential needs"), "{said}");
    // Nor does a run get anything, and it learns nothing of why.
    let run = host.run("exercise", "version = 1\n[secrets]\nkey = [\"get\"]\n", &["get=key"]).finished();
    run.shows("get key: error: unavailable: the vault cannot serve now");
    said
}

/// A folder with a tool of this name that hands out a token of a person's, or says on standard error why it does not.
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
        Err(said) => format!("#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n"),
    };
    let script = host.file(&format!("bin/{name}"), script);
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A host whose tools are in a folder of its own.
fn with_tools(host: Host) -> Host {
    let bin = host.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    host.with_env("PATH", path)
}

fn person(server: &KeyVault, name: &str) {
    let may = json!([{"action": "get"}, {"action": "read-metadata"}]);
    server.new_application(name, &may);
}

/// As a pod with a workload identity finds it.
fn in_a_pod(server: &KeyVault, host: Host) -> Host {
    let told = server.told();
    host.with_env("AZURE_TENANT_ID", &told.tenant)
        .with_env("AZURE_CLIENT_ID", &told.client_id)
        .with_env("AZURE_FEDERATED_TOKEN_FILE", &told.federated_token_file)
}

#[test]
fn an_application_with_a_secret() {
    let server = KeyVault::start();
    serves(&server, &server.host(), "client-secret", "application");
    assert!(server.journal().iter().any(|seen| seen.kind == "token-client-secret"));

    let wrong = server.folder().join("wrong");
    write_private(&wrong, "guessed");
    let azure =
        server.application().replace(server.told().client_secret_file.to_str().unwrap(), wrong.to_str().unwrap());
    let said = refused(&server.host_as("client-secret", &azure));
    assert!(said.contains("`client-secret`: Entra does not accept the application's secret (AADSTS7000215"), "{said}");
    assert!(said.contains("az ad app credential reset") && !said.contains("guessed"), "{said}");

    server.change_principal("application", &json!({"disabled": true}));
    let said = refused(&server.host());
    assert!(said.contains("AADSTS7000112"), "{said}");
}

#[test]
fn a_workload_by_the_environment_and_by_the_file() {
    let server = KeyVault::start();
    serves(&server, &in_a_pod(&server, server.host_as("workload-identity", "")), "workload-identity", "application");
    assert!(server.journal().iter().any(|seen| seen.kind == "token-client-assertion"));

    let told = server.told();
    let azure = format!(
        "tenant-id = \"{}\"\nclient-id = \"{}\"\ntoken-file = \"{}\"\n",
        told.tenant,
        told.client_id,
        told.federated_token_file.display()
    );
    serves(&server, &server.host_as("workload-identity", &azure), "workload-identity", "application");

    // A token of the pod's that Entra does not take.
    let other = server.folder().join("other-token");
    write_private(&other, std::fs::read_to_string(&told.federated_token_file).unwrap() + "x");
    let azure = azure.replace(told.federated_token_file.to_str().unwrap(), other.to_str().unwrap());
    let said = refused(&server.host_as("workload-identity", &azure));
    assert!(said.contains("`workload-identity`: Entra does not accept the pod's token (AADSTS700027"), "{said}");
    assert!(said.contains("federated credential"), "{said}");
}

#[test]
fn a_managed_identity_by_each_of_its_names() {
    let server = KeyVault::start();
    serves(&server, &server.host_as("managed-identity", ""), "managed-identity", "system-assigned");
    let assigned = &server.told().user_assigned;
    for (key, id) in
        [("client-id", &assigned.client_id), ("object-id", &assigned.object_id), ("resource-id", &assigned.resource_id)]
    {
        let host = server.host_as("managed-identity", &format!("{key} = \"{id}\""));
        serves(&server, &host, "managed-identity", "user-assigned");
        assert!(server.journal().iter().any(|seen| seen.kind == "token-metadata"));
    }
    let none = server.host_as("managed-identity", "client-id = \"00000000-0000-0000-0000-000000000000\"");
    let said = refused(&none);
    assert!(said.contains("`managed-identity`: this machine has no such identity: assign one to it"), "{said}");
    server.listen("metadata", false);
    let said = refused(&server.host_as("managed-identity", ""));
    assert!(said.contains("this is no machine of Azure's: choose another credential"), "{said}");
}

#[test]
fn the_tools_of_a_person() {
    let server = KeyVault::start();
    person(&server, "somebody");
    for (kind, tool_name, advice) in
        [("azure-cli", "az", "run `az login`"), ("azure-developer-cli", "azd", "run `azd auth login`")]
    {
        let host = with_tools(server.host_as(kind, ""));
        let said = refused(&host);
        assert!(said.contains(&format!("`{kind}`: `{tool_name}` is not on the path: install")), "{said}");
        tool(&server, &host, tool_name, Err("ERROR: nobody has signed in"));
        let said = refused(&host);
        assert!(said.contains(&format!("`{tool_name}` gave no token (")) && said.contains(advice), "{said}");
        assert!(said.contains("nobody has signed in"), "{said}");
        tool(&server, &host, tool_name, Ok("somebody"));
        serves(&server, &host, kind, "somebody");
    }
}

// promise: The search for a credential ends at the first one that is present but refused.
#[test]
fn auto_takes_the_first_that_is_there() {
    let server = KeyVault::start();
    person(&server, "by-az");
    person(&server, "by-azd");
    let everything = |host: Host| {
        let host = with_tools(host);
        tool(&server, &host, "az", Ok("by-az"));
        tool(&server, &host, "azd", Ok("by-azd"));
        host
    };
    serves(&server, &everything(in_a_pod(&server, server.host_as("auto", ""))), "workload-identity", "application");
    assert!(server.journal().iter().all(|seen| seen.service != "metadata"));
    let host = everything(server.host_as("auto", ""));
    serves(&server, &host, "managed-identity", "system-assigned");
    server.listen("metadata", false);
    serves(&server, &host, "azure-cli", "by-az");
    std::fs::remove_file(host.path().join("bin/az")).unwrap();
    serves(&server, &host, "azure-developer-cli", "by-azd");

    std::fs::remove_file(host.path().join("bin/azd")).unwrap();
    let said = refused(&host);
    for line in [
        "no credential for Azure answered:",
        "`workload-identity`: this is not a pod with a workload identity: label the pod",
        "`managed-identity`: the metadata address does not answer, so this is not an Azure machine",
        "`azure-cli`: `az` is not on the path: install the Azure CLI",
        "`azure-developer-cli`: `azd` is not on the path: install the Azure Developer CLI",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

// promise: The search for a credential ends at the first one that is present but refused.
#[test]
fn auto_ends_at_one_that_is_there_and_refused() {
    let server = KeyVault::start();
    person(&server, "by-az");
    server.change_principal("application", &json!({"disabled": true}));
    let host = with_tools(in_a_pod(&server, server.host_as("auto", "")));
    tool(&server, &host, "az", Ok("by-az"));
    let said = refused(&host);
    assert!(said.contains("`workload-identity`") && said.contains("AADSTS7000112"), "{said}");
    let seen = server.journal();
    assert!(seen.iter().all(|seen| seen.service != "metadata" && seen.principal.is_none()), "{seen:#?}");
}

// promise: The search for a credential ends at the first one that is present but refused.
#[test]
fn auto_ends_at_a_tool_whose_user_is_refused() {
    let server = KeyVault::start();
    person(&server, "by-azd");
    server.listen("metadata", false);
    let host = with_tools(server.host_as("auto", ""));
    tool(&server, &host, "azd", Ok("by-azd"));
    tool(&server, &host, "az", Err("ERROR: AADSTS50173: The provided grant was revoked. Please run:\naz login"));
    server.forget();
    let said = refused(&host);
    assert!(said.contains("`azure-cli`: `az` gave no token (ERROR: AADSTS50173"), "{said}");
    let seen = server.journal();
    assert!(seen.iter().all(|seen| seen.principal.is_none()), "{seen:#?}");

    // Nobody is signed in with `az`: whoever is with `azd` is taken, and that is said.
    tool(&server, &host, "az", Err("ERROR: Please run 'az login' to setup account."));
    serves(&server, &host, "azure-developer-cli", "by-azd");
    let warned = host.output(&["vault", "status"]);
    let warned = String::from_utf8_lossy(&warned.stderr);
    assert!(warned.contains("azure-cli") && warned.contains("`auto` goes on to the next"), "{warned}");
    assert_eq!(warned.matches("goes on to the next").count(), 1, "{warned}");

    tool(&server, &host, "azd", Err("ERROR: not logged in, run `azd auth login` to login"));
    let said = refused(&host);
    assert!(said.contains("no credential for Azure answered:"), "{said}");
}

// attack: escape: get a directory that contains the vault, its key or a credential as input or
// output -> a run with such a directory does not start
#[test]
fn where_a_tool_keeps_its_sign_in_is_no_input_folder() {
    let server = KeyVault::start();
    let host = server.host_as("auto", "");
    let (az, person) = (host.path().join("of-az"), host.path().join("person"));
    std::fs::create_dir(&az).unwrap();
    std::fs::create_dir_all(person.join(".azd/auth")).unwrap();
    let host = host.with_env("AZURE_CONFIG_DIR", &az).with_env("HOME", &person);
    let guest = crate::support::guest("folders").display().to_string();
    for folder in [&az, &person, &person.join(".azd"), &person.join(".azd/auth")] {
        let folder = folder.display().to_string();
        let said = host.fails(2, &["run", &guest, "--input", &folder]);
        assert!(said.contains("holds what strongroom keeps for itself") && said.contains(&folder), "{said}");
    }
}

/// What a host may do is what its role says, and the status tells it.
#[test]
fn the_status_tells_what_the_credential_may() {
    let server = KeyVault::start();
    let one = server.new_application("one-secret", &json!([{"action": "get", "secret": "key"}]));
    server.put("key", &json!({"value": "hunter2hunter2"}));
    server.put("other", &json!({"value": "hunter3hunter3"}));
    let host = server.host_as("client-secret", &one);
    let status = host.ok(&["vault", "status"]);
    assert!(status.contains("may read      not on the whole vault"), "{status}");
    assert!(status.contains("may list      not on the whole vault"), "{status}");
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\nother = [\"get\"]\n";
    let run = host.run("exercise", policy, &["get=key", "get=other"]).finished().shows("get key: ok");
    // The component is not told why; the operator is.
    let run = run.shows("get other: error: unavailable: the vault cannot serve now").shows("Key Vault Secrets User");
    assert!(host.events(&run.record).iter().any(|event| event["outcome"] == "failed: the vault refused the host"));
}
