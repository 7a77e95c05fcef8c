//! An application with a certificate, in a build with OpenSSL: `cargo test --features azure-client-certificate --test all azure::certificate`.

use std::process::Command;

use serde_json::json;

use crate::support::KeyVault;
use crate::support::keyvault::write_private;

/// Makes a PKCS #12 file of a certificate and its key, as an operator would.
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
fn an_application_with_a_certificate() {
    let server = KeyVault::start();
    server.put("key", &json!({"value": "hunter2hunter2"}));
    let told = server.told();
    let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n";
    let password_file = server.folder().join("password");
    write_private(&password_file, "correct horse\n");
    let azure = |file: &str, password: Option<&str>| {
        let password = password.map(|path| format!("certificate-password-file = \"{path}\"\n")).unwrap_or_default();
        let (tenant, client) = (&told.tenant, &told.client_id);
        format!("tenant-id = \"{tenant}\"\nclient-id = \"{client}\"\ncertificate-file = \"{file}\"\n{password}")
    };
    let serves = |azure: &str| {
        server.forget();
        let host = server.host_as("client-certificate", azure);
        let status = host.ok(&["vault", "status"]);
        assert!(status.contains("`client-certificate`") && status.contains("read access    yes"), "{status}");
        host.run("exercise", policy, &["get=key"]).finished().shows("get key: ok").never_shows("hunter2");
        assert!(server.journal().iter().any(|seen| seen.kind == "token-client-certificate"));
    };
    let open = azure(&pkcs12(&server, "open.pfx", ""), None);
    serves(&open);
    let locked = pkcs12(&server, "locked.pfx", "correct horse");
    serves(&azure(&locked, password_file.to_str()));
    // One that the application does not list any more.
    let said = server.host_as("client-certificate", &open).fails(5, &["vault", "status"]);
    assert!(
        said.contains("`client-certificate`: Entra does not accept the application's certificate (AADSTS700027"),
        "{said}"
    );
    // The wrong password.
    let said = server.host_as("client-certificate", &azure(&locked, None)).fails(2, &["vault", "status"]);
    assert!(said.contains("`client-certificate`") && !said.contains("correct horse"), "{said}");
}
