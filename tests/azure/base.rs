//! Vault status, an operator's commands and a run with a Key Vault, and the end of the test server.

use std::process::Stdio;

use crate::support::KeyVault;

#[test]
fn key_vault_serves_an_operator_and_a_run() {
    let server = KeyVault::start();
    let host = server.host();

    let status = host.ok(&["vault", "status"]);
    for expected in
        [server.info().vault.as_str(), "(emulator)", "`client-secret`", "read access    yes", "list access    yes"]
    {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    assert!(status.contains(&server.info().tenant) && status.contains(&server.info().client_id), "{status}");

    host.set("Db-Password", "correct horse");
    assert_eq!(host.get("db-password"), "correct horse");
    assert!(host.ok(&["secret", "list"]).contains("db-password"));

    let run = host
        .run(
            "exercise",
            "version = 1\n[secrets]\ndb-password = [\"get\"]\nmodel-key = [\"set\"]\n",
            &["get=db-password", "set=model-key=battery staple", "get=other"],
        )
        .finished();
    run.shows("get db-password: ok: \"[redacted:db-password]\"")
        .shows("get other: error: denied")
        .never_shows("correct horse");
    assert_eq!(host.get("model-key"), "battery staple");
    host.assert_audit_intact();
}

#[test]
fn test_server_ends_with_its_test() {
    let server = KeyVault::start();
    let is_running = |id: u32| {
        let status = std::process::Command::new("kill").args(["-0", &id.to_string()]).stderr(Stdio::null()).status();
        status.unwrap().success()
    };
    let (id, folder) = (server.id(), server.folder().to_owned());
    assert!(is_running(id) && folder.exists());
    drop(server);
    assert!(!is_running(id) && !folder.exists());
}
