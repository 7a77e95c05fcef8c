//! Tests with a fake transport that scripts the replies and records every request that passes the
//! guard.

mod credentials;
mod faults;
mod hostile;
mod model;
mod operations;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{AUTHORIZATION, HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request};
use bytes::Bytes;

use super::credential::CredentialSettings;
use super::*;
use strongroom_policy::Operation;

pub(super) const VAULT: &str = "https://team.vault.azure.net";
pub(super) const AUTHORITY: &str = "https://login.microsoftonline.com";

/// A request that passed the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenRequest {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) authorization: Option<String>,
    pub(super) body: String,
}

impl SeenRequest {
    fn of(request: &Request) -> Self {
        let body = match request.body() {
            Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => panic!("a stream"),
        };
        Self {
            method: request.method().to_string(),
            url: request.url().to_string(),
            authorization: request.headers().get_optional_string(&AUTHORIZATION),
            body,
        }
    }

    /// Returns method and path, such as `GET /secrets/x`.
    pub(super) fn line(&self) -> String {
        let url = url::Url::parse(&self.url).unwrap();
        format!("{} {}", self.method, url.path())
    }
}

/// A reply.
pub(super) enum Reply {
    Json(u16, serde_json::Value),
    Raw(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// An endless body.
    Endless,
    /// A partial body, then a broken connection.
    Cut,
    Fails(ErrorKind),
    /// No reply, ever.
    Silent,
}

impl Reply {
    pub(super) fn error(status: u16, code: &str, inner: &str) -> Self {
        let error = serde_json::json!({"error": {"code": code, "message": "a text of the vault's", "innererror": {"code": inner}}});
        Self::Json(status, error)
    }

    pub(super) fn challenge(authority: &str, resource: &str) -> Self {
        let challenge = format!("Bearer authorization=\"{authority}/tenant\", resource=\"{resource}\"");
        Self::Raw(401, vec![("www-authenticate", challenge)], Vec::new())
    }

    pub(super) fn token(text: &str) -> Self {
        Self::Json(200, serde_json::json!({"token_type": "Bearer", "expires_in": 3600, "access_token": text}))
    }
}

type Handler = dyn Fn(&SeenRequest) -> Reply + Send + Sync;

/// A transport whose replies come from a function.
pub(super) struct FakeTransport {
    handler: Box<Handler>,
    seen: Mutex<Vec<SeenRequest>>,
}

impl FakeTransport {
    pub(super) fn new(handler: impl Fn(&SeenRequest) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { handler: Box::new(handler), seen: Mutex::default() })
    }

    /// Returns all requests.
    pub(super) fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().filter(|seen| seen.authorization.is_some()).map(SeenRequest::line).collect()
    }

    pub(super) fn clear_seen(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl fmt::Debug for FakeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeTransport")
    }
}

#[async_trait]
impl HttpClient for FakeTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let seen = SeenRequest::of(request);
        self.seen.lock().unwrap().push(seen.clone());
        let (status, headers, body) = match (self.handler)(&seen) {
            Reply::Json(status, body) => (
                status,
                vec![("content-type", "application/json; charset=utf-8".to_owned())],
                body.to_string().into_bytes(),
            ),
            Reply::Raw(status, headers, body) => (status, headers, body),
            Reply::Endless => {
                let chunks = futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 65536])));
                return Ok(AsyncRawResponse::new(200.into(), json_headers(), Box::pin(chunks)));
            }
            Reply::Cut => {
                let chunks = vec![
                    Ok(Bytes::from_static(b"{\"value\":\"hun")),
                    Err(Error::with_message(ErrorKind::Io, "connection reset by peer")),
                ];
                return Ok(AsyncRawResponse::new(
                    200.into(),
                    json_headers(),
                    Box::pin(futures_util::stream::iter(chunks)),
                ));
            }
            Reply::Fails(kind) => return Err(Error::with_message(kind, "the network said no")),
            Reply::Silent => return std::future::pending().await,
        };
        let mut map = Headers::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), map, body))
    }
}

fn json_headers() -> Headers {
    let mut headers = Headers::new();
    headers.insert("content-type", "application/json");
    headers
}

/// Handles the challenge and the token request that come first, then replies from a function.
pub(super) fn after_sign_in(answer: impl Fn(&SeenRequest) -> Reply + Send + Sync + 'static) -> Arc<FakeTransport> {
    FakeTransport::new(move |seen| {
        if seen.url.starts_with(AUTHORITY) {
            Reply::token("the-token")
        } else if seen.authorization.is_none() {
            Reply::challenge(AUTHORITY, "https://vault.azure.net")
        } else {
            answer(seen)
        }
    })
}

/// Tools that are not installed.
#[derive(Debug)]
pub(super) struct NoTools;

#[async_trait]
impl Executor for NoTools {
    async fn run(&self, _: &std::ffi::OsStr, _: &[&std::ffi::OsStr]) -> std::io::Result<std::process::Output> {
        Err(std::io::Error::other("no tools in this test"))
    }
}

/// Returns an application with a secret in a file of a temporary directory.
pub(super) fn application() -> (tempfile::TempDir, CredentialSettings) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client-secret");
    std::fs::write(&path, "s3cr3t-of-the-application\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let settings = CredentialSettings {
        kind: CredentialKind::ClientSecret,
        tenant_id: Some("tenant".into()),
        client_id: Some("client".into()),
        client_secret_file: Some(path),
        ..CredentialSettings::default()
    };
    (dir, settings)
}

pub(super) fn location() -> VaultLocation {
    VaultLocation::parse(VAULT, &Exceptions::default()).unwrap()
}

/// Opens a vault over a fake transport, with the application as its credential.
pub(super) fn vault_over(transport: &Arc<FakeTransport>) -> AzureVault {
    vault_with(transport, retry::Settings { failures: 1000, ..retry::Settings::default() })
}

pub(super) fn vault_with(transport: &Arc<FakeTransport>, retry: retry::Settings) -> AzureVault {
    let (_dir, settings) = application();
    AzureVault::with(location(), &settings, Arc::clone(transport) as _, Arc::new(NoTools), retry).unwrap()
}

pub(super) fn grant(operation: Operation, name: &str) -> Grant {
    strongroom_vault::cases::grant(operation, name)
}

pub(super) fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

pub(super) fn secret(text: &str) -> Arc<Secret> {
    Arc::new(Secret::new(text.to_owned()).unwrap())
}

/// Returns the vault's reply for a secret.
pub(super) fn bundle(name: &str, value: &str) -> Reply {
    let id = format!("{VAULT}/secrets/{name}/0123abcd");
    Reply::Json(
        200,
        serde_json::json!({"id": id, "value": value, "attributes": {"enabled": true, "created": 1000, "updated": 1000}}),
    )
}

/// Runs a test with a paused clock that advances when all tasks wait.
pub(super) fn paused(test: impl Future<Output = ()>) {
    let test: Pin<Box<dyn Future<Output = ()>>> = Box::pin(test);
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
