//! The admin port: what `Server` offers to a test, for tests in other programs. JSON in, JSON out; `README.md` lists the requests.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::http::Asked;
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

/// Why a request was not carried out.
struct No(StatusCode, String);

fn broken(error: std::io::Error) -> No {
    No(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn body<T: DeserializeOwned>(asked: &Asked) -> Result<T, No> {
    serde_json::from_slice(&asked.body).map_err(|error| No(StatusCode::BAD_REQUEST, error.to_string()))
}

pub(crate) async fn answer(shared: &Arc<Shared>, listeners: &Arc<Listeners>, asked: &Asked) -> Reply {
    match carry_out(shared, listeners, asked).await {
        Ok(done) => reply::json(StatusCode::OK, &done),
        Err(No(status, why)) => reply::json(status, &json!({ "error": why })),
    }
}

async fn carry_out(shared: &Arc<Shared>, listeners: &Arc<Listeners>, asked: &Asked) -> Result<Value, No> {
    let parts: Vec<&str> = asked.path.split('/').filter(|part| !part.is_empty()).collect();
    let known = |found: bool| found.then(|| json!({})).ok_or(No(StatusCode::NOT_FOUND, "no such principal".to_owned()));
    match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["clock"]) => Ok(json!({ "now": shared.clock.now() })),
        ("POST", ["clock"]) => {
            match body(asked)? {
                ClockChange::Advance(seconds) => shared.clock.advance(seconds),
                ClockChange::Set(to) => shared.clock.set(to),
                ClockChange::Stop => shared.clock.stop(),
                ClockChange::Run => shared.clock.run(),
            }
            Ok(json!({ "now": shared.clock.now() }))
        }
        ("GET", ["settings"]) => Ok(json!(shared.settings())),
        ("POST", ["settings"]) => {
            // What is not named stays as it is.
            let mut settings = json!(shared.settings());
            if let (Some(settings), Value::Object(changes)) = (settings.as_object_mut(), body(asked)?) {
                settings.extend(changes);
            }
            let settings =
                serde_json::from_value(settings).map_err(|error| No(StatusCode::BAD_REQUEST, error.to_string()))?;
            *lock(&shared.settings) = settings;
            Ok(json!(settings))
        }
        ("POST", ["faults"]) => {
            shared.faults.add(body::<Fault>(asked)?);
            Ok(json!({}))
        }
        ("DELETE", ["faults"]) => {
            shared.faults.clear();
            Ok(json!({}))
        }
        ("GET", ["counters"]) => Ok(json!(shared.journal.counters())),
        ("GET", ["journal"]) => Ok(json!(shared.journal.lines())),
        ("DELETE", ["journal"]) => {
            shared.journal.clear();
            Ok(json!({}))
        }
        ("POST", ["principals"]) => {
            let NewPrincipal { name, permissions } = body(asked)?;
            let principal = Principal::application(&name, permissions);
            let told = json!({ "client-id": principal.client_id, "client-secret": principal.client_secret });
            lock(&shared.principals).push(principal);
            Ok(told)
        }
        ("POST", ["principals", client]) => match body(asked)? {
            PrincipalChange::Permissions(permissions) => {
                known(shared.change(client, |one| one.permissions = permissions))
            }
            PrincipalChange::Disabled(disabled) => known(shared.change(client, |one| one.disabled = disabled)),
            PrincipalChange::RevokeTokens => {
                let newest = shared.newest_token();
                known(shared.change(client, |one| one.revoked = newest))
            }
        },
        // What a tool that somebody signed in with would hand out.
        ("POST", ["tokens"]) => {
            let TokenFor { principal: name } = body(asked)?;
            let principal = shared.principal(|one| one.name == name || one.client_id == name);
            let principal = principal.ok_or_else(|| No(StatusCode::NOT_FOUND, "no such principal".to_owned()))?;
            let (token, claims) = shared.access_token(&principal, &shared.options.resource).map_err(broken)?;
            Ok(json!({ "token": token, "expires": claims.exp }))
        }
        ("POST", ["federated-token"]) => {
            let subject = shared.principal(|one| one.subject.is_some()).and_then(|one| one.subject).unwrap_or_default();
            shared.federated_token(&subject).map(|token| json!({ "token": token })).map_err(broken)
        }
        ("POST", ["client-certificate"]) => {
            shared.client_certificate().map(|pem| json!({ "pem": pem })).map_err(broken)
        }
        ("PUT", ["secrets", name]) => match shared.put(name, body::<Change>(asked)?) {
            true => Ok(json!({})),
            false => Err(No(StatusCode::CONFLICT, "the vault would not take it".to_owned())),
        },
        ("POST", ["listen"]) => {
            let Listen { service, open } = body(asked)?;
            match (service, open) {
                (Service::Admin, _) => return Err(No(StatusCode::BAD_REQUEST, "this port stays open".to_owned())),
                (service, false) => listeners.close(service).await,
                (service, true) => listeners.open(shared, service).map_err(broken)?,
            }
            Ok(json!({}))
        }
        _ => Err(No(StatusCode::NOT_FOUND, "no such request".to_owned())),
    }
}
