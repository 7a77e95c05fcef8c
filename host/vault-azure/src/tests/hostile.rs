//! Tests with a hostile vault: no token leaves for another host, memory is bounded, errors are
//! clear.

use serde_json::json;

use super::*;

/// Asserts that requests went only to allowed hosts, and tokens only to the vault.
fn assert_nothing_left(transport: &FakeTransport) {
    for seen in transport.seen() {
        let to_vault =
            seen.url.starts_with(&format!("{VAULT}/secrets")) || seen.url.starts_with(&format!("{VAULT}/deleted"));
        let to_authority = seen.url.starts_with(&format!("{AUTHORITY}/")) && seen.method == "POST";
        assert!(to_vault || to_authority, "{seen:?}");
        assert!(to_vault || seen.authorization.is_none(), "{seen:?}");
    }
}

async fn get(transport: &Arc<FakeTransport>) -> VaultError {
    let error = Vault::get(&vault_over(transport), &grant(Operation::Get, "a")).await.unwrap_err();
    assert_nothing_left(transport);
    let text = error.to_string();
    assert!(!text.contains("the-token") && !text.contains("s3cr3t") && text.len() < 1000, "{text}");
    error
}

async fn list(transport: &Arc<FakeTransport>) -> VaultError {
    let error = Vault::list(&vault_over(transport), &strongroom_vault::cases::list_grant("\"db-*\" = [\"list\"]"))
        .await
        .unwrap_err();
    assert_nothing_left(transport);
    error
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: lead a list to another host together with the token -> the next page has to be at
// the origin of the vault and below the same path
#[test]
fn list_does_not_continue_elsewhere() {
    paused(async {
        for link in [
            "https://evil.example/secrets?$skiptoken=1",
            "https://team.vault.azure.net.evil.example/secrets",
            "https://other.vault.azure.net/secrets?$skiptoken=1",
            "https://team.vault.azure.net:8443/secrets",
            "http://team.vault.azure.net/secrets",
            "https://user:pass@team.vault.azure.net/secrets",
            "https://team.vault.azure.net/keys?$skiptoken=1",
            "https://team.vault.azure.net/secrets/../keys",
            "https://team.vault.azure.net/secrets/other/versions",
            "https://login.microsoftonline.com/secrets",
            "http://169.254.169.254/metadata/identity/oauth2/token",
            "//evil.example/secrets",
            "evil",
            "javascript:x",
        ] {
            let transport = after_sign_in(move |_| Reply::Json(200, json!({"value": [], "nextLink": link})));
            let error = list(&transport).await;
            assert!(matches!(&error, VaultError::Damaged(text) if text.contains("Key Vault")), "{link}: {error}");
            assert_eq!(transport.lines(), ["GET /secrets"], "{link}");
        }
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: page without end -> a list ends after 1,000 pages or two minutes
#[test]
fn endless_paging_ends() {
    paused(async {
        let transport = after_sign_in(|_| {
            Reply::Json(200, json!({"value": [], "nextLink": format!("{VAULT}/secrets?$skiptoken=again")}))
        });
        let error = list(&transport).await;
        assert!(matches!(&error, VaultError::Damaged(text) if text.contains("1000 pages")), "{error}");
        assert_eq!(transport.lines().len(), 1000);
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: send a reply of 10 GiB, with or without a declared length -> at most 1 MiB is read
#[test]
fn endless_reply_is_cut_off() {
    paused(async {
        let error = get(&after_sign_in(|_| Reply::Endless)).await;
        assert!(matches!(&error, VaultError::Damaged(text) if text.contains("more than 1 MiB")), "{error}");
        let from_authority = FakeTransport::new(|seen| match seen.url.starts_with(AUTHORITY) {
            true => Reply::Endless,
            false => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
        });
        let error = get(&from_authority).await;
        assert!(error.to_string().contains("the token authority answered with more than 1 MiB"), "{error}");
    });
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: redirect a request, or the form with the client secret -> redirects are not
// followed
#[test]
fn redirect_is_not_followed() {
    paused(async {
        for status in [301, 302, 303, 307, 308] {
            let location = vec![("location", "https://evil.example/secrets/a".to_owned())];
            let transport = after_sign_in(move |_| Reply::Raw(status, location.clone(), Vec::new()));
            let error = get(&transport).await;
            assert!(matches!(&error, VaultError::Damaged(text) if text.contains("redirect")), "{error}");
        }
    });
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: send a challenge that names another authority or audience -> both are compared
// with those of the vault's domain before a token is requested
#[test]
fn foreign_challenge_requests_no_token() {
    paused(async {
        for (authority, resource) in [
            ("https://evil.example", "https://vault.azure.net"),
            ("https://login.microsoftonline.com.evil.example", "https://vault.azure.net"),
            ("https://login.chinacloudapi.cn", "https://vault.azure.net"),
            ("http://login.microsoftonline.com", "https://vault.azure.net"),
            (AUTHORITY, "https://management.azure.com"),
            (AUTHORITY, "https://vault.azure.net.evil.example"),
            (AUTHORITY, "https://vault.azure.cn"),
        ] {
            let transport = FakeTransport::new(move |_| Reply::challenge(authority, resource));
            let error = get(&transport).await;
            assert!(matches!(&error, VaultError::Damaged(text) if text.contains("challenge")), "{error}");
            assert_eq!(transport.seen().len(), 1, "no token was requested");
        }
        // A second audience is checked too, and a challenge must name one.
        for challenge in [
            "Bearer resource=\"https://vault.azure.net\", scope=\"https://management.azure.com/.default\"",
            "Bearer realm=\"x\"",
            "Basic",
            // The SDK searches for a text, not a parameter name, and takes the first match.
            "Bearer xresource=\"https://management.azure.com\", resource=\"https://vault.azure.net\"",
            "Bearer a=\"resource=\"https://graph.microsoft.com\", resource=\"https://vault.azure.net\"",
            "Bearer a=\"telescope=\"https://graph.microsoft.com/.default\", resource=\"https://vault.azure.net\"",
        ] {
            let header = vec![("www-authenticate", challenge.to_owned())];
            let transport = FakeTransport::new(move |_| Reply::Raw(401, header.clone(), Vec::new()));
            assert!(get(&transport).await.to_string().contains("challenge"), "{challenge}");
            assert_eq!(transport.seen().len(), 1);
        }
    });
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
#[test]
fn token_is_always_for_this_vault() {
    paused(async {
        let transport = FakeTransport::new(|_| Reply::token("t"));
        let vault = vault_over(&transport);
        let credential = &vault.0.credential;
        azure_core::credentials::TokenCredential::get_token(
            &**credential,
            &["https://management.azure.com/.default"],
            None,
        )
        .await
        .unwrap();
        let [asked] = &transport.seen()[..] else { panic!("{:?}", transport.lines()) };
        assert!(asked.body.contains("vault.azure.net") && !asked.body.contains("management"), "{}", asked.body);
    });
}

// attack: vault: send a reply that is not JSON, is truncated or has another content type -> it is
// not parsed, and the error repeats none of it
#[test]
fn reply_other_than_json_is_rejected() {
    paused(async {
        let reply = |kind: &'static str, body: &'static str| {
            move |_: &SeenRequest| Reply::Raw(200, vec![("content-type", kind.to_owned())], body.into())
        };
        let html = get(&after_sign_in(reply("text/html", "<html>{}"))).await;
        assert!(html.to_string().contains("did not answer with JSON"), "{html}");
        for body in ["{\"value\":\"hunter2\"", "[]", "{}", "\"hunter2\"", "{\"value\":5}", "nul", ""] {
            let error = get(&after_sign_in(reply("application/json", body))).await;
            assert!(matches!(error, VaultError::Damaged(_)), "{body}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    });
}

#[test]
fn a_text_of_the_vaults_that_repeats_the_token_shows_none() {
    paused(async {
        let token = format!("eyJ0eXAi.{}.sig", "Zm9vYmFy".repeat(30));
        let issued = token.clone();
        let transport = FakeTransport::new(move |seen| {
            if seen.url.starts_with(AUTHORITY) {
                return Reply::token(&issued);
            }
            match &seen.authorization {
                None => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
                Some(header) => {
                    let error =
                        json!({"error": {"code": "Forbidden", "message": format!("you sent {header}\r\n\u{1b}[2J")}});
                    Reply::Json(403, error)
                }
            }
        });
        let error = get(&transport).await.to_string();
        assert!(error.contains("you sent Bearer [...]") && !error.contains(&token), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
#[test]
fn refused_token_is_not_sent_again() {
    paused(async {
        let transport = FakeTransport::new(|seen| match seen.url.starts_with(AUTHORITY) {
            true => Reply::token("the-token"),
            false => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
        });
        let error = get(&transport).await;
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("does not accept the token")), "{error}");
        assert_eq!(transport.lines().len(), 1);
    });
}
