//! From the status of the vault to a run, and who ends what.

use std::process::Stdio;

use crate::support::KeyVault;

#[test]
fn a_key_vault_serves_an_operator_and_a_run() {
    let server = KeyVault::start();
    let host = server.host();

    let status = host.ok(&["vault", "status"]);
    for expected in
        [server.told().vault.as_str(), "(emulator)", "`client-secret`", "read access    yes", "list access    yes"]
    {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    assert!(status.contains(&server.told().tenant) && status.contains(&server.told().client_id), "{status}");

    host.set("Db-Password", "correct horse");
    assert_eq!(host.get("db-password"), "correct horse");
    assert!(host.ok(&["secret", "list"]).contains("db-password"));

    let ended = host
        .run(
            "exercise",
            "version = 1\n[secrets]\ndb-password = [\"get\"]\nmodel-key = [\"set\"]\n",
            &["get=db-password", "set=model-key=battery staple", "get=other"],
        )
        .finished();
    ended
        .shows("get db-password: ok: \"[redacted:db-password]\"")
        .shows("get other: error: denied")
        .never_shows("correct horse");
    assert_eq!(host.get("model-key"), "battery staple");
    host.audit_is_whole();
}

#[test]
fn the_server_ends_with_the_test_that_started_it() {
    let server = KeyVault::start();
    let alive = |id: u32| {
        let status = std::process::Command::new("kill").args(["-0", &id.to_string()]).stderr(Stdio::null()).status();
        status.unwrap().success()
    };
    let (id, folder) = (server.id(), server.folder().to_owned());
    assert!(alive(id) && folder.exists());
    drop(server);
    assert!(!alive(id) && !folder.exists());
}
