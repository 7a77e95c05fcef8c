//! The secrets: operations, errors, limits, paths.

use keyvault_server::{NAME_LIMIT, Settings, TAG_LIMIT, VALUE_LIMIT};
use serde_json::{Value, json};

use crate::support::start;

#[test]
fn secret_is_set_and_read() {
    let vault = start();
    let set = vault.set("Db-Password", "hunter2").expect(200).json();
    let id = set["id"].as_str().unwrap();
    let (address, version) = id.rsplit_once('/').unwrap();
    assert_eq!(address, format!("{}/secrets/Db-Password", vault.server.vault_url()));
    assert!(version.len() == 32 && version.bytes().all(|byte| byte.is_ascii_hexdigit()), "{version}");
    assert_eq!(set["value"], "hunter2");
    assert_eq!(set["attributes"]["enabled"], true);
    assert_eq!(set["attributes"]["created"], set["attributes"]["updated"]);
    assert_eq!(set["attributes"]["recoveryLevel"], "Recoverable+Purgeable");
    for path in ["/secrets/Db-Password", "/secrets/Db-Password/", &format!("/secrets/Db-Password/{version}")] {
        assert_eq!(vault.get(path).expect(200).json(), set, "{path}");
    }
}

#[test]
fn names_are_case_insensitive() {
    let vault = start();
    vault.set("db-ADMIN", "1");
    vault.set("DB-admin", "2");
    let reply = vault.get("/secrets/Db-Admin").expect(200).json();
    assert_eq!(reply["value"], "2");
    assert!(reply["id"].as_str().unwrap().contains("/secrets/db-ADMIN/"), "the first spelling stays");
    assert_eq!(vault.all("/secrets").0.len(), 1);
    assert_eq!(vault.all("/SECRETS/dB-aDMIN/Versions").0.len(), 2);
}

#[test]
fn absent_secret_is_not_found() {
    let vault = start();
    vault.set("there", "x");
    for path in ["/secrets/nowhere", "/secrets/there/0123", "/deletedsecrets/there", "/secrets/nowhere/versions"] {
        vault.get(path).fails(404, "SecretNotFound", None);
    }
    vault.delete("/secrets/nowhere").fails(404, "SecretNotFound", None);
    vault.delete("/deletedsecrets/there").fails(404, "SecretNotFound", None);
    vault.request("POST", "/deletedsecrets/there/recover", &Value::Null).fails(404, "SecretNotFound", None);
    vault.get("/elsewhere").fails(404, "ResourceNotFound", None);
    vault.request("POST", "/secrets/there", &Value::Null).expect(405);
    vault.request("POST", "/secrets/there/backup", &Value::Null).expect(501);
}

#[test]
fn invalid_name_is_rejected() {
    let vault = start();
    vault.set(&"a".repeat(NAME_LIMIT), "x").expect(200);
    let long = "a".repeat(NAME_LIMIT + 1);
    for name in ["a_b", "a.b", "%C3%A4", long.as_str()] {
        vault.set(name, "x").fails(400, "BadParameter", None);
        vault.get(&format!("/secrets/{name}")).fails(400, "BadParameter", None);
    }
}

#[test]
fn oversized_fields_are_rejected() {
    let vault = start();
    let set = |body: &Value| vault.request("PUT", "/secrets/x", body);
    let tags = |count: usize, length: usize| {
        (0..count).map(|n| (n.to_string(), "t".repeat(length).into())).collect::<serde_json::Map<_, _>>()
    };
    set(&json!({ "value": "v".repeat(VALUE_LIMIT) })).expect(200);
    set(&json!({ "value": "ä".repeat(VALUE_LIMIT / 2) })).expect(200);
    set(&json!({ "value": "ä".repeat(VALUE_LIMIT / 2 + 1) })).fails(400, "BadParameter", None);
    set(&json!({ "value": "v".repeat(VALUE_LIMIT + 1) })).fails(400, "BadParameter", None);
    set(&json!({ "value": "v", "contentType": "c".repeat(255) })).expect(200);
    set(&json!({ "value": "v", "contentType": "c".repeat(256) })).fails(400, "BadParameter", None);
    set(&json!({ "value": "v", "tags": tags(TAG_LIMIT, 512) })).expect(200);
    set(&json!({ "value": "v", "tags": tags(TAG_LIMIT + 1, 1) })).fails(400, "BadParameter", None);
    set(&json!({ "value": "v", "tags": tags(1, 513) })).fails(400, "BadParameter", None);
}

