//! Tests of the requests and replies of each operation.

use serde_json::json;

use super::model::FakeKeyVault;
use super::*;

async fn set(vault: &AzureVault, text: &str, value: &str) -> Result<Vec<Description>, VaultError> {
    Vault::set_many(vault, &[(grant(Operation::Set, text), secret(value))]).await
}

#[test]
fn name_is_sent_folded_and_complete() {
    paused(async {
        let transport = after_sign_in(|seen| bundle(seen.line().rsplit('/').nth(1).unwrap(), "v"));
        let vault = vault_over(&transport);
        Vault::get(&vault, &grant(Operation::Get, "DB-Password")).await.unwrap();
        assert_eq!(transport.lines(), ["GET /secrets/db-password/"]);
        let url = transport.seen().last().unwrap().url.clone();
        assert_eq!(url, format!("{VAULT}/secrets/db-password/?api-version=2025-07-01"));
    });
}

#[test]
fn first_request_has_neither_token_nor_value() {
    paused(async {
        let transport = FakeKeyVault::transport();
        let vault = vault_over(&transport);
        set(&vault, "a", "hunter2").await.unwrap();
        let seen = transport.seen();
        let shape: Vec<_> = seen
            .iter()
            .map(|seen| (seen.line(), seen.authorization.is_some(), seen.body.contains("hunter2")))
            .collect();
        assert_eq!(
            shape,
            [
                ("PUT /secrets/a".to_owned(), false, false),
                ("POST /tenant/oauth2/v2.0/token".to_owned(), false, false),
                ("PUT /secrets/a".to_owned(), true, true),
            ]
        );
        assert!(seen[1].body.contains("scope=https%3A%2F%2Fvault.azure.net%2F.default"), "{}", seen[1].body);
        set(&vault, "a", "again").await.unwrap();
        assert_eq!(transport.seen().len(), 4, "the token is cached");
    });
}

#[test]
fn disabled_and_forbidden_secrets_differ() {
    paused(async {
        let transport = after_sign_in(|seen| match seen.line().as_str() {
            "GET /secrets/off/" => Reply::error(403, "Forbidden", "SecretDisabled"),
            "GET /secrets/shut/" => Reply::error(403, "Forbidden", "ForbiddenByRbac"),
            _ => Reply::error(404, "SecretNotFound", "SecretNotFound"),
        });
        let vault = vault_over(&transport);
        let off = Operator::get(&vault, &name("off"), None).await.unwrap_err();
        assert_eq!(off.to_string(), "the secret `off` is disabled in the vault");
        let shut = Operator::get(&vault, &name("shut"), None).await.unwrap_err();
        assert!(matches!(&shut, VaultError::Refused(text) if text.contains("Key Vault Secrets User")), "{shut}");
        // A batch reports the disabled secret as missing, but fails for the forbidden one.
        let grants = ["off", "none"].map(|name| grant(Operation::Get, name));
        let why: Vec<_> = vault.get_many(&grants).await.unwrap().into_iter().map(Result::err).collect();
        assert_eq!(why, [Some(Missing::Disabled), Some(Missing::NotFound)]);
        let grants = ["none", "shut"].map(|name| grant(Operation::Get, name));
        assert!(matches!(vault.get_many(&grants).await, Err(VaultError::Refused(_))));
    });
}

#[test]
fn deleted_name_must_be_recovered_or_purged() {
    paused(async {
        let vault = vault_over(&FakeKeyVault::transport());
        let first = set(&vault, "a", "old").await.unwrap();
        vault.delete_many(&[grant(Operation::Delete, "a")]).await.unwrap();
        let error = set(&vault, "a", "new").await.unwrap_err();
        assert!(
            matches!(&error, VaultError::Deleted(name) if name.as_str() == "a")
                && error.to_string().contains("recovered or purged"),
            "{error}"
        );
        assert_eq!(vault.recover(&name("a")).await.unwrap(), first[0]);
        assert_eq!(Operator::get(&vault, &name("a"), None).await.unwrap().value.expose(), "old");
        vault.delete(&name("a")).await.unwrap();
        vault.purge(&name("a")).await.unwrap();
        set(&vault, "a", "new").await.unwrap();
        assert!(matches!(vault.recover(&name("a")).await, Err(VaultError::NotFound(_))));
        assert!(matches!(vault.purge(&name("b")).await, Err(VaultError::NotFound(_))));
    });
}

