//! Faults as a client experiences them.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use keyvault_server::{Fault, Kind, Service};
use serde_json::Value;
use ureq::http::Request;

use crate::support::start;

#[test]
fn throttling_sends_retry_after_if_configured() {
    let vault = start();
    vault.server.fault(Fault::new(Kind::Throttle { retry_after: Some(7) }).times(1));
    vault.server.fault(Fault::new(Kind::Throttle { retry_after: None }).times(1));
    let reply = vault.get("/secrets").fails(429, "Throttled", None);
    assert_eq!(reply.header("retry-after"), "7");
    let reply = vault.get("/secrets").fails(429, "Throttled", None);
    assert!(reply.headers.get("retry-after").is_none());
    vault.get("/secrets").expect(200);
    assert_eq!(vault.server.counters().faults["throttle"], 2);
}

#[test]
fn fault_does_not_affect_requests_without_token() {
    let vault = start();
    vault.server.fault(Fault::new(Kind::status(503)).times(1));
    let url = format!("{}/secrets?api-version=7.4", vault.server.vault_url());
    vault.send("GET", &url, &[], "").unwrap().expect(401);
    vault.get("/secrets").fails(503, "ServiceUnavailable", None);
    vault.get("/secrets").expect(200);
}

#[test]
fn error_has_the_configured_message() {
    let vault = start();
    let saying = |code| Kind::Status { code, message: Some("a text to look for".to_owned()) };
    vault.server.fault(Fault::new(saying(429)).times(1));
    vault.server.fault(Fault::new(saying(502)).at(Service::Authority).times(1));
    let reply = vault.get("/secrets").fails(429, "Throttled", None);
    assert_eq!(reply.json()["error"]["message"], "a text to look for");
    assert_eq!(vault.token_endpoint(&[]).expect(502).json()["error_description"], "a text to look for");
}

#[test]
fn faults_affect_token_endpoint_and_metadata_service() {
    let vault = start();
    for service in [Service::Authority, Service::Metadata] {
        vault.server.fault(Fault::new(Kind::status(500)).at(service).times(1));
    }
    assert_eq!(vault.token_endpoint(&[]).expect(500).json()["error"], "temporarily_unavailable");
    let url = format!("{}/metadata/identity/oauth2/token", vault.server.metadata_url());
    vault.send("GET", &url, &[], "").unwrap().expect(500);
    vault.token_endpoint(&[]).expect(400);
}

#[test]
fn connection_is_reset_before_or_during_a_reply() {
    let vault = start();
    vault.set("x", "hunter2");
    vault.server.fault(Fault::new(Kind::Reset { after: None }).times(1));
    vault.server.fault(Fault::new(Kind::Reset { after: Some(10) }).times(1));
    assert!(vault.with(&vault.token, "GET", "/secrets/x", &Value::Null).is_err());
    assert!(vault.with(&vault.token, "GET", "/secrets/x", &Value::Null).is_err());
    vault.get("/secrets/x").expect(200);
    let statuses: Vec<_> = vault.server.journal().iter().skip(1).map(|line| line.status).collect();
    assert_eq!(statuses, [0, 200, 200]);
}

#[test]
fn reset_reaches_the_socket() {
    let vault = start();
    vault.server.fault(Fault::new(Kind::Reset { after: Some(5) }).at(Service::Metadata));
    let address = vault.server.metadata_url().replace("http://", "");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metadata/identity/oauth2/token HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    let error = stream.read_to_end(&mut reply).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(String::from_utf8(reply).unwrap().ends_with("\r\n\r\n{\"err"));
}

#[test]
fn reply_is_delayed_before_or_during_its_body() {
    let vault = start();
    vault.set("x", "hunter2");
    for after in [None, Some(5)] {
        vault.server.fault(Fault::new(Kind::Slow { milliseconds: 200, after }).times(1));
        let began = Instant::now();
        assert_eq!(vault.get("/secrets/x").expect(200).json()["value"], "hunter2");
        assert!(began.elapsed() >= Duration::from_millis(200), "{after:?}");
    }
}

