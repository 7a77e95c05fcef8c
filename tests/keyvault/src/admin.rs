//! The admin port: the functions of `Server` for tests in other programs, as JSON over HTTP.
//! `README.md` lists the requests.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::http::ServiceRequest;
use crate::listener::Listeners;
use crate::lock;
use crate::principals::{Permission, Principal};
use crate::reply::{self, Reply};
use crate::service::Service;
use crate::shared::Shared;
use crate::vault::Change;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum ClockChange {
    Advance(i64),
    Set(i64),
    Stop,
    Run,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPrincipal {
    name: String,
    #[serde(default)]
    permissions: Vec<Permission>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum PrincipalChange {
    Permissions(Vec<Permission>),
    Disabled(bool),
    RevokeTokens,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFor {
    principal: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    service: Service,
    open: bool,
}

/// The status and message of a rejected request.
struct Rejected(StatusCode, String);

fn internal_error(error: std::io::Error) -> Rejected {
    Rejected(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn body<T: DeserializeOwned>(request: &ServiceRequest) -> Result<T, Rejected> {
    serde_json::from_slice(&request.body).map_err(|error| Rejected(StatusCode::BAD_REQUEST, error.to_string()))
}

pub(crate) async fn answer(shared: &Arc<Shared>, listeners: &Arc<Listeners>, request: &ServiceRequest) -> Reply {
    match carry_out(shared, listeners, request).await {
        Ok(result) => reply::json(StatusCode::OK, &result),
        Err(Rejected(status, why)) => reply::json(status, &json!({ "error": why })),
    }
}

async fn carry_out(
    shared: &Arc<Shared>,
    listeners: &Arc<Listeners>,
    request: &ServiceRequest,
) -> Result<Value, Rejected> {
    let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
    let found =
        |exists: bool| exists.then(|| json!({})).ok_or(Rejected(StatusCode::NOT_FOUND, "no such principal".to_owned()));
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["clock"]) => Ok(json!({ "now": shared.clock.now() })),
        ("POST", ["clock"]) => {
            match body(request)? {
                ClockChange::Advance(seconds) => shared.clock.advance(seconds),
                ClockChange::Set(to) => shared.clock.set(to),
                ClockChange::Stop => shared.clock.stop(),
                ClockChange::Run => shared.clock.run(),
            }
            Ok(json!({ "now": shared.clock.now() }))
        }
        ("GET", ["settings"]) => Ok(json!(shared.settings())),
        ("POST", ["settings"]) => {
            // Settings that are not named keep their values.
            let mut settings = json!(shared.settings());
            if let (Some(settings), Value::Object(changes)) = (settings.as_object_mut(), body(request)?) {
                settings.extend(changes);
            }
            let settings = serde_json::from_value(settings)
                .map_err(|error| Rejected(StatusCode::BAD_REQUEST, error.to_string()))?;
            *lock(&shared.settings) = settings;
            Ok(json!(settings))
        }
        ("POST", ["faults"]) => {
            shared.faults.add(body::<Fault>(request)?);
            Ok(json!({}))
        }
        ("DELETE", ["faults"]) => {
            shared.faults.clear();
            Ok(json!({}))
        }
        ("GET", ["counters"]) => Ok(json!(shared.journal.counters())),
        ("GET", ["journal"]) => Ok(json!(shared.journal.entries())),
        ("DELETE", ["journal"]) => {
            shared.journal.clear();
            Ok(json!({}))
        }
        ("POST", ["principals"]) => {
            let NewPrincipal { name, permissions } = body(request)?;
            let principal = Principal::application(&name, permissions);
            let credentials = json!({ "client-id": principal.client_id, "client-secret": principal.client_secret });
            lock(&shared.principals).push(principal);
            Ok(credentials)
        }
        ("POST", ["principals", client]) => match body(request)? {
            PrincipalChange::Permissions(permissions) => {
                found(shared.change(client, |principal| principal.permissions = permissions))
            }
            PrincipalChange::Disabled(disabled) => {
                found(shared.change(client, |principal| principal.disabled = disabled))
            }
            PrincipalChange::RevokeTokens => {
                let newest = shared.newest_token();
                found(shared.change(client, |principal| principal.revoked = newest))
            }
        },
        // The token that a command-line tool would print for a signed-in person.
        ("POST", ["tokens"]) => {
            let TokenFor { principal: name } = body(request)?;
            let principal = shared.principal(|principal| principal.name == name || principal.client_id == name);
            let principal = principal.ok_or_else(|| Rejected(StatusCode::NOT_FOUND, "no such principal".to_owned()))?;
            let (token, claims) = shared.access_token(&principal, &shared.options.resource).map_err(internal_error)?;
            Ok(json!({ "token": token, "expires": claims.exp }))
        }
        ("POST", ["federated-token"]) => {
            let subject = shared
                .principal(|principal| principal.subject.is_some())
                .and_then(|principal| principal.subject)
                .unwrap_or_default();
            shared.federated_token(&subject).map(|token| json!({ "token": token })).map_err(internal_error)
        }
        ("POST", ["client-certificate"]) => {
            shared.client_certificate().map(|pem| json!({ "pem": pem })).map_err(internal_error)
        }
        ("PUT", ["secrets", name]) => match shared.put(name, body::<Change>(request)?) {
            true => Ok(json!({})),
            false => Err(Rejected(StatusCode::CONFLICT, "the vault would not take it".to_owned())),
        },
        ("POST", ["listen"]) => {
            let Listen { service, open } = body(request)?;
            match (service, open) {
                (Service::Admin, _) => {
                    return Err(Rejected(StatusCode::BAD_REQUEST, "this port stays open".to_owned()));
                }
                (service, false) => listeners.close(service).await,
                (service, true) => listeners.open(shared, service).map_err(internal_error)?,
            }
            Ok(json!({}))
        }
        _ => Err(Rejected(StatusCode::NOT_FOUND, "no such request".to_owned())),
    }
}
