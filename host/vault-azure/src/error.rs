//! Converts the SDK's errors by status and *inner* error code, which the SDK leaves in the raw
//! body.
//!
//! External texts are truncated and escaped, and words that look like tokens are removed; they are
//! shown only to operators.

use std::time::Duration;

use azure_core::error::{Error, ErrorKind};
use azure_core::http::RawResponse;
use azure_core::http::headers::{HeaderName, RETRY_AFTER};
use serde::Deserialize;

use super::guard::Breach;
use strongroom_core::ids::SecretName;
use strongroom_vault::VaultError;

/// Maximum length of an external text in characters.
const TEXT_MAX: usize = 400;

/// Minimum length of a word that is removed because it looks like a token.
const TOKEN_MIN: usize = 40;

/// Roles that allow a host to read and to change secrets.
const READ_ROLE: &str = "`Key Vault Secrets User` for reading";
const WRITE_ROLE: &str = "`Key Vault Secrets Officer` for writing";

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// The vault responded with an error.
    Answer(Answer),
    /// There is no token.
    Credential {
        /// Text for the operator.
        text: String,
        /// Whether a retry may succeed.
        transient: bool,
    },
    /// The guard or the network stopped the request.
    Breach(Breach),
    /// The deadline has passed.
    Deadline(Duration),
    /// The circuit breaker is open.
    CircuitOpen {
        /// Number of consecutive failures.
        failed: u32,
        /// When the vault is asked again.
        wait: Duration,
    },
    /// The reply is not a valid Key Vault reply.
    InvalidReply(String),
}

/// An error response of the vault.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) inner: Option<String>,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Wire {
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct WireError {
    code: Option<String>,
    message: Option<String>,
    innererror: Option<Box<WireError>>,
}

impl CallError {
    /// Converts an error of the SDK.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(failure) = find::<CredentialError>(error) {
            return Self::Credential { text: failure.text.clone(), transient: failure.transient };
        }
        if let Some(breach) = Breach::of(error) {
            return Self::Breach(breach.clone());
        }
        match error.kind() {
            ErrorKind::HttpResponse { status, raw_response, .. } => {
                Self::Answer(Answer::of(u16::from(*status), raw_response.as_deref()))
            }
            // Errors of this crate are handled above. The SDK raises its own if a token it has just
            // received was discarded because another call's token was refused.
            ErrorKind::Credential => {
                Self::Credential { text: format!("no token ({}): try again", root(error)), transient: true }
            }
            _ => Self::InvalidReply(root(error)),
        }
    }

    /// Returns whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Answer(answer) => matches!(answer.status, 408 | 429 | 500 | 502..=504),
            Self::Credential { transient, .. } => *transient,
            Self::Breach(breach) => breach.is_transient(),
            Self::Deadline(_) | Self::CircuitOpen { .. } | Self::InvalidReply(_) => false,
        }
    }

    /// Returns whether the request may have taken effect although it failed.
    pub(super) fn may_have_run(&self) -> bool {
        match self {
            Self::Answer(answer) => matches!(answer.status, 408 | 500 | 502..=504),
            Self::Breach(Breach::Slow(_) | Breach::Broken(..)) => true,
            _ => false,
        }
    }

    /// Returns how long the vault asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer(answer) => answer.retry_after,
            _ => None,
        }
    }

    /// Returns the HTTP status, if the vault responded.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            _ => None,
        }
    }

    /// Returns whether the credential lacks a role or permission.
    pub(super) fn is_by_role(&self) -> bool {
        let others = ["SecretDisabled", "ForbiddenByFirewall", "ForbiddenByConnection"];
        matches!(self, Self::Answer(answer) if answer.status == 403 && !others.iter().any(|code| answer.is(code)))
    }

    /// Converts the error of a call that reads a secret.
    pub(super) fn about(self, name: &SecretName) -> VaultError {
        self.about_access(name, READ_ROLE)
    }

    /// Converts the error of a call that changes a secret.
    pub(super) fn about_change(self, name: &SecretName) -> VaultError {
        self.about_access(name, WRITE_ROLE)
    }

    fn about_access(self, name: &SecretName, role: &str) -> VaultError {
        match &self {
            Self::Answer(answer) if answer.status == 404 => VaultError::NotFound(name.clone()),
            Self::Answer(answer) if answer.status == 403 && answer.is("SecretDisabled") => {
                VaultError::Disabled(name.clone())
            }
            Self::Answer(answer) if answer.status == 409 && answer.is("ObjectIsDeletedButRecoverable") => {
                VaultError::Deleted(name.clone())
            }
            Self::Answer(answer) if answer.status == 409 => answer.conflict(name),
            _ => self.lacking(role),
        }
    }

    /// Converts the error of any other call.
    pub(super) fn general(self) -> VaultError {
        self.lacking(READ_ROLE)
    }

    /// Converts the error. `role` is what the credential may lack.
    fn lacking(self, role: &str) -> VaultError {
        match self {
            Self::Answer(answer) => answer.general(role),
            Self::Credential { text, transient: true } => VaultError::Unavailable(text),
            Self::Credential { text, transient: false } => VaultError::Refused(text),
            Self::Breach(Breach::Slow(who)) => {
                VaultError::Unavailable(format!("{}: try again later", Breach::Slow(who)))
            }
            Self::Breach(breach) if breach.is_transient() => {
                VaultError::Unavailable(format!("{breach}: check its name, and this host's DNS, network and proxy"))
            }
            Self::Breach(breach) => VaultError::Damaged(format!(
                "{breach}: another service answers at this address or intercepts the connection; check the vault's name, and this host's DNS \
                 and proxy"
            )),
            Self::Deadline(time) => VaultError::Unavailable(format!(
                "the vault did not answer within {} s: try again later",
                time.as_secs()
            )),
            Self::CircuitOpen { failed, wait } => VaultError::Unavailable(format!(
                "the vault has failed {failed} times in a row, and is asked again in {} ms",
                wait.as_millis()
            )),
            Self::InvalidReply(text) => {
                VaultError::Damaged(format!("the reply is not a valid Key Vault reply: {text}"))
            }
        }
    }
}