#[test]
fn partial_batch_lists_exactly_what_was_written() {
    paused(async {
        let transport = after_sign_in(|seen| match seen.line().as_str() {
            "PUT /secrets/c" => Reply::error(403, "Forbidden", "ForbiddenByRbac"),
            line => bundle(line.rsplit('/').next().unwrap(), "v"),
        });
        let vault = vault_over(&transport);
        let batch = ["a", "b", "c"].map(|name| (grant(Operation::Set, name), secret("v")));
        let error = Vault::set_many(&vault, &batch).await.unwrap_err();
        let VaultError::Partial { written, cause } = error else { panic!("{error}") };
        assert_eq!(written, [name("a"), name("b")]);
        assert!(matches!(*cause, VaultError::Refused(_)));
        let alone = set(&vault, "c", "v").await.unwrap_err();
        assert!(matches!(alone, VaultError::Refused(_)), "nothing was written, so nothing is partial");
    });
}

#[test]
fn dropped_batch_continues() {
    paused(async {
        let transport = FakeKeyVault::transport();
        let vault = vault_over(&transport);
        let batch = (0..20).map(|at| (grant(Operation::Set, &format!("n{at}")), secret("v"))).collect::<Vec<_>>();
        let mut write = Vault::set_many(&vault, &batch);
        let _ = futures_util::poll!(&mut write);
        drop(write);
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(Operator::list(&vault).await.unwrap().len(), 20);
    });
}

// attack: vault: list a name that no secret can have -> it is skipped, and the rest of the list is
// served
#[test]
fn list_skips_names_that_cannot_be_represented() {
    paused(async {
        let transport = after_sign_in(|seen| {
            let item = |id: &str| serde_json::json!({"id": format!("{VAULT}/secrets/{id}"), "attributes": {"enabled": true, "created": 1}});
            match seen.line().trim_end_matches('/') {
                "GET /secrets" => {
                    let long = "x".repeat(128);
                    Reply::Json(
                        200,
                        serde_json::json!({"value": [item("b"), item("a_b"), item("%2e%2e"), item(&long), item("a")]}),
                    )
                }
                "GET /secrets/a/versions" => Reply::Json(200, serde_json::json!({"value": [item("a/1")]})),
                "GET /secrets/b/versions" => Reply::Json(200, serde_json::json!({"value": [item("b/1")]})),
                line => panic!("{line}"),
            }
        });
        let vault = vault_over(&transport);
        let names: Vec<_> = Operator::list(&vault).await.unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, [name("a"), name("b")]);
        let all = strongroom_vault::cases::list_grant("a = [\"list\"]\nb = [\"list\"]\n");
        assert_eq!(Vault::list(&vault, &all).await.unwrap(), [name("a"), name("b")]);
    });
}

#[test]
fn list_has_all_pages() {
    paused(async {
        let transport = FakeKeyVault::transport();
        let vault = vault_over(&transport);
        let batch = (0..60).map(|at| (grant(Operation::Set, &format!("db-{at:02}")), secret("v"))).collect::<Vec<_>>();
        Vault::set_many(&vault, &batch).await.unwrap();
        transport.clear_seen();
        let names = Vault::list(&vault, &strongroom_vault::cases::list_grant("\"db-*\" = [\"list\"]")).await.unwrap();
        assert_eq!(names.len(), 60);
        assert_eq!(transport.lines(), ["GET /secrets"; 3]);
        for seen in transport.seen() {
            assert!(seen.url.contains("api-version=2025-07-01") && !seen.url.contains("7.4"), "{}", seen.url);
        }
    });
}

