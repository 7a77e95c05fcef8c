//! The Key Vault test server (`tests/keyvault`), and hosts that use it as their vault.
//!
//! It is built once per test process and runs as a separate program. The host reaches it only over
//! TLS on loopback. Tests control it through its admin port.

use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Host;

/// A running server. It serves until its standard input ends, so it stops when this is dropped or
/// this process is killed.
pub(crate) struct KeyVault {
    child: Child,
    folder: TempDir,
    info: ServerInfo,
}

/// The line that the server prints when it is ready.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServerInfo {
    /// The origin of each service.
    pub(crate) vault: String,
    pub(crate) authority: String,
    pub(crate) metadata: String,
    pub(crate) admin: String,
    /// The certificate authority of the vault and the authority.
    pub(crate) ca_file: PathBuf,
    pub(crate) tenant: String,
    /// The application with all permissions.
    pub(crate) client_id: String,
    pub(crate) client_secret_file: PathBuf,
    pub(crate) federated_token_file: PathBuf,
    pub(crate) user_assigned: UserAssigned,
}

/// A managed identity that is assigned to the machine, under each of its names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct UserAssigned {
    pub(crate) client_id: String,
    pub(crate) object_id: String,
    pub(crate) resource_id: String,
}

/// A request that the server answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LoggedRequest {
    /// `vault`, `authority` or `metadata`.
    pub(crate) service: String,
    pub(crate) method: String,
    /// Path and query as received.
    pub(crate) path: String,
    /// The recognized kind: `get-secret`, `list-secrets`, `challenge`, `token-client-secret`, ...
    pub(crate) kind: String,
    /// The owner of the request's token.
    pub(crate) principal: Option<String>,
    /// The reply's status; 0 if the connection was reset instead.
    pub(crate) status: u16,
    /// The active fault.
    pub(crate) fault: Option<String>,
}

