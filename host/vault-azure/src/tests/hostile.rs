//! A vault that means harm: no token leaves for a foreign host, memory stays bounded, the error is clear.

use serde_json::json;

use super::*;

/// Everything that came through the guard went where it may, and a token to the vault alone.
fn assert_nothing_left(script: &Script) {
    for seen in script.seen() {
        let to_vault =
            seen.url.starts_with(&format!("{VAULT}/secrets")) || seen.url.starts_with(&format!("{VAULT}/deleted"));
        let to_authority = seen.url.starts_with(&format!("{AUTHORITY}/")) && seen.method == "POST";
        assert!(to_vault || to_authority, "{seen:?}");
        assert!(to_vault || seen.authorization.is_none(), "{seen:?}");
    }
}

async fn get(script: &Arc<Script>) -> VaultError {
    let error = Vault::get(&vault_over(script), &grant(Operation::Get, "a")).await.unwrap_err();
    assert_nothing_left(script);
    let text = error.to_string();
    assert!(!text.contains("the-token") && !text.contains("s3cr3t") && text.len() < 1000, "{text}");
    error
}

async fn list(script: &Arc<Script>) -> VaultError {
    let error = Vault::list(&vault_over(script), &strongroom_vault::cases::list_grant("\"db-*\" = [\"list\"]"))
        .await
        .unwrap_err();
    assert_nothing_left(script);
    error
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: lead a list to another host together with the token -> the next page has to be at
// the origin of the vault and below the same path
#[test]
fn a_list_does_not_go_on_elsewhere() {
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
            let script = after_dance(move |_| Reply::Json(200, json!({"value": [], "nextLink": link})));
            let error = list(&script).await;
            assert!(matches!(&error, VaultError::Damaged(text) if text.contains("Key Vault")), "{link}: {error}");
            assert_eq!(script.lines(), ["GET /secrets"], "{link}");
        }
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: page without end -> a list ends after 1,000 pages or two minutes
#[test]
fn endless_paging_ends() {
    paused(async {
        let script = after_dance(|_| {
            Reply::Json(200, json!({"value": [], "nextLink": format!("{VAULT}/secrets?$skiptoken=again")}))
        });
        let error = list(&script).await;
        assert!(matches!(&error, VaultError::Damaged(text) if text.contains("1000 pages")), "{error}");
        assert_eq!(script.lines().len(), 1000);
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
// attack: vault: send a reply of 10 GiB, with or without a declared length -> at most 1 MiB is read
#[test]
fn a_reply_without_end_is_cut_off() {
    paused(async {
        let error = get(&after_dance(|_| Reply::Endless)).await;
        assert!(matches!(&error, VaultError::Damaged(text) if text.contains("more than 1 MiB")), "{error}");
        let from_authority = Script::new(|seen| match seen.url.starts_with(AUTHORITY) {
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
fn a_redirect_is_not_followed() {
    paused(async {
        for status in [301, 302, 303, 307, 308] {
            let location = vec![("location", "https://evil.example/secrets/a".to_owned())];
            let script = after_dance(move |_| Reply::Raw(status, location.clone(), Vec::new()));
            let error = get(&script).await;
            assert!(matches!(&error, VaultError::Damaged(text) if text.contains("redirect")), "{error}");
        }
    });
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
// attack: vault: send a challenge that names another authority or audience -> both are compared
// with those of the vault's domain before a token is requested
#[test]
fn a_challenge_names_our_authority_and_our_audience_or_no_token_is_asked_for() {
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
            let script = Script::new(move |_| Reply::challenge(authority, resource));
            let error = get(&script).await;
            assert!(matches!(&error, VaultError::Damaged(text) if text.contains("challenge")), "{error}");
            assert_eq!(script.seen().len(), 1, "no token was asked for");
        }
        // A second audience behind the first is looked at too, and a challenge without any is none.
        for challenge in [
            "Bearer resource=\"https://vault.azure.net\", scope=\"https://management.azure.com/.default\"",
            "Bearer realm=\"x\"",
            "Basic",
            // The SDK looks for a text and not for a name, and takes the first that it finds.
            "Bearer xresource=\"https://management.azure.com\", resource=\"https://vault.azure.net\"",
            "Bearer a=\"resource=\"https://graph.microsoft.com\", resource=\"https://vault.azure.net\"",
            "Bearer a=\"telescope=\"https://graph.microsoft.com/.default\", resource=\"https://vault.azure.net\"",
        ] {
            let header = vec![("www-authenticate", challenge.to_owned())];
            let script = Script::new(move |_| Reply::Raw(401, header.clone(), Vec::new()));
            assert!(get(&script).await.to_string().contains("challenge"), "{challenge}");
            assert_eq!(script.seen().len(), 1);
        }
    });
}

// promise: An Azure token is sent only to the vault, and requests go only to the vault, its token
// authority or the metadata address.
#[test]
fn a_token_is_for_this_vault_whatever_is_asked_for() {
    paused(async {
        let script = Script::new(|_| Reply::token("t"));
        let vault = vault_over(&script);
        let credential = &vault.0.credential;
        azure_core::credentials::TokenCredential::get_token(
            &**credential,
            &["https://management.azure.com/.default"],
            None,
        )
        .await
        .unwrap();
        let [asked] = &script.seen()[..] else { panic!("{:?}", script.lines()) };
        assert!(asked.body.contains("vault.azure.net") && !asked.body.contains("management"), "{}", asked.body);
    });
}

// attack: vault: send a reply that is not JSON, is truncated or has another content type -> it is
// not parsed, and the error repeats none of it
#[test]
fn what_is_not_json_is_not_read() {
    paused(async {
        let reply = |kind: &'static str, body: &'static str| {
            move |_: &Seen| Reply::Raw(200, vec![("content-type", kind.to_owned())], body.into())
        };
        let html = get(&after_dance(reply("text/html", "<html>{}"))).await;
        assert!(html.to_string().contains("something else than JSON"), "{html}");
        for body in ["{\"value\":\"hunter2\"", "[]", "{}", "\"hunter2\"", "{\"value\":5}", "nul", ""] {
            let error = get(&after_dance(reply("application/json", body))).await;
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
        let script = Script::new(move |seen| {
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
        let error = get(&script).await.to_string();
        assert!(error.contains("you sent Bearer [...]") && !error.contains(&token), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    });
}

// promise: A vault cannot use more memory, time or requests of the host than its limits allow.
#[test]
fn a_refused_token_is_not_sent_for_ever() {
    paused(async {
        let script = Script::new(|seen| match seen.url.starts_with(AUTHORITY) {
            true => Reply::token("the-token"),
            false => Reply::challenge(AUTHORITY, "https://vault.azure.net"),
        });
        let error = get(&script).await;
        assert!(matches!(&error, VaultError::Refused(text) if text.contains("does not accept the token")), "{error}");
        assert_eq!(script.lines().len(), 1);
    });
}
