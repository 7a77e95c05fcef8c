//! Key Vault's data plane: secrets, and enough of keys and certificates to show that a request
//! reached them.

mod access;
mod problem;
mod store;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

pub(crate) use problem::Problem;
pub(crate) use store::{Change, Now, Page, Store};

use crate::http::{Outcome, ServiceRequest};
use crate::lock;
use crate::principals::{Action, Principal};
use crate::reply::{self, Reply};
use crate::shared::Shared;

/// The maximum length of a name.
pub const NAME_LIMIT: usize = 127;
/// The maximum length of a value in bytes.
pub const VALUE_LIMIT: usize = 25 * 1024;
/// The maximum number of tags of a version.
pub const TAG_LIMIT: usize = 15;
const TAG_TEXT_LIMIT: usize = 512;
const CONTENT_TYPE_LIMIT: usize = 255;
const PAGE_LIMIT: usize = 25;

/// The API versions that have everything implemented here.
const API_VERSIONS: [&str; 5] = ["7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"];

/// Handles a request to the vault.
pub(crate) fn answer(shared: &Shared, request: &ServiceRequest) -> Outcome {
    let principal = match access::authenticate(shared, request) {
        Ok(principal) => principal,
        Err(unauthorized) => return Outcome::new(unauthorized.kind, unauthorized.reply(shared)),
    };
    let segments = segments(&request.path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (kind, operation) = operation(&request.method, &segments);
    let done = version(request).and_then(|()| operation?.run(shared, request, &principal));
    Outcome { kind, principal: Some(principal.name), reply: done.unwrap_or_else(|problem| problem.reply()) }
}

/// Splits a path like the real service: decodes it once, then removes empty parts and dot segments.
/// A name that is inserted into a path without encoding reaches another secret, or a key, here too.
fn segments(path: &str) -> Vec<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut segments = Vec::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            part => segments.push(part.to_owned()),
        }
    }
    segments
}

fn version(request: &ServiceRequest) -> Result<(), Problem> {
    match request.parameter("api-version") {
        None | Some("") => Err(Problem::bad_parameter("api-version must be specified")),
        Some(version) if API_VERSIONS.contains(&version) => Ok(()),
        Some(version) => Err(Problem::bad_parameter(format!(
            "The specified version ({version}) is not recognized. Consider using the latest supported version ({}).",
            API_VERSIONS.last().copied().unwrap_or_default()
        ))),
    }
}

