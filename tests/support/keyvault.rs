//! The Key Vault test server (`tests/keyvault`), and hosts whose vault it is.
//!
//! It is built once for a test process, as the guests are, and runs as a program of its own: the host meets it over TLS on loopback and nothing
//! else. A test commands it through its admin port.

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

/// A server. It ends when this is dropped, and also when this process is killed, because it serves until its standard input ends.
pub(crate) struct KeyVault {
    child: Child,
    folder: TempDir,
    told: Told,
}

/// The line that the server prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Told {
    /// Where each service is: an origin.
    pub(crate) vault: String,
    pub(crate) authority: String,
    pub(crate) metadata: String,
    pub(crate) admin: String,
    /// The certificate that vouches for vault and authority.
    pub(crate) ca_file: PathBuf,
    pub(crate) tenant: String,
    /// The application that may do everything.
    pub(crate) client_id: String,
    pub(crate) client_secret_file: PathBuf,
    pub(crate) federated_token_file: PathBuf,
    pub(crate) user_assigned: UserAssigned,
}

/// The managed identity that is assigned to the machine, by each of its names.
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
pub(crate) struct Seen {
    /// `vault`, `authority` or `metadata`.
    pub(crate) service: String,
    pub(crate) method: String,
    /// Path and query as they came.
    pub(crate) path: String,
    /// What it was taken for: `get-secret`, `list-secrets`, `challenge`, `token-client-secret`, ...
    pub(crate) kind: String,
    /// Whose token it carried.
    pub(crate) principal: Option<String>,
    /// The status of the reply; 0 where the connection was reset instead.
    pub(crate) status: u16,
    /// The fault that was at work.
    pub(crate) fault: Option<String>,
}

