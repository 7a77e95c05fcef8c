//! A guard between the SDK and the network: it restricts where requests go, and the size, time and
//! origin of replies.
//!
//! The SDK would follow a list's `nextLink` to any host with the token, does not check the
//! authority in a challenge, and reads replies of any size. So every request of the SDK and its
//! credentials passes through this guard:
//!
//! - The vault's origin receives requests below `/secrets` and `/deletedsecrets`, with the token.
//!   The token authority receives forms and the metadata address `GET` requests, both without the
//!   token. No other host receives anything.
//! - A redirect is an error.
//! - A reply is limited to [`REPLY_MAX`] bytes and [`Guard::time`], and its buffer is zeroized.
//! - A challenge must name this vault's audience and authority.
//!
//! The SDK does not retry errors of this module; it retries I/O errors.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{AUTHORIZATION, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use azure_core::http::{AsyncRawResponse, HttpClient, Method, Request, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use url::Url;
use zeroize::Zeroizing;

use super::credential::RefusedTokens;
use super::location::VaultLocation;

/// Maximum size of a reply in bytes. A page of a list has 25 entries, a secret 25 KiB.
pub(super) const REPLY_MAX: usize = 1024 * 1024;

/// Metadata address of Azure machines. Requests to it never use a proxy.
pub(super) const METADATA: &str = "http://169.254.169.254/";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// Why a request was not sent or its reply was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    #[error("a request to `{0}` was refused: it is not the vault, its token authority or the metadata address")]
    Foreign(String),
    #[error("{0} answered with a redirect, which is not followed")]
    Redirect(&'static str),
    #[error("{0} answered with more than 1 MiB")]
    TooLong(&'static str),
    #[error("{0} did not answer with JSON")]
    NotJson(&'static str),
    #[error("the vault's challenge names `{0}`, which is not its token authority or audience")]
    Challenge(String),
    #[error("{0} did not answer in time")]
    Slow(&'static str),
    #[error("the certificate of the server is not trusted: {0}")]
    Untrusted(String),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(&'static str, String),
    #[error("the connection to {0} broke: {1}")]
    Broken(&'static str, String),
    #[error("could not make the request to {0}: {1}")]
    Malformed(&'static str, String),
}

impl Breach {
    /// Returns whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Slow(_) | Self::Unreachable(..) | Self::Broken(..))
    }

    /// Returns whether the metadata address did not respond, so this is not an Azure machine.
    pub(super) fn no_metadata(&self) -> bool {
        matches!(self, Self::Slow(METADATA_NAME) | Self::Unreachable(METADATA_NAME, _) | Self::Broken(METADATA_NAME, _))
    }

    /// Converts it to an SDK error that the SDK passes on unchanged.
    pub(super) fn into_error(self) -> Error {
        Error::new(ErrorKind::Other, self)
    }

    /// Returns the breach that caused an SDK error.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        super::error::find(error)
    }
}

const VAULT_NAME: &str = "the vault";
const AUTHORITY_NAME: &str = "the token authority";
const METADATA_NAME: &str = "the metadata address";

/// Recipient of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Vault,
    Authority,
    Metadata,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Vault => VAULT_NAME,
            Self::Authority => AUTHORITY_NAME,
            Self::Metadata => METADATA_NAME,
        }
    }
}

/// A guard that wraps any transport.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Arc<dyn HttpClient>,
    location: VaultLocation,
    /// Identity endpoint of App Service and similar services, from the environment.
    identity_endpoint: Option<Url>,
    /// Records tokens that the vault refuses.
    refused: Arc<RefusedTokens>,
    /// Timeout of one request, including its reply.
    time: Duration,
}

impl Guard {
    pub(super) fn new(
        inner: Arc<dyn HttpClient>,
        location: VaultLocation,
        identity_endpoint: Option<Url>,
        refused: Arc<RefusedTokens>,
        time: Duration,
    ) -> Self {
        Self { inner, location, identity_endpoint, refused, time }
    }

    /// Returns the recipient of a request, or an error if it must not be sent.
    fn role(&self, request: &Request) -> Result<Role, Breach> {
        let url = request.url();
        let foreign = || Breach::Foreign(super::error::scrub(url.host_str().unwrap_or_default()));
        if !url.username().is_empty() || url.password().is_some() {
            return Err(foreign());
        }
        let carries_token = request.headers().get_optional_str(&AUTHORIZATION).is_some();
        if url.origin() == self.location.origin().origin() && is_secrets_path(url.path()) {
            return Ok(Role::Vault);
        }
        let role = if url.origin() == self.location.authority().origin() && request.method() == Method::Post {
            Role::Authority
        } else if request.method() == Method::Get && self.is_metadata(url) {
            Role::Metadata
        } else {
            return Err(foreign());
        };
        if carries_token { Err(foreign()) } else { Ok(role) }
    }

