//! The journal, the counters, the clock, and the admin port.

use keyvault_server::{Fault, Kind, Service};
use serde_json::{Value, json};

use crate::support::{ReceivedReply, TestServer, start};

fn admin(vault: &TestServer, method: &str, path: &str, body: &Value) -> ReceivedReply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    vault.send(method, &format!("{}{path}", vault.server.admin_url()), &[], &body).unwrap()
}

#[test]
fn journal_has_every_request_and_no_secret() {
    let vault = start();
    let value = "hunter2-hunter2";
    vault.set("x", value).expect(200);
    vault.get("/secrets/x").expect(200);
    vault.get("/secrets/not_a_name").expect(400);
    vault.send("GET", &format!("{}/secrets", vault.server.vault_url()), &[], "").unwrap().expect(401);
    let client = vault.server.client();
    vault.login(&client, "https://vault.azure.net/.default");
    let lines = vault.server.journal();
    let short: Vec<_> = lines.iter().map(|line| (line.method.as_str(), line.kind, line.status)).collect();
    let expected = [
        ("PUT", "set-secret", 200),
        ("GET", "get-secret", 200),
        ("GET", "get-secret", 400),
        ("GET", "challenge", 401),
        ("POST", "token-client-secret", 200),
    ];
    assert_eq!(short, expected);
    assert_eq!(lines[1].path, "/secrets/x?api-version=2025-07-01");
    assert_eq!(lines[1].principal.as_deref(), Some("application"));
    assert_eq!(lines[3].principal, None);
    let text = format!("{lines:?}{}", admin(&vault, "GET", "/journal", &Value::Null).text);
    for secret in [value, &vault.token, &client.secret] {
        assert!(!text.contains(secret));
    }
}

#[test]
fn each_reply_has_its_own_request_id() {
    let vault = start();
    let [first, second] = [vault.get("/secrets"), vault.get("/secrets/nowhere")];
    let (first, second) = (first.header("x-ms-request-id").to_owned(), second.header("x-ms-request-id").to_owned());
    assert!(first.len() == 36 && first != second);
    let noted: Vec<_> = vault.server.journal().into_iter().map(|line| line.request_id).collect();
    assert_eq!(noted, [first, second]);
}

#[test]
fn requests_are_counted_by_kind_and_status() {
    let vault = start();
    for _ in 0..3 {
        vault.get("/secrets/x").expect(404);
    }
    vault.get("/secrets").expect(200);
    let counters = vault.server.counters();
    assert_eq!((counters.of("get-secret"), counters.of("list-secrets"), counters.of("set-secret")), (3, 1, 0));
    assert_eq!((counters.statuses[&404], counters.most_at_once), (3, 1));
    vault.server.clear_journal();
    assert_eq!(vault.server.counters().of("get-secret"), 0);
}

#[test]
fn maximum_of_concurrent_requests_is_counted() {
    let vault = start();
    vault.server.fault(Fault::new(Kind::Slow { milliseconds: 200, after: None }));
    // On a busy machine the requests of one round may not overlap.
    let met = (0..50).any(|_| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| vault.get("/secrets").expect(200));
            }
        });
        vault.server.counters().most_at_once > 1
    });
    assert!(met && vault.server.counters().most_at_once <= 4);
}

#[test]
fn clock_is_set_moved_and_stopped() {
    let vault = start();
    let clock = vault.server.clock();
    clock.stop();
    clock.set(1000);
    clock.advance(5);
    assert_eq!(clock.now(), 1005);
    clock.run();
    assert!((1005..1100).contains(&clock.now()));
    let now = |body| admin(&vault, "POST", "/clock", &body).expect(200).json()["now"].as_i64().unwrap();
    now(json!("stop"));
    assert_eq!((now(json!({ "set": 7 })), now(json!({ "advance": 3 }))), (7, 10));
    assert_eq!(admin(&vault, "GET", "/clock", &Value::Null).json(), json!({ "now": 10 }));
}