impl Answer {
    fn of(status: u16, raw: Option<&RawResponse>) -> Self {
        let wire: Option<Wire> = raw.and_then(|raw| serde_json::from_slice(raw.body().as_ref()).ok());
        let mut answer = Self { status, retry_after: raw.and_then(retry_after), ..Self::default() };
        if let Some(error) = wire.and_then(|wire| wire.error) {
            answer.code = word(error.code);
            answer.message = scrub(&error.message.unwrap_or_default());
            // The innermost code is the most specific. The JSON parser bounds the depth.
            let mut inner = error.innererror;
            while let Some(error) = inner {
                answer.inner = error.code.map(|code| word(Some(code))).or(answer.inner);
                inner = error.innererror;
            }
        }
        answer
    }

    fn is(&self, code: &str) -> bool {
        self.inner.as_deref() == Some(code) || self.code == code
    }

    fn conflict(&self, name: &SecretName) -> VaultError {
        let reason = if self.is("ObjectIsBeingDeleted") {
            "it is being deleted: try again in a few seconds".to_owned()
        } else if self.is("ObjectIsBeingRecovered") {
            "it is being recovered: try again in a few seconds".to_owned()
        } else {
            self.said()
        };
        VaultError::Conflict { name: name.clone(), reason }
    }

    fn general(&self, role: &str) -> VaultError {
        let said = self.said();
        match self.status {
            401 => VaultError::Refused(format!(
                "the vault does not accept the token of this host ({said}): the credential belongs to another tenant than the vault, was \
                 revoked, or the host's clock is wrong"
            )),
            403 if self.is("ForbiddenByFirewall") => VaultError::Refused(format!(
                "the vault's firewall does not let this host in ({said}): add its address or its network to the vault's network rules"
            )),
            403 if self.is("ForbiddenByConnection") => VaultError::Refused(format!(
                "the vault is reached through private endpoints only ({said}): run where its private endpoint resolves"
            )),
            403 => VaultError::Refused(format!(
                "the credential of this host may not do that ({said}): give it a role on the vault or on the secret, such as {role}"
            )),
            400 => VaultError::Invalid(format!("the vault rejects the request ({said})")),
            404 => VaultError::Absent(format!("the vault has no such resource ({said})")),
            429 => VaultError::Unavailable(format!(
                "the vault throttles this host ({said}): try again later; a longer `cache.ttl` or fewer clients reduce the number of requests"
            )),
            _ => VaultError::Unavailable(format!(
                "the vault failed ({said}): try again later; the debug log has the request ID, which Azure support asks for"
            )),
        }
    }

    fn said(&self) -> String {
        let mut said = format!("status {}", self.status);
        for part in [Some(&self.code), self.inner.as_ref(), Some(&self.message)].into_iter().flatten() {
            if !part.is_empty() {
                said.push_str(", ");
                said.push_str(part);
            }
        }
        said
    }
}

/// A credential's error, passed through the SDK.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct CredentialError {
    pub(super) text: String,
    pub(super) transient: bool,
}

impl CredentialError {
    pub(super) fn into_error(self) -> Error {
        Error::new(ErrorKind::Credential, self)
    }
}

/// Returns the first cause of a type.
pub(super) fn find<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Iterates over an error and its causes.
pub(super) fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause.source())
}

/// Returns the text of the root cause, prepared for display.
pub(super) fn root(error: &Error) -> String {
    causes(error).last().map_or_else(String::new, |cause| scrub(&cause.to_string()))
}

/// Returns the wait from `Retry-After` or the service's own headers.
fn retry_after(raw: &RawResponse) -> Option<Duration> {
    let headers = raw.headers();
    let number = |name: &HeaderName| headers.get_optional_str(name)?.trim().parse::<u64>().ok();
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        if let Some(ms) = number(&HeaderName::from_static(name)) {
            return Some(Duration::from_millis(ms));
        }
    }
    // Dates are ignored: this host's clock may be wrong, and the exponential wait applies anyway.
    number(&RETRY_AFTER).map(Duration::from_secs)
}

