//! What stands between the SDK and the network: no request leaves for a host that it is not meant for, and no reply is bigger, slower or
//! elsewhere than it may be.
//!
//! The SDK follows a list's `nextLink` to any host with the token in its hand, reads the resource out of a challenge and passes over its
//! authority, and reads replies whole. So every request of the SDK, those of its credentials too, passes here:
//!
//! - The vault's origin gets requests below `/secrets` and `/deletedsecrets`, with the token. The token authority gets forms, the
//!   metadata address gets its `GET`, and neither ever a token. Nobody else gets anything.
//! - A redirect is an error.
//! - A reply is read up to [`REPLY_MAX`] bytes, within [`Guard::time`], into memory that is overwritten afterwards.
//! - A challenge has to name this vault's audience and authority.
//!
//! Errors of this module are never retried by the SDK, which repeats what fails as I/O.

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

use super::credential::Refused;
use super::place::Place;

/// The most bytes of a reply. A page of a list has 25 entries, a secret 25 KiB.
pub(super) const REPLY_MAX: usize = 1024 * 1024;

/// Where Azure's machines find their identity. No proxy ever sees a request to it.
pub(super) const METADATA: &str = "http://169.254.169.254/";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");

/// Why a request was not sent, or its reply not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    #[error(
        "a request to `{0}` was refused: neither the vault, nor its token authority, nor the metadata address is there"
    )]
    Foreign(String),
    #[error("{0} answered with a redirect, which is not followed")]
    Redirect(&'static str),
    #[error("{0} answered with more than 1 MiB")]
    TooLong(&'static str),
    #[error("{0} answered with something else than JSON")]
    NotJson(&'static str),
    #[error("the vault's challenge names `{0}`, which is not where its tokens come from")]
    Challenge(String),
    #[error("{0} did not answer in time")]
    Slow(&'static str),
    #[error("the certificate that the other side shows is not trusted: {0}")]
    Untrusted(String),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(&'static str, String),
    #[error("the connection to {0} broke: {1}")]
    Broken(&'static str, String),
    #[error("the request to {0} cannot be made: {1}")]
    Malformed(&'static str, String),
}

impl Breach {
    /// Whether trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Slow(_) | Self::Unreachable(..) | Self::Broken(..))
    }

    /// Whether it comes from the metadata address, and nothing answered there: this is no machine of Azure's.
    pub(super) fn no_metadata(&self) -> bool {
        matches!(self, Self::Slow(METADATA_NAME) | Self::Unreachable(METADATA_NAME, _) | Self::Broken(METADATA_NAME, _))
    }

    /// As an error of the SDK's that it passes on as it is.
    pub(super) fn into_error(self) -> Error {
        Error::new(ErrorKind::Other, self)
    }

    /// The breach that an error of the SDK's has at its root.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        super::error::find(error)
    }
}

const VAULT_NAME: &str = "the vault";
const AUTHORITY_NAME: &str = "the token authority";
const METADATA_NAME: &str = "the metadata address";

/// Whom a request is for.
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

/// A guard around any transport.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Arc<dyn HttpClient>,
    place: Place,
    /// The identity endpoint of App Service and its like, where the environment names one.
    identity_endpoint: Option<Url>,
    /// Told of tokens that the vault does not take.
    refused: Arc<Refused>,
    /// How long one request may take, its reply included.
    time: Duration,
}

impl Guard {
    pub(super) fn new(
        inner: Arc<dyn HttpClient>,
        place: Place,
        identity_endpoint: Option<Url>,
        refused: Arc<Refused>,
        time: Duration,
    ) -> Self {
        Self { inner, place, identity_endpoint, refused, time }
    }

    /// Whom a request is for; an error where it is for nobody that it may go to.
    fn role(&self, request: &Request) -> Result<Role, Breach> {
        let url = request.url();
        let foreign = || Breach::Foreign(super::error::scrub(url.host_str().unwrap_or_default()));
        if !url.username().is_empty() || url.password().is_some() {
            return Err(foreign());
        }
        let carries_token = request.headers().get_optional_str(&AUTHORIZATION).is_some();
        if url.origin() == self.place.origin().origin() && is_secrets_path(url.path()) {
            return Ok(Role::Vault);
        }
        let role = if url.origin() == self.place.authority().origin() && request.method() == Method::Post {
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

    /// A challenge may ask for a token of this vault's audience, from its authority, and for nothing besides. The SDK takes the first text that looks like
    /// an audience, wherever it stands, so whatever could look like one to anybody is looked at.
    fn check_challenge(&self, challenge: &str) -> Result<(), Breach> {
        // Who writes challenges may have seen a token before.
        let foreign = |text: &str| Breach::Challenge(super::error::scrub(text));
        let mut named_audience = false;
        for (before, value) in parameters(challenge) {
            let is_named = |name: &str| before.to_ascii_lowercase().ends_with(name);
            if is_named("authorization") || is_named("authorization_uri") {
                let authority = Url::parse(value).map_err(|_| foreign(value))?;
                if authority.origin() != self.place.authority().origin() || !authority.username().is_empty() {
                    return Err(foreign(value));
                }
            }
            if is_named("resource") || is_named("scope") {
                let audience = value.strip_suffix("/.default").unwrap_or(value).trim_end_matches('/');
                if audience != self.place.audience() {
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

/// Whether a path holds secrets. A vault has keys and certificates too.
fn is_secrets_path(path: &str) -> bool {
    ["/secrets", "/deletedsecrets"].iter().any(|root| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && !path.contains('%')
    })
}

/// Each `="value"` of a challenge with the text before it, which ends with its name. Also those that stand within the value of another.
fn parameters(challenge: &str) -> impl Iterator<Item = (&str, &str)> {
    challenge.match_indices("=\"").filter_map(|(at, mark)| {
        let (before, after) = (challenge.get(..at)?, challenge.get(at.saturating_add(mark.len())..)?);
        Some((before.trim_end(), after.split('"').next().unwrap_or_default()))
    })
}

/// Identities of requests as they may stand in a log: a hostile vault writes them.
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

/// A reply, in memory that is overwritten when it is let go: a secret's value is in it.
#[derive(Default)]
struct Reply(Zeroizing<Vec<u8>>);

impl Reply {
    /// Grows into new memory rather than in place, where the allocator would leave a copy behind.
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