#[test]
fn endless_pages_never_end() {
    let vault = start();
    vault.set("x", "1");
    vault.server.fault(Fault::new(Kind::EndlessPages).path("/secrets"));
    let bearer = format!("Bearer {}", vault.token);
    let mut url = format!("{}/secrets?api-version=7.4", vault.server.vault_url());
    let mut seen = Vec::new();
    for _ in 0..20 {
        let page = vault.send("GET", &url, &[("authorization", &bearer)], "").unwrap().expect(200).json();
        page["nextLink"].as_str().unwrap().clone_into(&mut url);
        assert!(!seen.contains(&url), "a link was repeated");
        seen.push(url.clone());
    }
    assert!(vault.get("/secrets/x").expect(200).json().get("nextLink").is_none());
}

#[test]
fn next_page_link_leads_to_another_host() {
    let vault = start();
    vault.server.fault(Fault::new(Kind::ForeignNextLink { to: "https://evil.example".to_owned() }));
    let page = vault.get("/secrets").expect(200).json();
    let link = page["nextLink"].as_str().unwrap();
    assert!(link.starts_with("https://evil.example/secrets?api-version=2025-07-01&$skiptoken="), "{link}");
}

#[test]
fn huge_reply_is_generated_as_it_is_read() {
    let vault = start();
    for (bytes, declared) in [(3_000_000, false), (3_000_000, true), (10 << 30, true)] {
        vault.server.fault(Fault::new(Kind::Huge { bytes, declared }).times(1));
        let url = format!("{}/secrets/x?api-version=7.4", vault.server.vault_url());
        let request = Request::get(url).header("authorization", format!("Bearer {}", vault.token)).body(()).unwrap();
        let mut response = vault.agent.run(request).unwrap();
        let length = response.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
        assert_eq!(length, declared.then(|| (bytes + 12).to_string()));
        // Reads only the beginning of the ten gigabytes.
        let mut text = Vec::new();
        response.body_mut().as_reader().take(4_000_000).read_to_end(&mut text).unwrap();
        assert_eq!(text.len() as u64, (bytes + 12).min(4_000_000));
        assert!(text.starts_with(b"{\"value\":\"AAAA"));
    }
}

#[test]
fn reply_has_the_configured_content_type() {
    let vault = start();
    let html = || Some("<html>".to_owned());
    for (body, expected) in [(html(), "<html>"), (None, "{\"nextLink\":null,\"value\":[]}")] {
        vault.server.fault(Fault::new(Kind::ContentType { value: "text/html".to_owned(), body }).times(1));
        let reply = vault.get("/secrets").expect(200);
        assert_eq!((reply.header("content-type"), reply.text.as_str()), ("text/html", expected));
    }
}

#[test]
fn redirect_leads_to_another_host() {
    let vault = start();
    vault.server.fault(Fault::new(Kind::Redirect { to: "https://evil.example".to_owned() }).times(1));
    let reply = vault.get("/secrets/x").expect(307);
    assert_eq!(reply.header("location"), "https://evil.example/secrets/x?api-version=2025-07-01");
}

#[test]
fn challenge_names_a_foreign_authority() {
    let vault = start();
    let authority = "https://evil.example/tenant".to_owned();
    vault.server.fault(Fault::new(Kind::ForeignChallenge { authority: authority.clone(), resource: None }).times(1));
    let other = Some("https://evil.example".to_owned());
    vault.server.fault(Fault::new(Kind::ForeignChallenge { authority, resource: other }).times(1));
    let url = format!("{}/secrets?api-version=7.4", vault.server.vault_url());
    for resource in ["https://vault.azure.net", "https://evil.example"] {
        let reply = vault.send("GET", &url, &[], "").unwrap().expect(401);
        let expected = format!("Bearer authorization=\"https://evil.example/tenant\", resource=\"{resource}\"");
        assert_eq!(reply.header("www-authenticate"), expected);
    }
}

#[test]
fn closed_port_refuses_and_reopens_under_its_number() {
    let vault = start();
    let url = vault.server.vault_url();
    vault.get("/secrets").expect(200);
    for service in [Service::Vault, Service::Authority] {
        vault.server.listen(service, false).unwrap();
        vault.server.listen(service, false).unwrap();
    }
    // The client's open connection is gone too.
    assert!(vault.with(&vault.token, "GET", "/secrets", &Value::Null).is_err());
    let address = url.replace("https://localhost", "127.0.0.1");
    let error = std::net::TcpStream::connect(&address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    for service in [Service::Vault, Service::Authority] {
        vault.server.listen(service, true).unwrap();
        vault.server.listen(service, true).unwrap();
    }
    assert_eq!(vault.server.vault_url(), url);
    vault.get("/secrets").expect(200);
    vault.login(&vault.server.client(), "https://vault.azure.net/.default");
}
