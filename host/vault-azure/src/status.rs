//! What an operator may want to know before a run does: who this host is to the vault, and what it may do there.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::credentials::TokenCredential;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::Trouble;
use super::{AzureVault, CredentialKind};
use strongroom_core::ids::SecretName;
use strongroom_vault::VaultError;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The credential that answered.
    pub credential: &'static str,
    /// The tenant that its token is of.
    pub tenant: Option<String>,
    /// The application or managed identity that its token is for.
    pub client: Option<String>,
    /// Its object in the tenant: what roles are assigned to.
    pub object: Option<String>,
    /// When the token expires.
    pub token_expires: Option<Timestamp>,
    /// Whether it may read values of secrets, as far as reading one that is not there tells.
    pub get: Permission,
    /// Whether it may list the vault.
    pub list: Permission,
    /// What does not fit, or would not do.
    pub problems: Vec<String>,
}

/// Whether something is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// It was done.
    Yes,
    /// The vault said that it is forbidden. It may still be allowed on single secrets.
    No,
    /// The vault did not say.
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

/// What a token says about itself. It is shown, never relied on: the vault is who checks it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    tid: Option<String>,
    oid: Option<String>,
    appid: Option<String>,
    azp: Option<String>,
}

impl AzureVault {
    /// Asks for a token, and the vault for what this token may do. Nothing is changed, and no value is read.
    ///
    /// # Errors
    /// No credential answers.
    pub async fn status(&self) -> Result<Status, VaultError> {
        let scope = self.place().scope();
        let token = self.0.credential.get_token(&[&scope], None).await;
        let token = token.map_err(|error| Trouble::of(&error).general())?;
        let claims = claims(token.token.secret());
        let mut problems = Vec::new();
        let get = match nobody() {
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

/// A name that no secret has, so that asking for it reads nothing.
fn nobody() -> Option<SecretName> {
    let (one, two) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
    SecretName::parse(&format!("strongroom-status-{one:016x}{two:016x}")).ok()
}

fn permission(answer: Result<(), Trouble>, problems: &mut Vec<String>) -> Permission {
    match answer {
        Ok(()) => Permission::Yes,
        Err(trouble) if trouble.status() == Some(404) => Permission::Yes,
        Err(trouble) if trouble.is_by_role() => Permission::No,
        Err(trouble) => {
            problems.push(trouble.general().to_string());
            Permission::Unknown
        }
    }
}

/// The claims of a token that is a JWT. What is not made like an identity is not shown: whoever answers in the place of the authority
/// writes it.
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
    fn a_tokens_claims_are_shown_where_they_are_identities() {
        let token = |body: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(body));
        let read = claims(&token(r#"{"tid":"11111111-2222","oid":"a b","azp":"33","exp":5,"x":[1]}"#));
        assert_eq!((read.tid.as_deref(), read.oid, read.azp.as_deref()), (Some("11111111-2222"), None, Some("33")));
        for other in ["", "a.b", "e30.%%.x", &token("[]"), &token("{\"tid\":5}")] {
            assert!(claims(other).tid.is_none(), "{other}");
        }
    }
}