impl KeyVault {
    /// Starts a server and returns when it serves.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more options of the server's.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(program());
        command.arg("--dir").arg(folder.path()).args(options);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the Key Vault test server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("the server tells where it is");
        let told = serde_json::from_str(&line).unwrap_or_else(|error| panic!("the server said {line:?}: {error}"));
        Self { child, folder, told }
    }

    /// What the server told.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// The server's folder, for files of a test that belong to it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process, for a test that looks at it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A host whose vault this is, signed in as the application that may do everything.
    pub(crate) fn host(&self) -> Host {
        self.host_as("client-secret", &self.application())
    }

    /// A host whose vault this is, with a kind of credential and the lines of `[azure]` that it needs.
    pub(crate) fn host_as(&self, credential: &str, azure: &str) -> Host {
        self.host_with(credential, azure, "")
    }

    /// The same, with more of the configuration file: whole tables.
    pub(crate) fn host_with(&self, credential: &str, azure: &str, more: &str) -> Host {
        let host = Host::bare();
        host.file("config/strongroom/config.toml", self.configuration(credential, azure, more));
        host
    }

    /// A configuration file that names this server as the vault.
    pub(crate) fn configuration(&self, credential: &str, azure: &str, more: &str) -> String {
        let Told { vault, authority, metadata, ca_file, .. } = &self.told;
        let host = vault.strip_prefix("https://").expect("the vault speaks TLS");
        let ca_file = ca_file.display();
        format!(
            "vault = \"{vault}\"\ncredential = \"{credential}\"\n[azure]\n{azure}\n[azure.emulator]\nhost = \"{host}\"\n\
             ca-file = \"{ca_file}\"\nauthority = \"{authority}\"\nmetadata = \"{metadata}\"\n{more}\n"
        )
    }

    /// The lines of `[azure]` for the application and its secret.
    pub(crate) fn application(&self) -> String {
        let Told { tenant, client_id, client_secret_file, .. } = &self.told;
        application(tenant, client_id, client_secret_file)
    }

    /// A new application with these permissions, as `[{"action": "get", "secret": "db-password"}]`; the lines of `[azure]` for it.
    pub(crate) fn new_application(&self, name: &str, permissions: &Value) -> String {
        let made = self.admin("POST", "/principals", Some(&json!({"name": name, "permissions": permissions})));
        let text = |field: &str| made[field].as_str().expect("the server tells it").to_owned();
        let file = self.folder().join(format!("secret-of-{name}"));
        write_private(&file, text("client-secret"));
        application(&self.told.tenant, &text("client-id"), &file)
    }

    /// Changes a principal, by its name or client id: `{"permissions": [...]}`, `{"disabled": true}`, `"revoke-tokens"`.
    pub(crate) fn change_principal(&self, name: &str, change: &Value) {
        self.admin("POST", &format!("/principals/{name}"), Some(change));
    }

    /// Adds a fault; `tests/keyvault/README.md` has the fields.
    pub(crate) fn fault(&self, fault: &Value) {
        self.admin("POST", "/faults", Some(fault));
    }

    /// Removes all faults.
    pub(crate) fn no_faults(&self) {
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

    /// Stores a secret past all checks of who asks, with the body of the vault's own request: `{"value": "..."}`.
    pub(crate) fn put(&self, name: &str, body: &Value) {
        self.admin("PUT", &format!("/secrets/{name}"), Some(body));
    }

    /// Closes a service's port (`vault`, `authority`, `metadata`), or opens it again.
    pub(crate) fn listen(&self, service: &str, open: bool) {
        self.admin("POST", "/listen", Some(&json!({"service": service, "open": open})));
    }

    /// Every request since the start, or since [`Self::forget`].
    pub(crate) fn journal(&self) -> Vec<Seen> {
        serde_json::from_value(self.admin("GET", "/journal", None)).expect("a journal")
    }

    /// The requests of the vault that carried a token, as `GET /secrets/a`, without the query and the slash at the end.
    pub(crate) fn asked(&self) -> Vec<String> {
        let of_vault = |seen: &Seen| seen.service == "vault" && seen.kind != "challenge";
        let line = |seen: Seen| {
            let path = seen.path.split('?').next().unwrap_or_default();
            format!("{} {}", seen.method, path.trim_end_matches('/'))
        };
        self.journal().into_iter().filter(of_vault).map(line).collect()
    }

    /// Clears the journal and the counters.
    pub(crate) fn forget(&self) {
        self.admin("DELETE", "/journal", None);
    }

    /// The counters: `requests` by kind, `statuses`, `faults`, `most-at-once`.
    pub(crate) fn counters(&self) -> Value {
        self.admin("GET", "/counters", None)
    }

    /// A request to the admin port, which has to be carried out.
    pub(crate) fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = ask(&self.told.admin, method, path, "application/json", &body);
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
        // By its process id; a test that is failing already is not made to panic twice.
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(std::thread::panicking(), "the server did not end with its input");
    }
}

/// The lines of `[azure]` for an application whose secret lies in a file.
fn application(tenant: &str, client: &str, secret_file: &Path) -> String {
    let secret_file = secret_file.display();
    format!("tenant-id = \"{tenant}\"\nclient-id = \"{client}\"\nclient-secret-file = \"{secret_file}\"\n")
}

/// Writes a file that its owner alone may read.
pub(crate) fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).expect("it can be made");
    file.write_all(content.as_ref()).expect("it can be written");
}

/// One HTTP request without TLS, to a server of a test on loopback. Status and body of the answer.
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

/// The server's program, built once for a test process.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = super::guests::beside("keyvault");
        let mut command = super::guests::cargo(&super::project().join("tests/keyvault"));
        // With the tests of its own, whose dependencies switch on features: so this build and that of `make test-keyvault` are one.
        command.args(["build", "--locked", "--quiet", "--bins", "--test", "behaviour", "--target-dir"]).arg(&target);
        assert!(command.status().expect("cargo runs").success(), "the Key Vault test server does not build");
        target.join("debug/keyvault-server")
    })
}