impl KeyVault {
    /// Starts a server and returns when it is ready.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with additional options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(program());
        command.arg("--dir").arg(folder.path()).args(options);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the Key Vault test server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("the server prints its addresses");
        let info = serde_json::from_str(&line).unwrap_or_else(|error| panic!("the server printed {line:?}: {error}"));
        Self { child, folder, info }
    }

    /// Returns the server's addresses and credentials.
    pub(crate) fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// Returns the server's folder, which tests may add files to.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the server's process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Creates a host that uses this server as its vault, signed in as the application with all
    /// permissions.
    pub(crate) fn host(&self) -> Host {
        self.host_as("client-secret", &self.application())
    }

    /// Creates a host that uses this server, with a kind of credential and its lines of `[azure]`.
    pub(crate) fn host_as(&self, credential: &str, azure: &str) -> Host {
        self.host_with(credential, azure, "")
    }

    /// Like [`Self::host_as`], with additional tables for the configuration file.
    pub(crate) fn host_with(&self, credential: &str, azure: &str, more: &str) -> Host {
        let host = Host::without_vault();
        host.file("config/strongroom/config.toml", self.configuration(credential, azure, more));
        host
    }

    /// Returns a configuration file that names this server as the vault.
    pub(crate) fn configuration(&self, credential: &str, azure: &str, more: &str) -> String {
        let ServerInfo { vault, authority, metadata, ca_file, .. } = &self.info;
        let host = vault.strip_prefix("https://").expect("the vault speaks TLS");
        let ca_file = ca_file.display();
        format!(
            "vault = \"{vault}\"\ncredential = \"{credential}\"\n[azure]\n{azure}\n[azure.emulator]\nhost = \"{host}\"\n\
             ca-file = \"{ca_file}\"\nauthority = \"{authority}\"\nmetadata = \"{metadata}\"\n{more}\n"
        )
    }

    /// Returns the lines of `[azure]` for the application and its secret.
    pub(crate) fn application(&self) -> String {
        let ServerInfo { tenant, client_id, client_secret_file, .. } = &self.info;
        application(tenant, client_id, client_secret_file)
    }

    /// Creates an application with permissions such as `[{"action": "get", "secret":
    /// "db-password"}]`. Returns its lines of `[azure]`.
    pub(crate) fn new_application(&self, name: &str, permissions: &Value) -> String {
        let made = self.admin("POST", "/principals", Some(&json!({"name": name, "permissions": permissions})));
        let text = |field: &str| made[field].as_str().expect("a field of the reply").to_owned();
        let file = self.folder().join(format!("secret-of-{name}"));
        write_private(&file, text("client-secret"));
        application(&self.info.tenant, &text("client-id"), &file)
    }

    /// Changes a principal, given by name or client ID: `{"permissions": [...]}`, `{"disabled":
    /// true}`, `"revoke-tokens"`.
    pub(crate) fn change_principal(&self, name: &str, change: &Value) {
        self.admin("POST", &format!("/principals/{name}"), Some(change));
    }

    /// Adds a fault. `tests/keyvault/README.md` lists the fields.
    pub(crate) fn fault(&self, fault: &Value) {
        self.admin("POST", "/faults", Some(fault));
    }

    /// Removes all faults.
    pub(crate) fn clear_faults(&self) {
        self.admin("DELETE", "/faults", None);
    }

    /// Changes settings: `{"deletion-takes": 5}`.
    pub(crate) fn set(&self, settings: &Value) {
        self.admin("POST", "/settings", Some(settings));
    }

    /// Changes the server's clock: `{"advance": 60}`, `"stop"`.
    pub(crate) fn clock(&self, change: &Value) {
        self.admin("POST", "/clock", Some(change));
    }

    /// Stores a secret without authentication. The body is that of the vault's own request:
    /// `{"value": "..."}`.
    pub(crate) fn put(&self, name: &str, body: &Value) {
        self.admin("PUT", &format!("/secrets/{name}"), Some(body));
    }

    /// Closes or opens the port of a service (`vault`, `authority`, `metadata`).
    pub(crate) fn listen(&self, service: &str, open: bool) {
        self.admin("POST", "/listen", Some(&json!({"service": service, "open": open})));
    }

    /// Returns all requests since the start or the last [`Self::clear_journal`].
    pub(crate) fn journal(&self) -> Vec<LoggedRequest> {
        serde_json::from_value(self.admin("GET", "/journal", None)).expect("a journal")
    }

    /// Returns the vault's requests that carried a token, as `GET /secrets/a`, without query and
    /// trailing slash.
    pub(crate) fn vault_requests(&self) -> Vec<String> {
        let to_vault = |request: &LoggedRequest| request.service == "vault" && request.kind != "challenge";
        let line = |request: LoggedRequest| {
            let path = request.path.split('?').next().unwrap_or_default();
            format!("{} {}", request.method, path.trim_end_matches('/'))
        };
        self.journal().into_iter().filter(to_vault).map(line).collect()
    }

    /// Clears the journal and the counters.
    pub(crate) fn clear_journal(&self) {
        self.admin("DELETE", "/journal", None);
    }

    /// Returns the counters: `requests` by kind, `statuses`, `faults`, `most-at-once`.
    pub(crate) fn counters(&self) -> Value {
        self.admin("GET", "/counters", None)
    }

    /// Sends a request to the admin port and asserts that it succeeds.
    pub(crate) fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = ask(&self.info.admin, method, path, "application/json", &body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }
}

impl Drop for KeyVault {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..1000 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Does not panic twice if the test is failing already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(std::thread::panicking(), "the server did not end with its input");
    }
}

/// Returns the lines of `[azure]` for an application whose secret is in a file.
fn application(tenant: &str, client: &str, secret_file: &Path) -> String {
    let secret_file = secret_file.display();
    format!("tenant-id = \"{tenant}\"\nclient-id = \"{client}\"\nclient-secret-file = \"{secret_file}\"\n")
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("it can be made");
    file.write_all(content.as_ref()).expect("it can be written");
}

/// Sends one HTTP request without TLS to a test server on loopback. Returns the status and body of
/// the response.
pub(crate) fn ask(origin: &str, method: &str, path: &str, content_type: &str, body: impl Display) -> (u16, String) {
    let address = origin.strip_prefix("http://").expect("an origin without TLS");
    let body = body.to_string();
    let length = body.len();
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a bounded wait");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("the server reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    let (head, body) = reply.split_once("\r\n\r\n").expect("an answer of HTTP");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "not read here: {head}");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Builds the server once per test process and returns its path.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = super::guests::build_folder("keyvault");
        let mut command = super::guests::cargo(&super::project().join("tests/keyvault"));
        // Includes the server's own tests, whose dependencies enable features, so that `make
        // test-keyvault` reuses this build.
        command.args(["build", "--locked", "--quiet", "--bins", "--test", "behaviour", "--target-dir"]).arg(&target);
        assert!(command.status().expect("cargo runs").success(), "the Key Vault test server does not build");
        target.join("debug/keyvault-server")
    })
}