// promise: A list over exact names never pages through the vault.
#[test]
fn list_of_exact_names_does_not_page() {
    paused(async {
        let transport = FakeKeyVault::transport();
        let vault = vault_over(&transport);
        for text in ["a", "b", "other"] {
            set(&vault, text, "v").await.unwrap();
        }
        transport.clear_seen();
        let names = Vault::list(
            &vault,
            &strongroom_vault::cases::list_grant(
                "a = [\"list\"]\nalias = { allow = [\"list\"], stored-as = \"b\" }\nnone = [\"list\"]",
            ),
        )
        .await
        .unwrap();
        assert_eq!(names, [name("a"), name("alias")]);
        let mut lines = transport.lines();
        lines.sort();
        assert_eq!(lines, ["a", "b", "none"].map(|name| format!("GET /secrets/{name}/versions")));
    });
}

#[test]
fn disabled_secret_is_not_listed() {
    paused(async {
        let item = |name: &str, enabled: bool, version: &str| json!({"id": format!("{VAULT}/secrets/{name}{version}"), "attributes": {"enabled": enabled, "created": 1000}});
        let transport = after_sign_in(move |seen| {
            let items = match seen.line().as_str() {
                "GET /secrets" => vec![item("db-on", true, ""), item("db-off", false, "")],
                "GET /secrets/off/versions" => vec![item("off", false, "/1")],
                line => panic!("{line}"),
            };
            Reply::Json(200, json!({"value": items}))
        });
        let vault = vault_over(&transport);
        let names =
            Vault::list(&vault, &strongroom_vault::cases::list_grant("off = [\"list\"]\n\"db-*\" = [\"list\"]"))
                .await
                .unwrap();
        assert_eq!(names, [name("db-on")]);
    });
}

#[test]
fn other_version_than_requested_is_rejected() {
    paused(async {
        let vault = vault_over(&after_sign_in(|_| bundle("a", "v")));
        let other = SecretVersion::parse("ffff").unwrap();
        let error = Operator::get(&vault, &name("a"), Some(&other)).await.unwrap_err();
        assert!(matches!(&error, VaultError::Damaged(text) if text.contains("another version")), "{error}");
    });
}

#[test]
fn validity_period_is_returned_unchecked() {
    paused(async {
        let transport = after_sign_in(|_| {
            let attributes = json!({"enabled": true, "created": 1000, "nbf": 2000, "exp": 3000});
            Reply::Json(200, json!({"id": format!("{VAULT}/secrets/a/1"), "value": "v", "attributes": attributes}))
        });
        let stored = Operator::get(&vault_over(&transport), &name("a"), None).await.unwrap();
        let seconds = |time: Option<jiff::Timestamp>| time.map(jiff::Timestamp::as_second);
        let attributes = &stored.description.attributes;
        assert_eq!((seconds(attributes.not_before), seconds(attributes.expires)), (Some(2000), Some(3000)));
    });
}

#[test]
fn status_shows_credential_and_permissions() {
    paused(async {
        let transport = after_sign_in(|seen| match seen.line().as_str() {
            "GET /secrets" => Reply::error(403, "Forbidden", "ForbiddenByRbac"),
            line => {
                assert!(line.starts_with("GET /secrets/strongroom-status-"), "{line}");
                Reply::error(404, "SecretNotFound", "SecretNotFound")
            }
        });
        let status = vault_over(&transport).status().await.unwrap();
        assert_eq!((status.credential, status.get, status.list), ("client-secret", Permission::Yes, Permission::No));
        assert_eq!(status.problems, Vec::<String>::new());
        assert!(status.token_expires.is_some() && status.tenant.is_none());

        let shut = after_sign_in(|_| Reply::error(403, "Forbidden", "ForbiddenByFirewall"));
        let status = vault_over(&shut).status().await.unwrap();
        assert_eq!((status.get, status.list), (Permission::Unknown, Permission::Unknown));
        assert!(status.problems[0].contains("firewall"), "{:?}", status.problems);
    });
}
