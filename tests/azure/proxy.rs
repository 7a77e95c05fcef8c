//! A vault under an Azure name, through the proxy in the environment, without the emulator
//! settings.
//!
//! The proxy forwards all names to the test server, whose certificate is set as the system's
//! certificate authority.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{Host, KeyVault};

const VAULT: &str = "team-vault-01.vault.azure.net";

/// A proxy on loopback that forwards every name to one address, and stores the heads of the
/// requests to it.
struct Proxy {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let stored = Arc::clone(&heads);
        // The threads end with the test process. They hold a few connections to loopback.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (target, stored) = (target.clone(), Arc::clone(&stored));
                std::thread::spawn(move || serve(client, &target, &stored));
            }
        });
        Self { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, target: &str, stored: &Mutex<Vec<String>>) {
    let head = head(&mut client);
    let connects = head.starts_with("CONNECT ");
    stored.lock().unwrap().push(head);
    if !connects {
        let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        return;
    }
    let Ok(server) = TcpStream::connect(target) else { return };
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let copy = |from: &TcpStream, to: &TcpStream| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    let (upload, download) = (copy(&client, &server), copy(&server, &client));
    let _ = (upload.join(), download.join());
}

/// Reads up to the empty line.
fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
        match stream.read(&mut byte) {
            Ok(1) => head.extend(byte),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Starts an identity endpoint like that of App Service, which returns this token if the request
/// has the header.
fn identity_endpoint(token: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let head = head(&mut client).to_ascii_lowercase();
            let is_valid =
                head.starts_with("get /msi/token?") && head.contains("x-identity-header: header-of-the-app\r\n");
            let body = json!({"access_token": token, "expires_on": "4000000000", "resource": "https://vault.azure.net", "token_type": "Bearer"});
            let (status, body) =
                if is_valid { ("200 OK", body.to_string()) } else { ("400 Bad Request", "{}".to_owned()) };
            let length = body.len();
            let reply = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = client.write_all(reply.as_bytes());
        }
    });
    url
}

/// Creates a host whose vault has an Azure name, behind `proxy`. Requests without TLS would go to
/// `trap`.
fn host(server: &KeyVault, credential: &str, azure: &str, proxy: &Proxy, trap: &Proxy) -> Host {
    let info = server.info();
    let host = Host::without_vault();
    let text = format!(
        "vault = \"https://{VAULT}\"\ncredential = \"{credential}\"\n[azure]\nauthority = \"{}\"\n{azure}",
        info.authority
    );
    host.file("config/strongroom/config.toml", text);
    host.with_env("HTTPS_PROXY", &proxy.url)
        .with_env("HTTP_PROXY", &trap.url)
        .with_env("http_proxy", &trap.url)
        .with_env("NO_PROXY", "localhost")
        .with_env("SSL_CERT_FILE", &info.ca_file)
}

// promise: The metadata address and an identity endpoint are never reached through a proxy.
#[test]
fn proxy_is_used_for_the_vault_but_not_for_identities() {
    let server = KeyVault::start_with(&["--name", VAULT]);
    server.put("key", &json!({"value": "hunter2hunter2"}));
    let vault = server.info().vault.replace("https://localhost", "127.0.0.1");
    let (proxy, trap) = (Proxy::to(vault), Proxy::to("127.0.0.1:1".to_owned()));
    let policy = "version = 1\n[secrets]\nkey = [\"get\", \"list\"]\n\"k*\" = [\"list\"]\n";

    // An application, whose authority is excluded from the proxy.
    let application = host(&server, "client-secret", &server.application(), &proxy, &trap);
    let status = application.ok(&["vault", "status"]);
    assert!(
        status.contains(VAULT) && !status.contains("emulator") && status.contains("list access    yes"),
        "{status}"
    );
    let run = application.run("exercise", policy, &["get=key", "list"]).finished();
    let run = run.shows("get key: ok: \"[redacted:key]\"").shows("list : ok: [\"key\"]");
    assert_eq!(run.record.vault.as_deref(), Some("https://team-vault-01.vault.azure.net"));

    // An identity, whose endpoint is contacted directly, whatever the proxies are.
    let token = server.admin("POST", "/tokens", Some(&json!({"principal": "system-assigned"})));
    let endpoint = identity_endpoint(token["token"].as_str().unwrap().to_owned());
    let identity = host(&server, "managed-identity", "", &proxy, &trap)
        .with_env("IDENTITY_ENDPOINT", endpoint)
        .with_env("IDENTITY_HEADER", "header-of-the-app");
    let status = identity.ok(&["vault", "status"]);
    assert!(status.contains("`managed-identity`") && status.contains("read access    yes"), "{status}");
    identity.run("exercise", policy, &["get=key"]).finished().shows("get key: ok");

    assert_eq!(trap.heads(), Vec::<String>::new());
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {VAULT}:443 HTTP/1.1\r\n")), "{head}");
        assert!(!head.to_ascii_lowercase().contains("bearer") && !head.contains("header-of-the-app"), "{head}");
    }
}

/// An emulator and its metadata address are on this machine, so no proxy applies to them.
// promise: The metadata address and an identity endpoint are never reached through a proxy.
#[test]
fn emulator_is_not_reached_through_a_proxy() {
    let server = KeyVault::start();
    server.put("key", &json!({"value": "hunter2hunter2"}));
    let trap = Proxy::to("127.0.0.1:1".to_owned());
    for (credential, azure) in [("managed-identity", String::new()), ("client-secret", server.application())] {
        let mut host = server.host_as(credential, &azure);
        for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            host = host.with_env(variable, &trap.url);
        }
        host.ok(&["vault", "status"]);
        let policy = "version = 1\n[secrets]\nkey = [\"get\"]\n";
        host.run("exercise", policy, &["get=key"]).finished().shows("get key: ok");
    }
    assert_eq!(trap.heads(), Vec::<String>::new());
}