/// A requested operation.
enum Operation<'a> {
    Set(&'a str),
    Get(&'a str, Option<&'a str>),
    Update(&'a str, Option<&'a str>),
    Delete(&'a str),
    List,
    Versions(&'a str),
    GetDeleted(&'a str),
    ListDeleted,
    Recover(&'a str),
    Purge(&'a str),
    /// Access to a key or a certificate, which this server does not implement. It answers, so that
    /// the journal shows the request.
    Other(&'a str),
}

/// Returns the operation of a method and a path, and its kind in the journal.
fn operation<'a>(method: &Method, segments: &[&'a str]) -> (&'static str, Result<Operation<'a>, Problem>) {
    let Some((collection, rest)) = segments.split_first() else { return ("unknown", Err(Problem::unknown_resource())) };
    let collection = collection.to_ascii_lowercase();
    let (kind, operation) = match (collection.as_str(), method.as_str(), rest) {
        ("keys", _, rest) => ("keys", Operation::Other(rest.first().copied().unwrap_or_default())),
        ("certificates", _, rest) => ("certificates", Operation::Other(rest.first().copied().unwrap_or_default())),
        ("secrets", "GET", []) => ("list-secrets", Operation::List),
        ("secrets", "POST", ["restore"]) | ("secrets", "POST", [_, "backup"]) => {
            return ("backup", Err(Problem::not_implemented()));
        }
        ("secrets", "PUT", [name]) => ("set-secret", Operation::Set(name)),
        ("secrets", "GET", [name]) => ("get-secret", Operation::Get(name, None)),
        ("secrets", "DELETE", [name]) => ("delete-secret", Operation::Delete(name)),
        // The reference requires a version; Microsoft's own clients omit it for the current one.
        ("secrets", "PATCH", [name]) => ("update-secret", Operation::Update(name, None)),
        ("secrets", "GET", [name, versions]) if versions.eq_ignore_ascii_case("versions") => {
            ("list-versions", Operation::Versions(name))
        }
        ("secrets", "GET", [name, version]) => ("get-secret-version", Operation::Get(name, Some(version))),
        ("secrets", "PATCH", [name, version]) => ("update-secret", Operation::Update(name, Some(version))),
        ("deletedsecrets", "GET", []) => ("list-deleted", Operation::ListDeleted),
        ("deletedsecrets", "GET", [name]) => ("get-deleted", Operation::GetDeleted(name)),
        ("deletedsecrets", "DELETE", [name]) => ("purge-secret", Operation::Purge(name)),
        ("deletedsecrets", "POST", [name, recover]) if recover.eq_ignore_ascii_case("recover") => {
            ("recover-secret", Operation::Recover(name))
        }
        ("secrets" | "deletedsecrets", _, [] | [_] | [_, _]) => return ("unknown", Err(Problem::method_not_allowed())),
        _ => return ("unknown", Err(Problem::unknown_resource())),
    };
    (kind, Ok(operation))
}

impl Operation<'_> {
    /// Returns the required permission and the secret.
    fn needs(&self) -> Option<(Action, Option<&str>)> {
        Some(match self {
            Self::Set(name) => (Action::Set, Some(name)),
            Self::Get(name, _) => (Action::Get, Some(name)),
            Self::Update(name, _) => (Action::Update, Some(name)),
            Self::Delete(name) => (Action::Delete, Some(name)),
            Self::List | Self::ListDeleted => (Action::ReadMetadata, None),
            Self::Versions(name) | Self::GetDeleted(name) => (Action::ReadMetadata, Some(name)),
            Self::Recover(name) => (Action::Recover, Some(name)),
            Self::Purge(name) => (Action::Purge, Some(name)),
            Self::Other(_) => return None,
        })
    }

    fn run(self, shared: &Shared, request: &ServiceRequest, principal: &Principal) -> Result<Reply, Problem> {
        if let Some((action, secret)) = self.needs() {
            if let Some(name) = secret.filter(|name| !name_is_valid(name)) {
                return Err(Problem::bad_name(name));
            }
            if !principal.may(action, secret) {
                return Err(Problem::forbidden(principal, &shared.tenant, action, secret));
            }
        }
        let origin = request.origin();
        let now = Now { at: shared.clock.now(), settings: shared.settings(), origin: &origin };
        let mut store = lock(&shared.store);
        let body = match self {
            Self::Set(name) => store.set(name, change(request)?, now)?,
            Self::Get(name, version) => store.get(name, version, now)?,
            Self::Update(name, version) => store.update(name, version, change(request)?, now)?,
            Self::Delete(name) => store.delete(name, now)?,
            Self::GetDeleted(name) => store.get_deleted(name, now)?,
            Self::Recover(name) => store.recover(name, now)?,
            Self::Purge(name) => {
                store.purge(name, now)?;
                return Ok(reply::empty(StatusCode::NO_CONTENT));
            }
            Self::List => paginated(request, now, |after, limit| Ok(store.list(after, limit, now)))?,
            Self::ListDeleted => paginated(request, now, |after, limit| Ok(store.list_deleted(after, limit, now)))?,
            Self::Versions(name) => paginated(request, now, |after, limit| store.versions(name, after, limit, now))?,
            Self::Other(name) => json!({ "key": { "kid": format!("{origin}/keys/{name}"), "kty": "RSA" } }),
        };
        Ok(reply::json(StatusCode::OK, &body))
    }
}

pub(crate) fn name_is_valid(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn change(request: &ServiceRequest) -> Result<Change, Problem> {
    // The parser's error could repeat the body, so the reply contains only the position.
    serde_json::from_slice(&request.body)
        .map_err(|error| Problem::bad_parameter(format!("The request body is not valid at column {}", error.column())))
}

/// Returns a page, with an absolute link to the next page that contains an opaque token.
fn paginated(
    request: &ServiceRequest,
    now: Now<'_>,
    list: impl FnOnce(&str, usize) -> Result<Page, Problem>,
) -> Result<Value, Problem> {
    let requested = match request.parameter("maxresults") {
        None => None,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..=PAGE_LIMIT) => Some(limit),
            _ => return Err(Problem::bad_parameter(format!("maxresults has to be from 1 to {PAGE_LIMIT}"))),
        },
    };
    let after = match request.parameter("$skiptoken") {
        None => None,
        Some(token) => Some(marker(token).ok_or_else(|| Problem::bad_parameter("$skiptoken is not valid"))?),
    };
    let limit = requested.unwrap_or(PAGE_LIMIT).min(now.settings.page_size.max(1));
    let page = match &after {
        None if now.settings.empty_page_first => Page { items: Vec::new(), next: Some(String::new()) },
        after => list(after.as_deref().unwrap_or_default(), limit)?,
    };
    let next = page.next.map(|next| {
        let token = URL_SAFE_NO_PAD.encode(json!({ "NextMarker": next }).to_string());
        let version = request.parameter("api-version").unwrap_or_default();
        let limit = requested.map_or_else(String::new, |limit| format!("&maxresults={limit}"));
        format!("{}{}?api-version={version}&$skiptoken={token}{limit}", now.origin, request.path)
    });
    Ok(json!({ "value": page.items, "nextLink": next }))
}

fn marker(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok()?.get("NextMarker")?.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_decoded_once_and_then_resolved() {
        for (path, expected) in [
            ("/secrets/a/", "secrets a"),
            ("//secrets//a", "secrets a"),
            ("/secrets/team/../admin", "secrets admin"),
            ("/secrets/team/%2e%2E/admin", "secrets admin"),
            ("/secrets/../keys/x", "keys x"),
            ("/secrets/a%2Fb", "secrets a b"),
            ("/secrets/%252e%252e/x", "secrets %2e%2e x"),
            ("/../../secrets", "secrets"),
        ] {
            assert_eq!(segments(path).join(" "), expected, "{path}");
        }
    }

    #[test]
    fn name_has_only_letters_digits_and_dashes() {
        let longest = "a".repeat(NAME_LIMIT);
        for good in ["a", "A-1", "-", "0", longest.as_str()] {
            assert!(name_is_valid(good), "{good}");
        }
        let longer = "a".repeat(NAME_LIMIT + 1);
        for bad in ["", "a_b", "a.b", "a b", "ä", "a%41", longer.as_str()] {
            assert!(!name_is_valid(bad), "{bad}");
        }
    }
}
