//! Authentication: the challenge and the checks of a token. Texts are the real service's if they
//! are known.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::problem::Problem;
use crate::http::ServiceRequest;
use crate::principals::Principal;
use crate::reply::{Reply, header};
use crate::service::Service;
use crate::shared::Shared;
use crate::tokens::{Access, issuer};

/// A 401: the request's kind for the journal, the error, and additional parts of the challenge.
pub(crate) struct Unauthorized {
    pub(crate) kind: &'static str,
    problem: Problem,
    extra: String,
}

impl Unauthorized {
    fn new(message: impl Into<String>) -> Self {
        let extra = ", error=\"invalid_token\"".to_owned();
        Self { kind: "unauthorized", problem: Problem::unauthorized(message), extra }
    }

    pub(crate) fn reply(&self, shared: &Shared) -> Reply {
        let mut reply = self.problem.reply();
        let challenge = format!(
            "Bearer authorization=\"{}/{}\", resource=\"{}\"{}",
            shared.url(Service::Authority),
            shared.tenant,
            shared.options.resource,
            self.extra
        );
        reply.headers_mut().insert("www-authenticate", header(&challenge));
        reply
    }
}

/// Returns the principal that owns the request's token.
pub(crate) fn authenticate(shared: &Shared, request: &ServiceRequest) -> Result<Principal, Unauthorized> {
    let Some(token) = request.bearer() else {
        let problem = Problem::unauthorized("AKV10000: Request is missing a Bearer or PoP token.");
        return Err(Unauthorized { kind: "challenge", problem, extra: String::new() });
    };
    let Some(claims) = shared.signer.check::<Access>(token) else {
        return Err(Unauthorized::new("AKV10046: Unable to resolve the key used for signature validation."));
    };
    let resource = &shared.options.resource;
    if claims.aud.trim_end_matches('/') != resource.trim_end_matches('/') {
        let message = format!("AKV10022: Invalid audience. Expected {resource}, found: {}.", claims.aud);
        return Err(Unauthorized::new(message));
    }
    let expected = issuer(&shared.tenant);
    if claims.iss != expected || claims.tid != shared.tenant {
        let message = format!("AKV10032: Invalid issuer. Expected one of {expected}, found {}.", claims.iss);
        return Err(Unauthorized::new(message));
    }
    let now = shared.clock.now();
    if claims.exp <= now {
        return Err(Unauthorized::new("[TokenExpired] Error validating token: 'S2S12086'."));
    }
    if claims.nbf > now {
        return Err(Unauthorized::new("[TokenNotYetValid] Error validating token: 'S2S12086'."));
    }
    let Some(principal) = shared.principal(|principal| principal.client_id == claims.appid) else {
        return Err(Unauthorized::new("Error validating token: 'S2S12086'."));
    };
    // With continuous access evaluation the vault requests a token that is newer than the
    // revocation.
    if claims.uti.parse::<u64>().is_ok_and(|number| number <= principal.revoked) {
        let wanted = json!({ "access_token": { "nbf": { "essential": true, "value": now.to_string() } } });
        let claims = STANDARD.encode(wanted.to_string());
        return Err(Unauthorized {
            extra: format!(", error=\"insufficient_claims\", claims=\"{claims}\""),
            ..Unauthorized::new(
                "Continuous access evaluation resulted in claims challenge with result: InteractionRequired and code: TokenRevoked",
            )
        });
    }
    Ok(principal)
}
