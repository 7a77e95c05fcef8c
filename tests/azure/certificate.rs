//! Signing in with an application's certificate, in a build with OpenSSL.

use std::process::Command;

use serde_json::json;

use crate::support::KeyVault;
use crate::support::keyvault::write_private;

/// Creates a PKCS #12 file of a certificate and its key, as an operator would.
fn pkcs12(server: &KeyVault, name: &str, password: &str) -> String {
    let pem = server.admin("POST", "/client-certificate", None)["pem"].as_str().unwrap().to_owned();
    let (source, file) = (server.folder().join("client.pem"), server.folder().join(name));
    write_private(&source, pem);
    write_private(&file, "");
    let output = Command::new("openssl")
        .args(["pkcs12", "-export", "-passout"])
        .arg(format!("pass:{password}"))
        .arg("-in")
        .arg(&source)
        .arg("-out")
        .arg(&file)
        .output()
        .expect("`openssl` is on the path");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file.display().to_string()
}

#[test]
fn certificate_credential_signs_in() {
    let server = KeyVault::start();
    server.put("key", &json!({"value": "hunter2hunter2"}));
    let info = server.info();
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n";
    let password_file = server.folder().join("password");
    write_private(&password_file, "correct horse\n");
    let azure = |file: &str, password: Option<&str>| {
        let password = password.map(|path| format!("certificate-password-file = \"{path}\"\n")).unwrap_or_default();
        let (tenant, client) = (&info.tenant, &info.client_id);
        format!("tenant-id = \"{tenant}\"\nclient-id = \"{client}\"\ncertificate-file = \"{file}\"\n{password}")
    };
    let assert_serves = |azure: &str| {
        server.clear_journal();
        let host = server.host_as("client-certificate", azure);
        let status = host.ok(&["vault", "status"]);
        assert!(status.contains("`client-certificate`") && status.contains("read access    yes"), "{status}");
        host.run("exercise", policy, &["get=key"]).finished().shows("get key: ok").never_shows("hunter2");
        assert!(server.journal().iter().any(|request| request.kind == "token-client-certificate"));
    };
    let open = azure(&pkcs12(&server, "open.pfx", ""), None);
    assert_serves(&open);
    let locked = pkcs12(&server, "locked.pfx", "correct horse");
    assert_serves(&azure(&locked, password_file.to_str()));
    // A certificate that the application no longer lists.
    let message = server.host_as("client-certificate", &open).fails(5, &["vault", "status"]);
    assert!(
        message.contains("`client-certificate`: Entra does not accept the application's certificate (AADSTS700027"),
        "{message}"
    );
    // The wrong password.
    let message = server.host_as("client-certificate", &azure(&locked, None)).fails(2, &["vault", "status"]);
    assert!(message.contains("`client-certificate`") && !message.contains("correct horse"), "{message}");
}
