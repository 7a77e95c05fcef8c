//! The token endpoint of Microsoft Entra ID for applications that sign in as themselves: with a
//! secret, a certificate or another issuer's token.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::http::{Outcome, ServiceRequest};
use crate::principals::{Principal, uuid};
use crate::reply::{self, Reply};
use crate::service::Service;
use crate::shared::{CLUSTER, Shared};
use crate::tokens::{Certificate, EXCHANGE, Federated};

/// Answers a request to the authority.
pub(crate) fn answer(shared: &Shared, request: &ServiceRequest) -> Outcome {
    let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
    let get = request.method == Method::GET;
    match parts.as_slice() {
        ["common", "discovery", "instance"] if get => Outcome::new("discovery", instance(shared)),
        [tenant, ..] if *tenant != shared.tenant => {
            let refusal = Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                90002,
                format!(
                    "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
                ),
            );
            Outcome::new("token-refused", refusal.reply(shared))
        }
        [_, "v2.0", ".well-known", "openid-configuration"] | [_, ".well-known", "openid-configuration"] if get => {
            Outcome::new("discovery", discovery(shared))
        }
        [_, "discovery", "v2.0", "keys"] if get => {
            Outcome::new("discovery", reply::json(StatusCode::OK, &json!({ "keys": [shared.signer.public()] })))
        }
        [_, "oauth2", "v2.0", "token"] if request.method == Method::POST => token(shared, request),
        _ => Outcome::new("unknown", reply::empty(StatusCode::NOT_FOUND)),
    }
}

fn discovery(shared: &Shared) -> Reply {
    let base = format!("{}/{}", shared.url(Service::Authority), shared.tenant);
    reply::json(
        StatusCode::OK,
        &json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }),
    )
}

/// Describes the hosts of this authority. Clients request this for an authority that they do not
/// know.
fn instance(shared: &Shared) -> Reply {
    let base = shared.url(Service::Authority);
    let host = base.trim_start_matches("https://");
    reply::json(
        StatusCode::OK,
        &json!({
            "tenant_discovery_endpoint": format!("{base}/{}/v2.0/.well-known/openid-configuration", shared.tenant),
            "api-version": "1.1",
            "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
        }),
    )
}

/// An error of the token endpoint.
struct Refusal {
    status: StatusCode,
    error: &'static str,
    code: u32,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error, code, text: text.into() }
    }

    fn bad(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, code, text)
    }

    fn client(code: u32, text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", code, text)
    }

    fn reply(&self, shared: &Shared) -> Reply {
        let (trace, correlation) = (uuid(), uuid());
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
        let now = OffsetDateTime::from_unix_timestamp(shared.clock.now()).ok().and_then(|now| now.format(&format).ok());
        let now = now.unwrap_or_default();
        let text = format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}",
            self.code, self.text
        );
        let base = shared.url(Service::Authority);
        let body: Value = json!({
            "error": self.error, "error_description": text, "error_codes": [self.code], "timestamp": now,
            "trace_id": trace, "correlation_id": correlation, "error_uri": format!("{base}/error?code={}", self.code),
        });
        reply::json(self.status, &body)
    }
}

