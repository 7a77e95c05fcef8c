//! The token endpoint.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use keyvault_server::Permission;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::{Value, json};

use crate::support::{ReceivedReply, TestServer, start};

const SCOPE: &str = "https://vault.azure.net/.default";
const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[track_caller]
fn refused(reply: ReceivedReply, status: u16, error: &str, code: u32) {
    let reply = reply.expect(status).json();
    assert_eq!((reply["error"].as_str().unwrap(), &reply["error_codes"][0]), (error, &code.into()), "{reply}");
    assert!(reply["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{code}: ")));
    let time = reply["timestamp"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b' ', "{time}");
}

fn with_secret(vault: &TestServer, change: &[(&str, Option<&str>)]) -> ReceivedReply {
    let client = vault.server.client();
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_id", &client.id),
        ("client_secret", &client.secret),
        ("scope", SCOPE),
    ];
    for (name, value) in change {
        form.retain(|(other, _)| other != name);
        form.extend(value.map(|value| (*name, value)));
    }
    vault.token_endpoint(&form)
}

fn with_assertion(vault: &TestServer, token: &str) -> ReceivedReply {
    let client = vault.server.client();
    vault.token_endpoint(&[
        ("grant_type", "client_credentials"),
        ("client_id", &client.id),
        ("client_assertion_type", BEARER),
        ("client_assertion", token),
        ("scope", SCOPE),
    ])
}

#[test]
fn discovery_leads_to_the_endpoints() {
    let vault = start();
    let base = format!("{}/{}", vault.server.authority_url(), vault.server.tenant());
    for path in ["/v2.0/.well-known/openid-configuration", "/.well-known/openid-configuration"] {
        let found = vault.send("GET", &format!("{base}{path}"), &[], "").unwrap().expect(200).json();
        assert_eq!(found["token_endpoint"], format!("{base}/oauth2/v2.0/token"));
        let keys = vault.send("GET", found["jwks_uri"].as_str().unwrap(), &[], "").unwrap().expect(200).json();
        assert_eq!(keys["keys"][0]["alg"], "RS256");
        assert!(keys["keys"][0].get("d").is_none(), "the private part of the key is published");
    }
    let instance = format!("{}/common/discovery/instance?api-version=1.1", vault.server.authority_url());
    let found = vault.send("GET", &instance, &[], "").unwrap().expect(200).json();
    assert!(found["tenant_discovery_endpoint"].as_str().unwrap().starts_with(&base));
}

#[test]
fn client_with_its_secret_gets_a_token() {
    let vault = start();
    let reply = with_secret(&vault, &[]).expect(200).json();
    assert_eq!((&reply["token_type"], &reply["expires_in"]), (&"Bearer".into(), &3599.into()));
    let token = reply["access_token"].as_str().unwrap();
    vault.with(token, "GET", "/secrets", &Value::Null).unwrap().expect(200);
    assert_eq!(vault.server.counters().of("token-client-secret"), 1);
}

#[test]
fn invalid_client_request_gets_a_specific_error() {
    let vault = start();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let ask = |name, value| with_secret(&vault, &[(name, value)]);
    refused(ask("client_secret", Some("wrong")), 401, "invalid_client", 7000215);
    refused(ask("client_secret", None), 401, "invalid_client", 7000218);
    refused(ask("client_id", Some(unknown)), 400, "unauthorized_client", 700016);
    refused(ask("client_id", None), 400, "invalid_request", 900144);
    refused(ask("grant_type", Some("password")), 400, "unsupported_grant_type", 70003);
    refused(ask("scope", None), 400, "invalid_request", 900144);
    refused(ask("scope", Some("https://vault.azure.net/user_impersonation")), 400, "invalid_scope", 1002012);
    // A managed identity has no secret and cannot sign in with one.
    let (identity, _, _) = vault.server.user_assigned();
    refused(ask("client_id", Some(&identity)), 400, "unauthorized_client", 700016);
    assert_eq!(vault.server.counters().of("token-refused"), 8);
}

#[test]
fn unknown_tenant_is_refused() {
    let vault = start();
    let url = format!("{}/other/oauth2/v2.0/token", vault.server.authority_url());
    refused(vault.send("POST", &url, &[], "").unwrap(), 400, "invalid_request", 90002);
    let url = format!("{}/other/v2.0/.well-known/openid-configuration", vault.server.authority_url());
    refused(vault.send("GET", &url, &[], "").unwrap(), 400, "invalid_request", 90002);
}