#[test]
fn invalid_body_is_rejected_and_not_repeated() {
    let vault = start();
    let set = |body: &Value| vault.request("PUT", "/secrets/x", body);
    for body in [json!({}), json!({ "value": null }), json!({ "value": 7 }), json!(["hunter2"]), Value::Null] {
        let reply = set(&body).fails(400, "BadParameter", None);
        assert!(!reply.text.contains("hunter2"));
    }
}

#[test]
fn api_version_is_required() {
    let vault = start();
    vault.set("x", "1");
    let bearer = format!("Bearer {}", vault.token);
    let get = |query: &str| {
        let url = format!("{}/secrets/x{query}", vault.server.vault_url());
        vault.send("GET", &url, &[("authorization", &bearer)], "").unwrap()
    };
    for version in ["7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"] {
        get(&format!("?api-version={version}")).expect(200);
    }
    for query in ["", "?api-version=", "?api-version=7.0", "?api-version=2025-07-02", "?version=7.4"] {
        get(query).fails(400, "BadParameter", None);
    }
}

#[test]
fn list_has_pages_of_25_without_values() {
    let vault = start();
    for n in 0..51 {
        vault.server.put(&format!("name-{n:02}"), "hunter2");
    }
    let first = vault.get("/secrets").expect(200);
    assert!(!first.text.contains("hunter2"));
    let first = first.json();
    assert_eq!(first["value"].as_array().unwrap().len(), 25);
    let next = first["nextLink"].as_str().unwrap();
    assert!(next.starts_with(&format!("{}/secrets?api-version=2025-07-01&$skiptoken=", vault.server.vault_url())));
    let (items, pages) = vault.all("/secrets");
    let names: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!((names.len(), pages), (51, 3));
    assert!(names.is_sorted());
}

#[test]
fn page_size_can_be_requested_up_to_25() {
    let vault = start();
    for n in 0..30 {
        vault.server.put(&format!("name-{n:02}"), "x");
    }
    for (most, expected) in [(1, 1), (24, 24), (25, 25)] {
        let page = vault.get(&format!("/secrets?maxresults={most}")).expect(200).json();
        assert_eq!(page["value"].as_array().unwrap().len(), expected);
        assert!(page["nextLink"].as_str().unwrap().ends_with(&format!("&maxresults={most}")));
    }
    for most in ["0", "26", "-1", "many"] {
        vault.get(&format!("/secrets?maxresults={most}")).fails(400, "BadParameter", None);
    }
    vault.get("/secrets?$skiptoken=nonsense").fails(400, "BadParameter", None);
}

#[test]
fn full_last_page_has_no_next_link() {
    let vault = start();
    for n in 0..25 {
        vault.server.put(&format!("name-{n:02}"), "x");
    }
    assert_eq!(vault.get("/secrets").expect(200).json()["nextLink"], Value::Null);
}

#[test]
fn pages_are_stable_during_writes() {
    let vault = start();
    for n in 0..30 {
        vault.server.put(&format!("name-{n:02}"), "x");
    }
    let first = vault.get("/secrets").expect(200).json();
    vault.server.put("a-new-one", "x");
    vault.delete("/secrets/name-00").expect(200);
    let next = first["nextLink"].as_str().unwrap().replace(&vault.server.vault_url(), "");
    let bearer = format!("Bearer {}", vault.token);
    let url = format!("{}{next}", vault.server.vault_url());
    let rest = vault.send("GET", &url, &[("authorization", &bearer)], "").unwrap().expect(200).json();
    assert_eq!(rest["value"].as_array().unwrap().len(), 5);
}

#[test]
fn list_can_start_with_an_empty_page() {
    let vault = start();
    vault.set("x", "1");
    vault.server.configure(Settings { empty_page_first: true, ..vault.server.settings() });
    let page = vault.get("/secrets").expect(200).json();
    assert_eq!(page["value"], json!([]));
    assert!(page["nextLink"].is_string());
    assert_eq!(vault.all("/secrets").0.len(), 1);
}