/// Handles client credentials: identifies the client, then the audience.
fn token(shared: &Shared, request: &ServiceRequest) -> Outcome {
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let issued = client(shared, &field).and_then(|(kind, principal)| {
        let audience = audience(field("scope"))?;
        let (token, claims) = shared
            .access_token(&principal, audience)
            .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", 90033, "No token could be signed."))?;
        let lifetime = claims.exp - claims.iat;
        let body =
            json!({ "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token });
        Ok(Outcome { kind, principal: Some(principal.name), reply: reply::json(StatusCode::OK, &body) })
    });
    issued.unwrap_or_else(|refusal| Outcome::new("token-refused", refusal.reply(shared)))
}

fn client<'a>(shared: &Shared, field: &impl Fn(&str) -> Option<&'a str>) -> Result<(&'static str, Principal), Refusal> {
    if field("grant_type") != Some("client_credentials") {
        return Err(Refusal::bad("unsupported_grant_type", 70003, "The app requested an unsupported grant type."));
    }
    let id = field("client_id").ok_or_else(|| {
        Refusal::bad("invalid_request", 900144, "The request body must contain the following parameter: 'client_id'.")
    })?;
    let principal =
        shared.principal(|principal| principal.client_id.eq_ignore_ascii_case(id) && principal.identity.is_none());
    let Some(principal) = principal else {
        let text = format!("Application with identifier '{id}' was not found in the directory '{}'.", shared.tenant);
        return Err(Refusal::bad("unauthorized_client", 700016, text));
    };
    let kind = match (field("client_secret"), field("client_assertion")) {
        (Some(secret), None) if principal.client_secret.as_deref() == Some(secret) => "token-client-secret",
        (Some(_), None) => {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret \
                 ID, for a secret added to app '{id}'."
            );
            return Err(Refusal::client(7000215, text));
        }
        (None, Some(assertion)) => {
            if field("client_assertion_type") != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
                return Err(Refusal::bad("invalid_request", 900144, "'client_assertion_type' is not supported."));
            }
            if Certificate::is_referenced_by(assertion) {
                check_certificate_assertion(shared, &principal, assertion)?;
                "token-client-certificate"
            } else {
                check_federated_token(shared, &principal, assertion)?;
                "token-client-assertion"
            }
        }
        _ => {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            return Err(Refusal::client(7000218, text));
        }
    };
    match principal.disabled {
        true => Err(Refusal::client(7000112, format!("Application '{id}' is disabled."))),
        false => Ok((kind, principal)),
    }
}

/// Checks a token of another issuer that the application accepts.
fn check_federated_token(shared: &Shared, principal: &Principal, assertion: &str) -> Result<(), Refusal> {
    let claims = shared
        .cluster()
        .ok()
        .and_then(|cluster| cluster.check::<Federated>(assertion))
        .ok_or_else(|| Refusal::client(700027, "Client assertion failed signature validation."))?;
    let expected = principal.subject.as_deref() == Some(claims.sub.as_str());
    if claims.iss != CLUSTER || !expected || !claims.aud.iter().any(|audience| audience == EXCHANGE) {
        return Err(Refusal::client(
            700213,
            "No matching federated identity record found for presented assertion subject. Please note that matching is done using a \
             case-sensitive comparison.",
        ));
    }
    check_validity(shared, claims.nbf, claims.exp)
}

/// Checks an assertion that the client signed with its certificate for this endpoint.
fn check_certificate_assertion(shared: &Shared, principal: &Principal, assertion: &str) -> Result<(), Refusal> {
    let certificate = principal.certificate.as_ref();
    let claims = certificate
        .and_then(|certificate| certificate.check(assertion))
        .ok_or_else(|| Refusal::client(700027, "Client assertion failed signature validation."))?;
    let endpoint = format!("{}/{}/oauth2/v2.0/token", shared.url(Service::Authority), shared.tenant);
    if claims.aud != endpoint {
        return Err(Refusal::client(700023, format!("Client assertion audience claim does not match {endpoint}.")));
    }
    if claims.iss != principal.client_id || claims.sub != principal.client_id {
        return Err(Refusal::client(700021, "Client assertion does not match the application identifier."));
    }
    check_validity(shared, claims.nbf.0, claims.exp.0)
}

fn check_validity(shared: &Shared, from: i64, until: i64) -> Result<(), Refusal> {
    let now = shared.clock.now();
    match from <= now && now < until {
        true => Ok(()),
        false => Err(Refusal::client(700024, "Client assertion is not within its valid time range.")),
    }
}

/// Returns the audience of a scope. Applications request everything that they were granted at one
/// resource, with the suffix `/.default`.
fn audience(scope: Option<&str>) -> Result<&str, Refusal> {
    let scope = scope.ok_or_else(|| {
        Refusal::bad("invalid_request", 900144, "The request body must contain the following parameter: 'scope'.")
    })?;
    scope.split(' ').find_map(|scope| scope.strip_suffix("/.default")).ok_or_else(|| {
        Refusal::bad("invalid_scope", 1002012, format!("The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."))
    })
}
