//! From what the SDK says went wrong to what a vault says: by status and by the *inner* error code, which the SDK leaves in the raw body.
//!
//! Texts from outside are cut, escaped, and taken out of them is what looks like a token; they go to the operator alone.

use std::time::Duration;

use azure_core::error::{Error, ErrorKind};
use azure_core::http::RawResponse;
use azure_core::http::headers::{HeaderName, RETRY_AFTER};
use serde::Deserialize;

use super::guard::Breach;
use strongroom_core::ids::SecretName;
use strongroom_vault::VaultError;

/// The most characters of a text from outside.
const TEXT_MAX: usize = 400;

/// A word that is at least this long and made like a token is taken out of a text from outside.
const TOKEN_MIN: usize = 40;

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The vault answered with an error.
    Answer(Answer),
    /// No token was to be had.
    Credential {
        /// What to tell the operator.
        text: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// The guard stopped it, or the network did.
    Breach(Breach),
    /// The time for the call is over.
    Deadline(Duration),
    /// Calls are not made for a while, because several have failed.
    Resting(String),
    /// The reply is not what a vault replies.
    Strange(String),
}

/// An error that the vault answered with.
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

impl Trouble {
    /// What the SDK's error comes to.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(trouble) = find::<CredentialTrouble>(error) {
            return Self::Credential { text: trouble.text.clone(), transient: trouble.transient };
        }
        if let Some(breach) = Breach::of(error) {
            return Self::Breach(breach.clone());
        }
        match error.kind() {
            ErrorKind::HttpResponse { status, raw_response, .. } => {
                Self::Answer(Answer::of(u16::from(*status), raw_response.as_deref()))
            }
            // Ours say why. The SDK has one of its own, where a call finds that the token it has just got was dropped again, because another call's was
            // refused meanwhile.
            ErrorKind::Credential => {
                Self::Credential { text: format!("no token ({}): try again", root(error)), transient: true }
            }
            _ => Self::Strange(root(error)),
        }
    }

    /// Whether trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Answer(answer) => matches!(answer.status, 408 | 429 | 500 | 502..=504),
            Self::Credential { transient, .. } => *transient,
            Self::Breach(breach) => breach.is_transient(),
            Self::Deadline(_) | Self::Resting(_) | Self::Strange(_) => false,
        }
    }

    /// Whether the request may have reached the vault all the same.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self {
            Self::Answer(answer) => matches!(answer.status, 408 | 500 | 502..=504),
            Self::Breach(Breach::Slow(_) | Breach::Broken(..)) => true,
            _ => false,
        }
    }

    /// How long the vault asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer(answer) => answer.retry_after,
            _ => None,
        }
    }

    /// The HTTP status, where the vault answered.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.status),
            _ => None,
        }
    }

    /// Whether the vault says that this credential lacks the role or the permission for it.
    pub(super) fn is_by_role(&self) -> bool {
        let others = ["SecretDisabled", "ForbiddenByFirewall", "ForbiddenByConnection"];
        matches!(self, Self::Answer(answer) if answer.status == 403 && !others.iter().any(|code| answer.is(code)))
    }

    /// What it means for a call about a secret.
    pub(super) fn about(self, name: &SecretName) -> VaultError {
        match &self {
            Self::Answer(answer) if answer.status == 404 => VaultError::NotFound(name.clone()),
            Self::Answer(answer) if answer.status == 403 && answer.is("SecretDisabled") => {
                VaultError::Disabled(name.clone())
            }
            Self::Answer(answer) if answer.status == 409 && answer.is("ObjectIsDeletedButRecoverable") => {
                VaultError::Deleted(name.clone())
            }
            Self::Answer(answer) if answer.status == 409 => answer.conflict(name),
            _ => self.general(),
        }
    }

    /// What it means for a call about no secret in particular.
    pub(super) fn general(self) -> VaultError {
        match self {
            Self::Answer(answer) => answer.general(),
            Self::Credential { text, transient: true } => VaultError::Unavailable(text),
            Self::Credential { text, transient: false } => VaultError::Refused(text),
            Self::Breach(Breach::Slow(who)) => {
                VaultError::Unavailable(format!("{}: try again later", Breach::Slow(who)))
            }
            Self::Breach(breach) if breach.is_transient() => {
                VaultError::Unavailable(format!("{breach}: check its name, and this host's DNS, network and proxy"))
            }
            Self::Breach(breach) => VaultError::Damaged(format!(
                "{breach}: something that is no Key Vault answers there or stands between; check the vault's name, and this host's DNS \
                 and proxy"
            )),
            Self::Deadline(time) => {
                VaultError::Unavailable(format!("the vault did not serve within {} s: try again later", time.as_secs()))
            }
            Self::Resting(text) => VaultError::Unavailable(text),
            Self::Strange(text) => VaultError::Damaged(format!("the vault's answer is not one of a Key Vault: {text}")),
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
            // The innermost code is the most exact one. The depth is bounded by the JSON parser.
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

    fn general(&self) -> VaultError {
        let said = self.said();
        match self.status {
            401 => VaultError::Refused(format!(
                "the vault does not accept the token of this host ({said}): the credential is of another tenant than the vault, was \
                 revoked, or the host's clock is wrong"
            )),
            403 if self.is("ForbiddenByFirewall") => VaultError::Refused(format!(
                "the vault's firewall does not let this host in ({said}): add its address or its network to the vault's network rules"
            )),
            403 if self.is("ForbiddenByConnection") => VaultError::Refused(format!(
                "the vault is reached through private endpoints only ({said}): run where its private endpoint resolves"
            )),
            403 => VaultError::Refused(format!(
                "the credential of this host may not do that ({said}): give it a role on the vault or on the secret, such as \
                 `Key Vault Secrets User` for reading"
            )),
            400 => VaultError::Invalid(format!("the vault does not take it ({said})")),
            404 => VaultError::Absent(format!("there is nothing at that place of the vault ({said})")),
            429 => VaultError::Unavailable(format!(
                "the vault throttles this host ({said}): try again later; a longer `cache.ttl`, or fewer who use the vault, spares it"
            )),
            _ => VaultError::Unavailable(format!(
                "the vault failed ({said}): try again later; `STRONGROOM_LOG=strongroom_vault_azure=debug` shows the request's identity, which \
                 Azure's support asks for"
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

/// A credential's failure on its way through the SDK.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct CredentialTrouble {
    pub(super) text: String,
    pub(super) transient: bool,
}

impl CredentialTrouble {
    pub(super) fn into_error(self) -> Error {
        Error::new(ErrorKind::Credential, self)
    }
}

/// The first cause of a type.
pub(super) fn find<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error, what caused it, what caused that, and so on.
pub(super) fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause.source())
}

/// The text of the first cause, which says most, as it may be shown.
pub(super) fn root(error: &Error) -> String {
    causes(error).last().map_or_else(String::new, |cause| scrub(&cause.to_string()))
}

/// Seconds to wait, as `Retry-After` or the service's own headers have it.
fn retry_after(raw: &RawResponse) -> Option<Duration> {
    let headers = raw.headers();
    let number = |name: &HeaderName| headers.get_optional_str(name)?.trim().parse::<u64>().ok();
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        if let Some(ms) = number(&HeaderName::from_static(name)) {
            return Some(Duration::from_millis(ms));
        }
    }
    // A date is not read: the host's clock may be wrong, and the back-off is there.
    number(&RETRY_AFTER).map(Duration::from_secs)
}

/// An error code: letters and digits, or it is none.
fn word(code: Option<String>) -> String {
    code.filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).unwrap_or_default()
}

/// A text from outside as an operator may see it: cut, on one line, and without anything like a token.
pub(super) fn scrub(text: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "+/_=.~-".contains(c);
    let mut out = String::new();
    let mut rest = text.get(..text.floor_char_boundary(64 * 1024)).unwrap_or_default();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_token(c) != is_token(first)).unwrap_or(rest.len());
        let (run, next) = rest.split_at(end);
        // Words of an address are long and harmless; what is between its slashes may be neither.
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

    fn trouble(status: u16, body: &str) -> Trouble {
        let raw = RawResponse::from_bytes(status.into(), Headers::new(), body.to_owned());
        Trouble::Answer(Answer::of(status, Some(&raw)))
    }

    fn about(status: u16, body: &str) -> VaultError {
        trouble(status, body).about(&SecretName::parse("db").unwrap())
    }

    fn body(code: &str, inner: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"m","innererror":{{"code":"{inner}"}}}}}}"#)
    }

    #[test]
    fn status_and_inner_code_decide() {
        assert!(matches!(about(404, &body("SecretNotFound", "x")), VaultError::NotFound(_)));
        assert!(matches!(about(403, &body("Forbidden", "SecretDisabled")), VaultError::Disabled(_)));
        assert!(matches!(about(403, &body("Forbidden", "ForbiddenByRbac")), VaultError::Refused(_)));
        assert!(matches!(about(401, ""), VaultError::Refused(_)));
        assert!(matches!(about(400, &body("BadParameter", "x")), VaultError::Invalid(_)));
        for status in [429, 500, 502, 503, 504] {
            let trouble = trouble(status, "<html>");
            assert!(trouble.is_transient());
            assert!(matches!(trouble.general(), VaultError::Unavailable(_)));
        }
        let deleted = about(409, &body("Conflict", "ObjectIsDeletedButRecoverable")).to_string();
        assert!(deleted.contains("secret recover db") && deleted.contains("secret purge db"), "{deleted}");
        let firewall = about(403, &body("Forbidden", "ForbiddenByFirewall")).to_string();
        assert!(firewall.contains("firewall"), "{firewall}");
    }

    #[test]
    fn the_inner_code_is_read_at_any_depth_and_a_broken_body_is_none() {
        let deep = r#"{"error":{"code":"Forbidden","innererror":{"code":"A","innererror":{"code":"SecretDisabled"}}}}"#;
        assert!(matches!(about(403, deep), VaultError::Disabled(_)));
        for broken in ["", "{", "[]", r#"{"error":null}"#, r#"{"error":{"code":5}}"#, r#"{"error":"x"}"#] {
            assert!(matches!(about(403, broken), VaultError::Refused(_)), "{broken}");
        }
        let nested = "{\"error\":".repeat(100_000);
        assert!(matches!(about(403, &nested), VaultError::Refused(_)));
    }

    #[test]
    fn waiting_times_are_read_where_they_are_numbers() {
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
    fn what_looks_like_a_token_is_taken_out() {
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
