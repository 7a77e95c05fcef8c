//! Key Vault's data plane: secrets, and as much of keys and certificates as shows that somebody reached them.

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

use crate::http::{Asked, Outcome};
use crate::lock;
use crate::principals::{Action, Principal};
use crate::reply::{self, Reply};
use crate::shared::Shared;

/// The longest name.
pub const NAME_LIMIT: usize = 127;
/// The longest value, in bytes.
pub const VALUE_LIMIT: usize = 25 * 1024;
/// The most tags of a version.
pub const TAG_LIMIT: usize = 15;
const TAG_TEXT_LIMIT: usize = 512;
const CONTENT_TYPE_LIMIT: usize = 255;
const PAGE_LIMIT: usize = 25;

/// The versions of the interface that have all that is imitated here.
const API_VERSIONS: [&str; 5] = ["7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"];

/// Answers a request to the vault.
pub(crate) fn answer(shared: &Shared, asked: &Asked) -> Outcome {
    let principal = match access::authenticate(shared, asked) {
        Ok(principal) => principal,
        Err(unauthorized) => return Outcome::new(unauthorized.kind, unauthorized.reply(shared)),
    };
    let segments = segments(&asked.path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (kind, operation) = operation(&asked.method, &segments);
    let done = version(asked).and_then(|()| operation?.run(shared, asked, &principal));
    Outcome { kind, principal: Some(principal.name), reply: done.unwrap_or_else(|problem| problem.reply()) }
}

/// The parts of a path as the real service takes it: decoded once, then without empty parts and dot segments. A name that was put into a path
/// without care reaches another secret here too, or a key.
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

fn version(asked: &Asked) -> Result<(), Problem> {
    match asked.parameter("api-version") {
        None | Some("") => Err(Problem::bad_parameter("api-version must be specified")),
        Some(version) if API_VERSIONS.contains(&version) => Ok(()),
        Some(version) => Err(Problem::bad_parameter(format!(
            "The specified version ({version}) is not recognized. Consider using the latest supported version ({}).",
            API_VERSIONS.last().copied().unwrap_or_default()
        ))),
    }
}

/// What a request asks for.
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
    /// A key or a certificate: not what this server is for, so it answers and the journal shows it.
    Elsewhere(&'a str),
}

/// The operation of a method and a path, and what the journal calls it.
fn operation<'a>(method: &Method, segments: &[&'a str]) -> (&'static str, Result<Operation<'a>, Problem>) {
    let Some((room, rest)) = segments.split_first() else { return ("unknown", Err(Problem::unknown_resource())) };
    let room = room.to_ascii_lowercase();
    let found = match (room.as_str(), method.as_str(), rest) {
        ("keys", _, rest) => ("keys", Operation::Elsewhere(rest.first().copied().unwrap_or_default())),
        ("certificates", _, rest) => ("certificates", Operation::Elsewhere(rest.first().copied().unwrap_or_default())),
        ("secrets", "GET", []) => ("list-secrets", Operation::List),
        ("secrets", "POST", ["restore"]) | ("secrets", "POST", [_, "backup"]) => {
            return ("backup", Err(Problem::not_imitated()));
        }
        ("secrets", "PUT", [name]) => ("set-secret", Operation::Set(name)),
        ("secrets", "GET", [name]) => ("get-secret", Operation::Get(name, None)),
        ("secrets", "DELETE", [name]) => ("delete-secret", Operation::Delete(name)),
        // The reference asks for a version here; Microsoft's own clients leave it out for the current one.
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
    (found.0, Ok(found.1))
}

impl Operation<'_> {
    /// What it needs, on which secret.
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
            Self::Elsewhere(_) => return None,
        })
    }

    fn run(self, shared: &Shared, asked: &Asked, principal: &Principal) -> Result<Reply, Problem> {
        if let Some((action, secret)) = self.needs() {
            if let Some(name) = secret.filter(|name| !name_is_valid(name)) {
                return Err(Problem::bad_name(name));
            }
            if !principal.may(action, secret) {
                return Err(Problem::forbidden(principal, &shared.tenant, action, secret));
            }
        }
        let origin = asked.origin();
        let now = Now { at: shared.clock.now(), settings: shared.settings(), origin: &origin };
        let mut store = lock(&shared.store);
        let body = match self {
            Self::Set(name) => store.set(name, change(asked)?, now)?,
            Self::Get(name, version) => store.get(name, version, now)?,
            Self::Update(name, version) => store.update(name, version, change(asked)?, now)?,
            Self::Delete(name) => store.delete(name, now)?,
            Self::GetDeleted(name) => store.get_deleted(name, now)?,
            Self::Recover(name) => store.recover(name, now)?,
            Self::Purge(name) => {
                store.purge(name, now)?;
                return Ok(reply::empty(StatusCode::NO_CONTENT));
            }
            Self::List => listed(asked, now, |after, most| Ok(store.list(after, most, now)))?,
            Self::ListDeleted => listed(asked, now, |after, most| Ok(store.list_deleted(after, most, now)))?,
            Self::Versions(name) => listed(asked, now, |after, most| store.versions(name, after, most, now))?,
            Self::Elsewhere(name) => json!({ "key": { "kid": format!("{origin}/keys/{name}"), "kty": "RSA" } }),
        };
        Ok(reply::json(StatusCode::OK, &body))
    }
}

pub(crate) fn name_is_valid(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn change(asked: &Asked) -> Result<Change, Problem> {
    // What the parser says could repeat the body: the client is told the position alone.
    serde_json::from_slice(&asked.body)
        .map_err(|error| Problem::bad_parameter(format!("The request body is not valid at column {}", error.column())))
}

/// A page, with the way to the next one: an absolute address with an opaque token.
fn listed(
    asked: &Asked,
    now: Now<'_>,
    list: impl FnOnce(&str, usize) -> Result<Page, Problem>,
) -> Result<Value, Problem> {
    let wanted = match asked.parameter("maxresults") {
        None => None,
        Some(text) => match text.parse::<usize>() {
            Ok(most @ 1..=PAGE_LIMIT) => Some(most),
            _ => return Err(Problem::bad_parameter(format!("maxresults has to be from 1 to {PAGE_LIMIT}"))),
        },
    };
    let after = match asked.parameter("$skiptoken") {
        None => None,
        Some(token) => Some(marker(token).ok_or_else(|| Problem::bad_parameter("$skiptoken is not valid"))?),
    };
    let most = wanted.unwrap_or(PAGE_LIMIT).min(now.settings.page_size.max(1));
    let page = match &after {
        None if now.settings.empty_page_first => Page { items: Vec::new(), next: Some(String::new()) },
        after => list(after.as_deref().unwrap_or_default(), most)?,
    };
    let next = page.next.map(|next| {
        let token = URL_SAFE_NO_PAD.encode(json!({ "NextMarker": next }).to_string());
        let version = asked.parameter("api-version").unwrap_or_default();
        let most = wanted.map_or_else(String::new, |most| format!("&maxresults={most}"));
        format!("{}{}?api-version={version}&$skiptoken={token}{most}", now.origin, asked.path)
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
    fn a_path_is_decoded_once_and_then_resolved() {
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
    fn a_name_has_letters_digits_and_dashes() {
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