    fn is_metadata(&self, url: &Url) -> bool {
        let is_fixed = url.as_str().strip_prefix(METADATA).is_some_and(|rest| rest.starts_with("metadata/identity/"));
        let is_named = self
            .identity_endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.origin() == url.origin() && endpoint.path() == url.path());
        is_fixed || is_named
    }

    async fn exchange(&self, role: Role, request: &Request) -> Result<AsyncRawResponse, Error> {
        let response = self.inner.execute_request(request).await?;
        let (status, headers, body) = response.deconstruct();
        if (300..400).contains(&u16::from(status)) {
            return Err(Breach::Redirect(role.name()).into_error());
        }
        let mut reply = Reply::default();
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| broken(role, &error))?;
            reply.append(&chunk).map_err(|TooLong| Breach::TooLong(role.name()).into_error())?;
        }
        if status.is_success() && !reply.0.is_empty() {
            let kind = headers.get_optional_str(&CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
            if kind.split(';').next().map(str::trim) != Some("application/json") {
                return Err(Breach::NotJson(role.name()).into_error());
            }
        }
        if role == Role::Vault && status == StatusCode::Unauthorized {
            if let Some(challenge) = headers.get_optional_str(&WWW_AUTHENTICATE) {
                self.check_challenge(challenge).map_err(Breach::into_error)?;
            }
            if let Some((_, token)) =
                request.headers().get_optional_str(&AUTHORIZATION).and_then(|text| text.split_once(' '))
            {
                self.refused.note(token);
            }
        }
        tracing::debug!(
            from = role.name(),
            method = %request.method(),
            status = u16::from(status),
            request_id = shown_id(headers.get_optional_str(&REQUEST_ID)),
            client_request_id = shown_id(request.headers().get_optional_str(&CLIENT_REQUEST_ID)),
            bytes = reply.0.len(),
            "answered"
        );
        Ok(AsyncRawResponse::from_bytes(status, headers, Bytes::from_owner(reply.0)))
    }

    /// Checks that a challenge names only this vault's audience and authority. The SDK takes the
    /// first text that looks like an audience, wherever it is, so every such text is checked.
    fn check_challenge(&self, challenge: &str) -> Result<(), Breach> {
        // The sender of the challenge may have seen a token.
        let foreign = |text: &str| Breach::Challenge(super::error::scrub(text));
        let mut named_audience = false;
        for (before, value) in parameters(challenge) {
            let is_named = |name: &str| before.to_ascii_lowercase().ends_with(name);
            if is_named("authorization") || is_named("authorization_uri") {
                let authority = Url::parse(value).map_err(|_| foreign(value))?;
                if authority.origin() != self.location.authority().origin() || !authority.username().is_empty() {
                    return Err(foreign(value));
                }
            }
            if is_named("resource") || is_named("scope") {
                let audience = value.strip_suffix("/.default").unwrap_or(value).trim_end_matches('/');
                if audience != self.location.audience() {
                    return Err(foreign(value));
                }
                named_audience = true;
            }
        }
        if named_audience { Ok(()) } else { Err(foreign("nothing")) }
    }
}

#[async_trait]
impl HttpClient for Guard {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let role = self.role(request).map_err(|breach| {
            tracing::warn!(%breach, "a request of the Azure SDK was stopped");
            breach.into_error()
        })?;
        match tokio::time::timeout(self.time, self.exchange(role, request)).await {
            Ok(Err(error)) if Breach::of(&error).is_none() => Err(unreachable(role, &error)),
            Ok(answer) => answer,
            Err(_) => Err(Breach::Slow(role.name()).into_error()),
        }
    }
}

/// Returns whether a path is below the secrets of the vault, which also has keys and certificates.
fn is_secrets_path(path: &str) -> bool {
    ["/secrets", "/deletedsecrets"].iter().any(|root| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && !path.contains('%')
    })
}

/// Returns each `="value"` of a challenge with the text before it, which ends with the parameter
/// name. Includes those within the value of another.
fn parameters(challenge: &str) -> impl Iterator<Item = (&str, &str)> {
    challenge.match_indices("=\"").filter_map(|(at, mark)| {
        let (before, after) = (challenge.get(..at)?, challenge.get(at.saturating_add(mark.len())..)?);
        Some((before.trim_end(), after.split('"').next().unwrap_or_default()))
    })
}

/// Returns a request ID if it is safe to log, because a hostile vault could choose it.
fn shown_id(id: Option<&str>) -> &str {
    id.filter(|id| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')).unwrap_or("-")
}

fn unreachable(role: Role, error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Connection => Breach::Unreachable(role.name(), super::error::root(error)).into_error(),
        ErrorKind::Io => broken(role, error),
        _ => Breach::Malformed(role.name(), super::error::root(error)).into_error(),
    }
}

fn broken(role: Role, error: &Error) -> Error {
    Breach::Broken(role.name(), super::error::root(error)).into_error()
}

struct TooLong;

/// A reply in a buffer that is zeroized on drop, because it may contain a secret's value.
#[derive(Default)]
struct Reply(Zeroizing<Vec<u8>>);

impl Reply {
    /// Grows into a new buffer and zeroizes the old one, because growing in place could leave a
    /// copy behind.
    fn append(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        let length = self.0.len().saturating_add(chunk.len());
        if length > REPLY_MAX {
            return Err(TooLong);
        }
        if length > self.0.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(length.max(self.0.capacity().saturating_mul(2))));
            grown.extend_from_slice(&self.0);
            self.0 = grown;
        }
        self.0.extend_from_slice(chunk);
        Ok(())
    }
}