#[test]
fn disabled_client_gets_no_new_token() {
    let vault = start();
    vault.server.disable("application", true);
    refused(with_secret(&vault, &[]), 401, "invalid_client", 7000112);
    vault.get("/secrets").expect(200);
    vault.server.disable("application", false);
    with_secret(&vault, &[]).expect(200);
}

#[test]
fn workload_exchanges_its_federated_token() {
    let vault = start();
    let token = vault.server.federated_token().unwrap();
    let reply = with_assertion(&vault, &token).expect(200).json();
    let access = reply["access_token"].as_str().unwrap();
    vault.with(access, "GET", "/secrets", &Value::Null).unwrap().expect(200);
    assert_eq!(vault.server.counters().of("token-client-assertion"), 1);
}

#[test]
fn invalid_federated_token_is_refused() {
    let vault = start();
    let other = start();
    let token = vault.server.federated_token().unwrap();
    refused(with_assertion(&vault, "nonsense"), 401, "invalid_client", 700027);
    refused(with_assertion(&vault, &other.server.federated_token().unwrap()), 401, "invalid_client", 700027);
    refused(with_assertion(&vault, &vault.token), 401, "invalid_client", 700027);
    vault.server.clock().advance(3600);
    refused(with_assertion(&vault, &token), 401, "invalid_client", 700024);
    vault.server.clock().advance(-3600);
    // The token belongs to this application only.
    let client = vault.server.add_client("other", Permission::on_vault(&[]));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &client.id),
        ("client_assertion_type", BEARER),
        ("client_assertion", &token),
        ("scope", SCOPE),
    ];
    refused(vault.token_endpoint(&form), 401, "invalid_client", 700213);
}

#[test]
fn client_signs_in_with_its_certificate() {
    let vault = start();
    let pem = vault.server.client_certificate().unwrap();
    let (key, certificate) = pem.split_once("-----BEGIN CERTIFICATE-----").unwrap();
    let der = STANDARD.decode(certificate.lines().filter(|line| !line.starts_with("--")).collect::<String>()).unwrap();
    let key = EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
    let id = vault.server.client().id;
    let endpoint = format!("{}/{}/oauth2/v2.0/token", vault.server.authority_url(), vault.server.tenant());
    let now = vault.server.clock().now();
    let sign = |algorithm, change: &dyn Fn(&mut Value, &mut Header)| {
        let mut claims = json!({ "aud": endpoint, "iss": id, "sub": id, "nbf": now - 5, "exp": now + 600 });
        let mut header = Header::new(algorithm);
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)));
        change(&mut claims, &mut header);
        encode(&header, &claims, &key).unwrap()
    };
    let sha1 = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &der));
    let by_sha1 = |_: &mut Value, header: &mut Header| {
        header.x5t_s256 = None;
        header.x5t = Some(sha1.clone());
    };
    with_assertion(&vault, &sign(Algorithm::RS256, &|_, _| {})).expect(200);
    with_assertion(&vault, &sign(Algorithm::PS256, &|_, _| {})).expect(200);
    with_assertion(&vault, &sign(Algorithm::RS256, &by_sha1)).expect(200);
    // The format of Microsoft's client for Rust.
    let padded = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &der));
    let by_padded = |_: &mut Value, header: &mut Header| {
        header.x5t_s256 = None;
        header.x5t = Some(padded.clone());
    };
    with_assertion(&vault, &sign(Algorithm::RS256, &by_padded)).expect(200);
    with_assertion(&vault, &sign(Algorithm::RS256, &|claims, _| claims["exp"] = (now as f64 + 600.5).into()))
        .expect(200);
    assert_eq!(vault.server.counters().of("token-client-certificate"), 5);

    let refuse = |code, change: &dyn Fn(&mut Value, &mut Header)| {
        refused(with_assertion(&vault, &sign(Algorithm::RS256, change)), 401, "invalid_client", code);
    };
    refuse(700023, &|claims, _| claims["aud"] = "https://elsewhere.example".into());
    refuse(700021, &|claims, _| claims["iss"] = "somebody".into());
    refuse(700024, &|claims, _| claims["exp"] = now.into());
    refuse(700027, &|_, header| header.x5t_s256 = Some("AAAA".to_owned()));
    let good = sign(Algorithm::RS256, &|_, _| {});
    vault.server.client_certificate().unwrap();
    refused(with_assertion(&vault, &good), 401, "invalid_client", 700027);
}
