//! Authentication and permissions: the challenge, and the checks of a token.

use keyvault_server::{Action, Options, Permission, Server};
use serde_json::{Value, json};

use crate::support::{TestServer, agent, start};

fn challenge(vault: &TestServer) -> String {
    format!(
        "Bearer authorization=\"{}/{}\", resource=\"https://vault.azure.net\"",
        vault.server.authority_url(),
        vault.server.tenant()
    )
}

#[test]
fn request_without_token_is_challenged() {
    let vault = start();
    let url = format!("{}/secrets/x?api-version=7.4", vault.server.vault_url());
    for headers in [vec![], vec![("authorization", "Basic eDp5")], vec![("authorization", "Bearer")]] {
        let reply = vault.send("GET", &url, &headers, "").unwrap().fails(401, "Unauthorized", None);
        assert_eq!(reply.header("www-authenticate"), challenge(&vault));
        assert!(reply.text.contains("AKV10000"));
    }
    // Authentication comes first, even if the name is invalid and the version is missing.
    let url = format!("{}/secrets/not_a_name", vault.server.vault_url());
    vault.send("PUT", &url, &[("content-length", "0")], "").unwrap().fails(401, "Unauthorized", None);
    assert_eq!(vault.server.counters().of("challenge"), 4);
}

#[test]
fn token_of_another_issuer_is_refused() {
    let vault = start();
    let other = start();
    let (signed, _) = vault.token.rsplit_once('.').unwrap();
    for token in [other.token.as_str(), "nonsense", "a.b.c", signed, &format!("{signed}.AAAA")] {
        let reply = vault.with(token, "GET", "/secrets", &Value::Null).unwrap().fails(401, "Unauthorized", None);
        assert!(reply.text.contains("AKV10046"));
        assert_eq!(reply.header("www-authenticate"), format!("{}, error=\"invalid_token\"", challenge(&vault)));
    }
    assert_eq!(vault.server.counters().of("unauthorized"), 5);
}

#[test]
fn token_for_another_audience_is_refused() {
    let vault = start();
    let token = vault.login(&vault.server.client(), "https://management.azure.com/.default");
    let reply = vault.with(&token, "GET", "/secrets", &Value::Null).unwrap().fails(401, "Unauthorized", None);
    assert!(
        reply.text.contains("AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://management")
    );
    // Both spellings of the vault's audience are in use.
    let token = vault.login(&vault.server.client(), "https://vault.azure.net//.default");
    vault.with(&token, "GET", "/secrets", &Value::Null).unwrap().expect(200);
}

#[test]
fn challenge_names_the_configured_resource() {
    let options = Options { resource: "https://vault.azure.cn".to_owned(), ..Options::default() };
    let server = Server::start(options).unwrap();
    let vault = TestServer { agent: agent(&server), server, token: String::new() };
    let reply = vault.get("/secrets").expect(401);
    assert!(reply.header("www-authenticate").ends_with("resource=\"https://vault.azure.cn\""));
    let token = vault.login(&vault.server.client(), "https://vault.azure.cn/.default");
    vault.with(&token, "GET", "/secrets", &Value::Null).unwrap().expect(200);
}

#[test]
fn token_expires_by_the_servers_clock() {
    let vault = start();
    vault.server.clock().stop();
    let token = vault.login(&vault.server.client(), "https://vault.azure.net/.default");
    let list = || vault.with(&token, "GET", "/secrets", &Value::Null).unwrap();
    vault.server.clock().advance(3598);
    list().expect(200);
    vault.server.clock().advance(1);
    assert!(list().fails(401, "Unauthorized", None).text.contains("TokenExpired"));
    vault.server.clock().advance(-3599 - 300);
    list().expect(200);
    vault.server.clock().advance(-1);
    assert!(list().fails(401, "Unauthorized", None).text.contains("TokenNotYetValid"));
}

#[test]
fn operation_requires_its_permission() {
    let vault = start();
    let client = vault.server.add_client("narrow", Vec::new());
    let token = vault.login(&client, "https://vault.azure.net/.default");
    let set = json!({ "value": "v" });
    let reset = || {
        let gone = vault.delete("/secrets/x").status == 200 || vault.get("/deletedsecrets/x").status == 200;
        assert!(!gone || vault.delete("/deletedsecrets/x").status == 204);
        vault.set("x", "v").expect(200);
    };
    for (action, method, path, body, deleted) in [
        (Action::Get, "GET", "/secrets/x", &Value::Null, false),
        (Action::ReadMetadata, "GET", "/secrets", &Value::Null, false),
        (Action::ReadMetadata, "GET", "/secrets/x/versions", &Value::Null, false),
        (Action::ReadMetadata, "GET", "/deletedsecrets", &Value::Null, false),
        (Action::ReadMetadata, "GET", "/deletedsecrets/x", &Value::Null, true),
        (Action::Set, "PUT", "/secrets/x", &set, false),
        (Action::Update, "PATCH", "/secrets/x", &json!({}), false),
        (Action::Delete, "DELETE", "/secrets/x", &Value::Null, false),
        (Action::Recover, "POST", "/deletedsecrets/x/recover", &Value::Null, true),
        (Action::Purge, "DELETE", "/deletedsecrets/x", &Value::Null, true),
    ] {
        reset();
        if deleted {
            vault.delete("/secrets/x").expect(200);
        }
        let others: Vec<Action> = Action::ALL.into_iter().filter(|other| *other != action).collect();
        vault.server.permit("narrow", Permission::on_vault(&others));
        let reply = vault.with(&token, method, path, body).unwrap().fails(403, "Forbidden", Some("ForbiddenByRbac"));
        assert!(reply.text.contains(&client.id) && reply.text.contains("DeniedWithNoValidRBAC"));
        vault.server.permit(&client.id, Permission::on_vault(&[action]));
        let reply = vault.with(&token, method, path, body).unwrap();
        assert!(reply.status < 300, "{method} {path}: {}", reply.text);
    }
}

#[test]
fn forbidden_secret_gets_the_same_error_if_it_exists() {
    let vault = start();
    vault.set("there", "v");
    let client = vault.server.add_client("narrow", Permission::on_secret(&[Action::Get], "mine"));
    let token = vault.login(&client, "https://vault.azure.net/.default");
    let [there, nowhere] = ["there", "nowhere"].map(|name| {
        let reply = vault.with(&token, "GET", &format!("/secrets/{name}"), &Value::Null).unwrap().expect(403);
        reply.text.replace(name, "NAME")
    });
    assert_eq!(there, nowhere);
    vault.with(&token, "GET", "/secrets/MINE", &Value::Null).unwrap().fails(404, "SecretNotFound", None);
}

#[test]
fn revoked_token_gets_a_claims_challenge() {
    let vault = start();
    assert!(vault.server.revoke_tokens("application"));
    assert!(!vault.server.revoke_tokens("nobody"));
    let reply = vault.get("/secrets").fails(401, "Unauthorized", None);
    assert!(reply.header("www-authenticate").contains("error=\"insufficient_claims\", claims=\"ey"));
    let token = vault.login(&vault.server.client(), "https://vault.azure.net/.default");
    vault.with(&token, "GET", "/secrets", &Value::Null).unwrap().expect(200);
}
