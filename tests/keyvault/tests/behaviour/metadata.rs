//! The metadata service.

use serde_json::Value;

use crate::support::{ReceivedReply, TestServer, start};

fn request(vault: &TestServer, query: &str, headers: &[(&str, &str)]) -> ReceivedReply {
    let url = format!("{}/metadata/identity/oauth2/token{query}", vault.server.metadata_url());
    vault.send("GET", &url, headers, "").unwrap()
}

const WHAT: &str = "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
const METADATA: (&str, &str) = ("Metadata", "true");

#[test]
fn system_assigned_identity_gets_a_token() {
    let vault = start();
    let reply = request(&vault, WHAT, &[METADATA]).expect(200).json();
    assert_eq!((&reply["expires_in"], &reply["token_type"]), (&"3599".into(), &"Bearer".into()));
    assert!(reply["expires_on"].as_str().unwrap().parse::<i64>().unwrap() > vault.server.clock().now());
    let token = reply["access_token"].as_str().unwrap();
    vault.with(token, "GET", "/secrets", &Value::Null).unwrap().expect(200);
    assert_eq!(vault.server.journal()[0].principal.as_deref(), Some("system-assigned"));
}

#[test]
fn user_assigned_identity_is_found_by_each_id() {
    let vault = start();
    let (client, object, resource) = vault.server.user_assigned();
    for (name, value) in
        [("client_id", &client), ("object_id", &object), ("msi_res_id", &resource), ("mi_res_id", &resource)]
    {
        request(&vault, &format!("{WHAT}&{name}={value}"), &[METADATA]).expect(200);
    }
    let who: Vec<_> = vault.server.journal().into_iter().filter_map(|line| line.principal).collect();
    assert_eq!(who, ["user-assigned"; 4]);
    request(&vault, &format!("{WHAT}&client_id={client}&object_id={object}"), &[METADATA]).expect(400);
}

#[test]
fn invalid_request_gets_a_specific_error() {
    let vault = start();
    let application = vault.server.client().id;
    for (query, headers, error) in [
        (WHAT, vec![], "bad_request_102"),
        (WHAT, vec![("Metadata", "false")], "bad_request_102"),
        (WHAT, vec![METADATA, ("X-Forwarded-For", "10.0.0.1")], "invalid_request"),
        ("?resource=https://vault.azure.net", vec![METADATA], "invalid_request"),
        ("?api-version=2017-01-01&resource=x", vec![METADATA], "bad_request"),
        ("?api-version=2018-02-01", vec![METADATA], "invalid_request"),
        (&format!("{WHAT}&client_id=nobody") as &str, vec![METADATA], "invalid_request"),
        (&format!("{WHAT}&client_id={application}") as &str, vec![METADATA], "invalid_request"),
    ] {
        assert_eq!(request(&vault, query, &headers).expect(400).json()["error"], error, "{query}");
    }
    assert_eq!(vault.server.counters().of("metadata-refused"), 8);
    let url = format!("{}/metadata/instance?api-version=2021-02-01", vault.server.metadata_url());
    vault.send("GET", &url, &[METADATA], "").unwrap().expect(404);
}
