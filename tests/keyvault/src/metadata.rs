//! The metadata service of a virtual machine: tokens for managed identities.

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::http::{Outcome, ServiceRequest};
use crate::principals::{Identity, Principal};
use crate::reply::{self, Reply};
use crate::shared::Shared;

/// Answers a request to the metadata service.
pub(crate) fn answer(shared: &Shared, request: &ServiceRequest) -> Outcome {
    if request.path.trim_end_matches('/') != "/metadata/identity/oauth2/token" {
        return Outcome::new(
            "unknown",
            refused(StatusCode::NOT_FOUND, "not_found", "The requested resource was not found"),
        );
    }
    if request.method != Method::GET {
        let reply = refused(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "The method is not allowed");
        return Outcome::new("metadata-refused", reply);
    }
    match token(shared, request) {
        Ok((name, reply)) => Outcome { kind: "token-metadata", principal: Some(name), reply },
        Err((error, text)) => Outcome::new("metadata-refused", refused(StatusCode::BAD_REQUEST, error, text)),
    }
}

fn refused(status: StatusCode, error: &str, text: &str) -> Reply {
    reply::json(status, &json!({ "error": error, "error_description": text }))
}

type Refusal = (&'static str, &'static str);

fn token(shared: &Shared, request: &ServiceRequest) -> Result<(String, Reply), Refusal> {
    // A forged request lacks the first header, and a proxied one has the second.
    if request.header("metadata") != Some("true") {
        return Err(("bad_request_102", "Required metadata header not specified"));
    }
    if request.header("x-forwarded-for").is_some() {
        return Err(("invalid_request", "Requests that were forwarded are not served"));
    }
    match request.parameter("api-version") {
        None => return Err(("invalid_request", "Required query variable 'api-version' is missing")),
        // Versions are dates, which compare correctly as text.
        Some(version) if version < "2018-02-01" => {
            return Err(("bad_request", "The version of the interface is not supported"));
        }
        Some(_) => {}
    }
    let resource =
        request.parameter("resource").ok_or(("invalid_request", "Required query variable 'resource' is missing"))?;
    let principal = identity(shared, request)?;
    if principal.disabled {
        return Err(("unauthorized_client", "The identity is disabled"));
    }
    let (token, claims) =
        shared.access_token(&principal, resource).map_err(|_| ("unknown", "No token could be signed"))?;
    // All numbers are strings here.
    let body = json!({
        "access_token": token, "client_id": principal.client_id, "expires_in": (claims.exp - claims.iat).to_string(),
        "expires_on": claims.exp.to_string(), "ext_expires_in": (claims.exp - claims.iat).to_string(),
        "not_before": claims.nbf.to_string(), "resource": resource, "token_type": "Bearer",
    });
    Ok((principal.name, reply::json(StatusCode::OK, &body)))
}

/// Returns the requested identity: by one of its IDs, or the machine's own.
fn identity(shared: &Shared, request: &ServiceRequest) -> Result<Principal, Refusal> {
    let resource = request.parameter("msi_res_id").or_else(|| request.parameter("mi_res_id"));
    let by = [request.parameter("client_id"), request.parameter("object_id"), resource];
    if by.iter().flatten().count() > 1 {
        return Err(("invalid_request", "Only one of client_id, object_id and msi_res_id may be given"));
    }
    let [client, object, resource] = by;
    shared
        .principal(|principal| match &principal.identity {
            None => false,
            Some(identity) => match (client, object, resource) {
                (Some(id), ..) => principal.client_id.eq_ignore_ascii_case(id),
                (_, Some(id), _) => principal.object_id.eq_ignore_ascii_case(id),
                (.., Some(id)) => matches!(identity, Identity::User(own) if own.eq_ignore_ascii_case(id)),
                _ => *identity == Identity::System,
            },
        })
        .ok_or(("invalid_request", "Identity not found"))
}