#[test]
fn versions_are_ordered_by_id() {
    let vault = start();
    let set: Vec<String> = (0..30)
        .map(|_| vault.set("x", "1").json()["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    let (items, pages) = vault.all("/secrets/x/versions");
    let listed: Vec<_> =
        items.iter().map(|item| item["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect();
    assert!(listed.is_sorted() && listed != set, "versions are in order of time");
    assert_eq!((listed.len(), pages), (30, 2));
    assert!(items.iter().all(|item| item.get("value").is_none()));
    let current = vault.get("/secrets/x").json();
    assert!(current["id"].as_str().unwrap().ends_with(set.last().unwrap()), "the current version is not the newest");
}

#[test]
fn attributes_are_updated_individually() {
    let vault = start();
    let set = json!({
        "value": "v", "contentType": "a", "tags": { "t": "1" }, "attributes": { "nbf": 10, "exp": 20, "enabled": true },
    });
    let first = vault.request("PUT", "/secrets/x", &set).expect(200).json();
    let version = first["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    vault.set("x", "newer");
    vault.server.clock().advance(100);

    let path = format!("/secrets/x/{version}");
    let changed =
        vault.request("PATCH", &path, &json!({ "contentType": "b", "attributes": { "exp": 30 } })).expect(200);
    assert!(changed.json().get("value").is_none());
    let reply = vault.get(&path).expect(200).json();
    assert_eq!(
        (&reply["value"], &reply["contentType"], &reply["tags"]),
        (&json!("v"), &json!("b"), &json!({ "t": "1" }))
    );
    assert_eq!((&reply["attributes"]["nbf"], &reply["attributes"]["exp"]), (&json!(10), &json!(30)));
    let (created, updated) = (&reply["attributes"]["created"], &reply["attributes"]["updated"]);
    assert!(updated.as_i64().unwrap() >= created.as_i64().unwrap() + 100);

    vault.request("PATCH", &path, &json!({ "tags": {} })).expect(200);
    assert_eq!(vault.get(&path).json()["tags"], json!({}), "tags are replaced as a whole");
    assert!(vault.get("/secrets/x").json().get("contentType").is_none(), "the other version was changed");
    // Without a version, the current one is updated.
    vault.request("PATCH", "/secrets/x/", &json!({ "contentType": "c" })).expect(200);
    assert_eq!(vault.get("/secrets/x").json()["contentType"], "c");
}

#[test]
fn disabled_secret_is_forbidden_but_listed() {
    let vault = start();
    vault.request("PUT", "/secrets/x", &json!({ "value": "v", "attributes": { "enabled": false } })).expect(200);
    vault.get("/secrets/x").fails(403, "Forbidden", Some("SecretDisabled"));
    assert_eq!(vault.all("/secrets").0[0]["attributes"]["enabled"], false);
    vault.request("PATCH", "/secrets/x", &json!({ "attributes": { "enabled": true } })).expect(200);
    vault.get("/secrets/x").expect(200);
}

#[test]
fn expired_secret_is_still_served() {
    let vault = start();
    let now = vault.server.clock().now();
    let body = json!({ "value": "v", "attributes": { "nbf": now + 10, "exp": now + 20 } });
    vault.request("PUT", "/secrets/x", &body).expect(200);
    for _ in 0..3 {
        assert_eq!(vault.get("/secrets/x").expect(200).json()["value"], "v");
        vault.server.clock().advance(15);
    }
}

#[test]
fn deleted_secret_keeps_its_name_reserved() {
    let vault = start();
    vault.set("Gone", "v");
    let deleted = vault.delete("/secrets/gone").expect(200).json();
    assert!(deleted.get("value").is_none());
    assert_eq!(deleted["recoveryId"], format!("{}/deletedsecrets/Gone", vault.server.vault_url()));
    let (at, until) = (deleted["deletedDate"].as_i64().unwrap(), deleted["scheduledPurgeDate"].as_i64().unwrap());
    assert_eq!(until - at, 90 * 24 * 60 * 60);
    vault.get("/secrets/gone").fails(404, "SecretNotFound", None);
    vault.get("/secrets/gone/versions").fails(404, "SecretNotFound", None);
    assert_eq!(vault.all("/secrets").0.len(), 0);
    vault.get("/deletedsecrets/GONE").expect(200);
    let (listed, _) = vault.all("/deletedsecrets");
    assert_eq!(listed[0]["id"], format!("{}/secrets/Gone", vault.server.vault_url()));
    vault.set("gonE", "w").fails(409, "Conflict", Some("ObjectIsDeletedButRecoverable"));
}

#[test]
fn deleted_secret_is_recovered_with_all_versions() {
    let vault = start();
    vault.set("x", "1");
    let current = vault.set("x", "2").json();
    vault.delete("/secrets/x").expect(200);
    let recovered = vault.request("POST", "/deletedsecrets/x/recover", &Value::Null).expect(200).json();
    assert_eq!(recovered["id"], current["id"]);
    assert!(recovered.get("value").is_none());
    assert_eq!(vault.get("/secrets/x").expect(200).json()["value"], "2");
    assert_eq!(vault.all("/secrets/x/versions").0.len(), 2);
}

#[test]
fn purged_secret_frees_its_name() {
    let vault = start();
    vault.set("x", "1");
    vault.delete("/secrets/x").expect(200);
    let purged = vault.delete("/deletedsecrets/x").expect(204);
    assert!(purged.text.is_empty());
    vault.get("/deletedsecrets/x").fails(404, "SecretNotFound", None);
    vault.set("x", "2").expect(200);
    assert_eq!(vault.all("/secrets/x/versions").0.len(), 1);
}

#[test]
fn deleted_secret_is_purged_after_its_retention() {
    let vault = start();
    vault.server.clock().stop();
    vault.server.configure(Settings { retention_days: 7, ..vault.server.settings() });
    assert_eq!(vault.set("x", "1").json()["attributes"]["recoveryLevel"], "CustomizedRecoverable+Purgeable");
    vault.delete("/secrets/x").expect(200);
    // The old token has expired by then, so a new one is needed.
    vault.server.configure(Settings { token_lifetime: 1_000_000, ..vault.server.settings() });
    vault.server.clock().advance(7 * 24 * 60 * 60 - 1);
    let token = vault.login(&vault.server.client(), "https://vault.azure.net/.default");
    vault.with(&token, "GET", "/deletedsecrets/x", &Value::Null).unwrap().expect(200);
    vault.server.clock().advance(1);
    vault.with(&token, "GET", "/deletedsecrets/x", &Value::Null).unwrap().fails(404, "SecretNotFound", None);
    vault.with(&token, "PUT", "/secrets/x", &json!({ "value": "2" })).unwrap().expect(200);
}

#[test]
fn deletion_recovery_and_purge_take_the_configured_time() {
    let vault = start();
    vault.server.clock().stop();
    let settings = Settings { deletion_takes: 5, recovery_takes: 5, purge_takes: 5, ..vault.server.settings() };
    vault.server.configure(settings);
    vault.set("x", "1");

    vault.delete("/secrets/x").expect(200);
    vault.get("/secrets/x").fails(404, "SecretNotFound", None);
    vault.get("/deletedsecrets/x").fails(404, "SecretNotFound", None);
    vault.set("x", "2").fails(409, "Conflict", Some("ObjectIsBeingDeleted"));
    vault.delete("/deletedsecrets/x").fails(409, "Conflict", Some("ObjectIsBeingDeleted"));
    let recover = || vault.request("POST", "/deletedsecrets/x/recover", &Value::Null);
    recover().fails(409, "Conflict", Some("ObjectIsBeingDeleted"));
    vault.server.clock().advance(5);
    vault.get("/deletedsecrets/x").expect(200);

    recover().expect(200);
    vault.get("/secrets/x").fails(404, "SecretNotFound", None);
    vault.set("x", "2").fails(409, "Conflict", Some("ObjectIsBeingRecovered"));
    recover().fails(409, "Conflict", Some("ObjectIsBeingRecovered"));
    vault.server.clock().advance(5);
    assert_eq!(vault.get("/secrets/x").expect(200).json()["value"], "1");

    vault.delete("/secrets/x").expect(200);
    vault.server.clock().advance(5);
    vault.delete("/deletedsecrets/x").expect(204);
    vault.get("/deletedsecrets/x").fails(404, "SecretNotFound", None);
    vault.set("x", "2").fails(409, "Conflict", Some("ObjectIsBeingDeleted"));
    vault.server.clock().advance(5);
    vault.set("x", "2").expect(200);
}

#[test]
fn unencoded_name_in_path_reaches_another_resource() {
    let vault = start();
    vault.set("admin", "root");
    vault.set("b", "1");
    let version = vault.set("a", "1").json()["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    // The client must send the path without normalizing it.
    for (path, kind) in [
        ("/secrets/team/%2e%2e/admin", "get-secret"),
        ("/secrets/%2e%2e/keys/x", "keys"),
        ("/secrets/%2e%2e/certificates/x", "certificates"),
        (&format!("/secrets/a%2F{version}") as &str, "get-secret-version"),
    ] {
        vault.server.clear_journal();
        vault.get(path).expect(200);
        let [line] = &vault.server.journal()[..] else { panic!() };
        assert_eq!((line.kind, line.path.split('?').next()), (kind, Some(path)));
    }
}