/// Returns an error code that consists of letters and digits; otherwise an empty text.
fn word(code: Option<String>) -> String {
    code.filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).unwrap_or_default()
}

/// Prepares an external text for display: truncated, on one line, and without anything that looks
/// like a token.
pub(super) fn scrub(text: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "+/_=.~-".contains(c);
    let mut out = String::new();
    let mut rest = text.get(..text.floor_char_boundary(64 * 1024)).unwrap_or_default();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_token(c) != is_token(first)).unwrap_or(rest.len());
        let (run, next) = rest.split_at(end);
        // Check each path segment: URLs are long and harmless, but a segment may be a token.
        if is_token(first) && run.split('/').any(|part| part.len() >= TOKEN_MIN) {
            out.push_str("[...]");
        } else {
            out.push_str(run);
        }
        rest = next;
    }
    let line = out.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = strongroom_core::escape::escape_controls(&line);
    match line.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::http::headers::Headers;
    use proptest::prelude::*;

    fn failure(status: u16, body: &str) -> CallError {
        let raw = RawResponse::from_bytes(status.into(), Headers::new(), body.to_owned());
        CallError::Answer(Answer::of(status, Some(&raw)))
    }

    fn about(status: u16, body: &str) -> VaultError {
        failure(status, body).about(&SecretName::parse("db").unwrap())
    }

    fn body(code: &str, inner: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"m","innererror":{{"code":"{inner}"}}}}}}"#)
    }

    #[test]
    fn status_and_inner_code_determine_error() {
        assert!(matches!(about(404, &body("SecretNotFound", "x")), VaultError::NotFound(_)));
        assert!(matches!(about(403, &body("Forbidden", "SecretDisabled")), VaultError::Disabled(_)));
        assert!(matches!(about(403, &body("Forbidden", "ForbiddenByRbac")), VaultError::Refused(_)));
        assert!(matches!(about(401, ""), VaultError::Refused(_)));
        assert!(matches!(about(400, &body("BadParameter", "x")), VaultError::Invalid(_)));
        for status in [429, 500, 502, 503, 504] {
            let failure = failure(status, "<html>");
            assert!(failure.is_transient());
            assert!(matches!(failure.general(), VaultError::Unavailable(_)));
        }
        let name = SecretName::parse("db").unwrap();
        let refused_write = failure(403, &body("Forbidden", "ForbiddenByRbac")).about_change(&name).to_string();
        assert!(refused_write.contains("Secrets Officer") && !refused_write.contains("reading"), "{refused_write}");
        let deleted = about(409, &body("Conflict", "ObjectIsDeletedButRecoverable")).to_string();
        assert!(deleted.contains("recovered or purged"), "{deleted}");
        let firewall = about(403, &body("Forbidden", "ForbiddenByFirewall")).to_string();
        assert!(firewall.contains("firewall"), "{firewall}");
    }

    #[test]
    fn inner_code_is_read_at_any_depth() {
        let deep = r#"{"error":{"code":"Forbidden","innererror":{"code":"A","innererror":{"code":"SecretDisabled"}}}}"#;
        assert!(matches!(about(403, deep), VaultError::Disabled(_)));
        for broken in ["", "{", "[]", r#"{"error":null}"#, r#"{"error":{"code":5}}"#, r#"{"error":"x"}"#] {
            assert!(matches!(about(403, broken), VaultError::Refused(_)), "{broken}");
        }
        let nested = "{\"error\":".repeat(100_000);
        assert!(matches!(about(403, &nested), VaultError::Refused(_)));
    }

    #[test]
    fn retry_after_is_read_if_it_is_a_number() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = Headers::new();
            headers.insert(name, value);
            Answer::of(429, Some(&RawResponse::from_bytes(429.into(), headers, ""))).retry_after
        };
        assert_eq!(with("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(with("x-ms-retry-after-ms", "250"), Some(Duration::from_millis(250)));
        for other in ["-1", "soon", "Wed, 25 Nov 2026 10:00:00 GMT", "1e9", ""] {
            assert_eq!(with("retry-after", other), None, "{other}");
        }
    }

    #[test]
    fn token_like_words_are_removed() {
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl-_", "abcdEFGH0123".repeat(20));
        let text = scrub(&format!("Bearer {token}\r\n\u{1b}[31mno such tenant"));
        assert_eq!(text, "Bearer [...] \\x1b[31mno such tenant");
        let guid = "12345678-1234-1234-1234-123456789012";
        let sentence =
            format!("AADSTS700016: application '{guid}' at https://login.microsoftonline.com/{guid}/oauth2/v2.0/token");
        assert_eq!(scrub(&sentence), sentence);
        assert!(scrub(&"word ".repeat(1000)).chars().count() <= TEXT_MAX + 1);
    }

    proptest! {
        #[test]
        fn no_token_survives(before in ".{0,50}", token in "[A-Za-z0-9_-]{60,300}", after in ".{0,50}") {
            let text = scrub(&format!("{before} {token} {after}"));
            prop_assert!(!text.contains(&token));
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