#[test]
fn admin_port_has_the_functions_of_the_library() {
    let vault = start();
    let post = |path: &str, body: Value| admin(&vault, "POST", path, &body);

    admin(&vault, "PUT", "/secrets/seeded", &json!({ "value": "v" })).expect(200);
    admin(&vault, "PUT", "/secrets/not_a_name", &json!({ "value": "v" })).expect(409);
    assert_eq!(vault.get("/secrets/seeded").json()["value"], "v");

    post("/faults", json!({ "what": { "kind": "throttle", "retry-after": 1 }, "times": 1 })).expect(200);
    vault.get("/secrets").expect(429);
    post("/faults", json!({ "what": { "kind": "endless-pages" } })).expect(200);
    admin(&vault, "DELETE", "/faults", &Value::Null).expect(200);
    assert_eq!(vault.get("/secrets").json()["nextLink"], Value::Null);

    let before = vault.server.settings();
    let settings = post("/settings", json!({ "deletion-takes": 9 })).expect(200).json();
    assert_eq!((&settings["deletion-takes"], &settings["page-size"]), (&9.into(), &25.into()));
    assert_eq!(vault.server.settings().deletion_takes, 9);
    vault.server.configure(before);

    let made = post("/principals", json!({ "name": "new", "permissions": [{ "action": "get", "secret": "x" }] }));
    let made = made.expect(200).json();
    let [id, secret] = ["client-id", "client-secret"].map(|name| made[name].as_str().unwrap().to_owned());
    let client = keyvault_server::Client { id: id.clone(), secret };
    let token = vault.login(&client, "https://vault.azure.net/.default");
    let get = || vault.with(&token, "GET", "/secrets/x", &Value::Null).unwrap().status;
    assert_eq!(get(), 404);
    post(&format!("/principals/{id}"), json!({ "permissions": [] })).expect(200);
    assert_eq!(get(), 403);
    post("/principals/new", json!({ "permissions": [{ "action": "get" }] })).expect(200);
    let handed_out = post("/tokens", json!({ "principal": "new" })).expect(200).json();
    assert!(handed_out["expires"].as_i64().unwrap() > 0);
    let handed_out = handed_out["token"].as_str().unwrap().to_owned();
    assert_eq!(vault.with(&handed_out, "GET", "/secrets/x", &Value::Null).unwrap().status, 404);
    post("/tokens", json!({ "principal": "nobody" })).expect(404);
    post("/principals/new", json!("revoke-tokens")).expect(200);
    assert_eq!(get(), 401);
    post("/principals/nobody", json!({ "disabled": true })).expect(404);

    let federated = post("/federated-token", Value::Null).expect(200).json();
    assert_eq!(federated["token"].as_str().unwrap().matches('.').count(), 2);

    post("/listen", json!({ "service": "metadata", "open": false })).expect(200);
    assert!(vault.send("GET", &vault.server.metadata_url(), &[], "").is_err());
    post("/listen", json!({ "service": "metadata", "open": true })).expect(200);
    vault.send("GET", &vault.server.metadata_url(), &[], "").unwrap().expect(404);
    post("/listen", json!({ "service": "admin", "open": false })).expect(400);

    let counters = admin(&vault, "GET", "/counters", &Value::Null).expect(200).json();
    assert_eq!((&counters["faults"]["throttle"], &counters["most-at-once"]), (&1.into(), &1.into()));
    admin(&vault, "DELETE", "/journal", &Value::Null).expect(200);
    assert_eq!(vault.server.journal().len(), 0);
}

#[test]
fn admin_port_rejects_invalid_requests() {
    let vault = start();
    let post = |path: &str, body: Value| admin(&vault, "POST", path, &body);
    post("/faults", json!({ "what": { "kind": "unheard-of" } })).expect(400);
    post("/faults", json!({ "what": { "kind": "endless-pages" }, "tims": 1 })).expect(400);
    post("/faults", json!({ "what": { "kind": "throttle", "retry_after": 1 } })).expect(400);
    post("/settings", json!({ "page": 1 })).expect(400);
    post("/nonsense", Value::Null).expect(404);
}

#[test]
fn fault_is_parsed_from_json() {
    for (text, kind) in [
        (r#"{"kind":"reset","after":10}"#, Kind::Reset { after: Some(10) }),
        (r#"{"kind":"reset"}"#, Kind::Reset { after: None }),
        (r#"{"kind":"slow","milliseconds":5}"#, Kind::Slow { milliseconds: 5, after: None }),
        (r#"{"kind":"huge","bytes":10737418240,"declared":false}"#, Kind::Huge { bytes: 10 << 30, declared: false }),
        (r#"{"kind":"redirect","to":"https://x"}"#, Kind::Redirect { to: "https://x".to_owned() }),
        (r#"{"kind":"foreign-next-link","to":"https://x"}"#, Kind::ForeignNextLink { to: "https://x".to_owned() }),
    ] {
        assert_eq!(serde_json::from_str::<Kind>(text).unwrap(), kind);
    }
    let fault: Fault = serde_json::from_str(r#"{"what":{"kind":"status","code":500},"service":"authority"}"#).unwrap();
    assert_eq!(fault, Fault::new(Kind::status(500)).at(Service::Authority));
}
