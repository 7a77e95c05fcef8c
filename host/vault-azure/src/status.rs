//! The host's identity and its permissions in the vault.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::credentials::TokenCredential;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::CallError;
use super::{AzureVault, CredentialKind};
use strongroom_core::ids::SecretName;
use strongroom_vault::VaultError;

/// Status of the credential and its permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The credential that returned a token.
    pub credential: &'static str,
    /// Tenant of the token.
    pub tenant: Option<String>,
    /// Application or managed identity of the token.
    pub client: Option<String>,
    /// Object ID in the tenant, to which roles are assigned.
    pub object: Option<String>,
    /// When the token expires.
    pub token_expires: Option<Timestamp>,
    /// Whether it may read secrets, determined by reading one that does not exist.
    pub get: Permission,
    /// Whether it may list secrets.
    pub list: Permission,
    /// Problems that were found.
    pub problems: Vec<String>,
}

/// Result of a permission check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// The request succeeded.
    Yes,
    /// The vault refused the request. It may be allowed for individual secrets.
    No,
    /// The vault gave no answer to this.
    Unknown,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::No => "not on the whole vault",
            Self::Unknown => "could not tell",
        })
    }
}

/// Claims of a token. For display only, because they are not verified here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    tid: Option<String>,
    oid: Option<String>,
    appid: Option<String>,
    azp: Option<String>,
}

impl AzureVault {
    /// Requests a token, and checks its permissions in the vault. Changes nothing and reads no
    /// value.
    ///
    /// # Errors
    /// No credential returns a token.
    pub async fn status(&self) -> Result<Status, VaultError> {
        let scope = self.location().scope();
        let token = self.0.credential.get_token(&[&scope], None).await;
        let token = token.map_err(|error| CallError::of(&error).general())?;
        let claims = claims(token.token.secret());
        let mut problems = Vec::new();
        let get = match random_name() {
            Some(name) => permission(self.0.calls.get(&name, None).await.map(drop), &mut problems),
            None => Permission::Unknown,
        };
        let list = permission(self.0.calls.may_list().await, &mut problems);
        problems.dedup();
        let expires = Timestamp::from_second(token.expires_on.unix_timestamp()).ok();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if expires.is_some_and(|expires| expires.as_second() <= i64::try_from(now).unwrap_or(i64::MAX)) {
            problems.push("the token has expired already: this host's clock is wrong".to_owned());
        }
        Ok(Status {
            credential: self.0.credential.answered().map_or("none", CredentialKind::as_str),
            tenant: claims.tid,
            client: claims.appid.or(claims.azp),
            object: claims.oid,
            token_expires: expires,
            get,
            list,
            problems,
        })
    }
}

/// Returns a random name, so that requesting it reads no secret.
fn random_name() -> Option<SecretName> {
    let (one, two) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
    SecretName::parse(&format!("strongroom-status-{one:016x}{two:016x}")).ok()
}

fn permission(answer: Result<(), CallError>, problems: &mut Vec<String>) -> Permission {
    match answer {
        Ok(()) => Permission::Yes,
        Err(failure) if failure.status() == Some(404) => Permission::Yes,
        Err(failure) if failure.is_by_role() => Permission::No,
        Err(failure) => {
            problems.push(failure.general().to_string());
            Permission::Unknown
        }
    }
}

/// Parses the claims of a token that is a JWT. Drops values that do not look like IDs, because an
/// attacker in place of the authority could choose them.
fn claims(token: &str) -> Claims {
    let read = || {
        let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        serde_json::from_slice::<Claims>(&body).ok()
    };
    let mut claims = read().unwrap_or_default();
    for claim in [&mut claims.tid, &mut claims.oid, &mut claims.appid, &mut claims.azp] {
        let is_id = |id: &String| id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        *claim = claim.take().filter(is_id);
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_shown_only_if_they_are_ids() {
        let token = |body: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(body));
        let read = claims(&token(r#"{"tid":"11111111-2222","oid":"a b","azp":"33","exp":5,"x":[1]}"#));
        assert_eq!((read.tid.as_deref(), read.oid, read.azp.as_deref()), (Some("11111111-2222"), None, Some("33")));
        for other in ["", "a.b", "e30.%%.x", &token("[]"), &token("{\"tid\":5}")] {
            assert!(claims(other).tid.is_none(), "{other}");
        }
    }
}
