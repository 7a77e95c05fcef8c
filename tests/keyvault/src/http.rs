//! A request as the services see it, and its processing: fault, service, journal.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::faults::Kind;
use crate::journal::Entry;
use crate::listener::Listeners;
use crate::principals::uuid;
use crate::reply::{self, Answer, JSON, Reply, Script, Step, header};
use crate::service::Service;
use crate::shared::Shared;
use crate::vault::Problem;
use crate::{admin, authority, metadata, vault};

/// A request with its complete body.
pub(crate) struct ServiceRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl ServiceRequest {
    /// Returns a query parameter. As in the real services, names are case-insensitive.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the origin under which the client knows the service. Links in replies must stay
    /// there.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default())
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// The result of processing a request.
pub(crate) struct Outcome {
    pub(crate) kind: &'static str,
    pub(crate) principal: Option<String>,
    pub(crate) reply: Reply,
}

impl Outcome {
    pub(crate) fn new(kind: &'static str, reply: Reply) -> Self {
        Self { kind, principal: None, reply }
    }
}

/// Larger bodies are refused. A secret has at most 25 KB, which JSON can encode in six times as
/// many bytes.
const BODY_MAX: usize = 512 * 1024;

/// Answers one request.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    listeners: &Arc<Listeners>,
    service: Service,
    request: Request<Incoming>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
        return reply::empty(StatusCode::PAYLOAD_TOO_LARGE).into();
    };
    let request = ServiceRequest {
        query: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        path: parts.uri.path().to_owned(),
        method: parts.method,
        headers: parts.headers,
        body: body.to_bytes(),
    };
    if service == Service::Admin {
        return admin::answer(shared, listeners, &request).await.into();
    }
    let _open = (service == Service::Vault).then(|| shared.journal.open());
    let fault = shared.faults.take(
        service,
        request.method.as_str(),
        &request.path,
        request.headers.contains_key(AUTHORIZATION),
    );
    if let Some(Kind::Slow { milliseconds, after: None }) = fault {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    let mut outcome = match fault.as_ref().and_then(|fault| fault_reply(service, fault, &request)) {
        Some(reply) => Outcome::new("fault", reply),
        None => match service {
            Service::Vault => vault::answer(shared, &request),
            Service::Authority => authority::answer(shared, &request),
            Service::Metadata | Service::Admin => metadata::answer(shared, &request),
        },
    };
    let reset = matches!(fault, Some(Kind::Reset { after: None }));
    let name = fault.as_ref().map(Kind::name);
    if let Some(fault) = fault {
        outcome.reply = apply_fault(outcome.reply, fault, &request, &shared.options.resource);
    }
    let request_id = uuid();
    outcome.reply.headers_mut().insert("x-ms-request-id", header(&request_id));
    shared.journal.record(Entry {
        at: shared.clock.now(),
        service,
        method: request.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        kind: outcome.kind,
        principal: outcome.principal,
        status: if reset { 0 } else { outcome.reply.status().as_u16() },
        fault: name,
        request_id,
    });
    if reset { Answer::Reset } else { outcome.reply.into() }
}

/// Returns the reply of a fault that keeps the request from the service.
fn fault_reply(service: Service, fault: &Kind, request: &ServiceRequest) -> Option<Reply> {
    match fault {
        Kind::Throttle { retry_after } => {
            let mut reply = error_reply(service, 429, None);
            if let Some(seconds) = retry_after {
                reply.headers_mut().insert(RETRY_AFTER, header(&seconds.to_string()));
            }
            Some(reply)
        }
        Kind::Status { code, message } => Some(error_reply(service, *code, message.as_deref())),
        Kind::Reset { after: None } => Some(reply::empty(StatusCode::OK)),
        Kind::Redirect { to } => {
            let mut reply = reply::empty(StatusCode::TEMPORARY_REDIRECT);
            reply.headers_mut().insert(LOCATION, header(&format!("{to}{}{}", request.path, query(&request.query))));
            Some(reply)
        }
        Kind::Huge { bytes, declared } => {
            let (before, after) = (Bytes::from_static(b"{\"value\":\""), Bytes::from_static(b"\"}"));
            let length = declared.then(|| bytes + (before.len() + after.len()) as u64);
            let steps = [Step::Send(before), Step::Fill(*bytes), Step::Send(after)];
            let mut reply = reply::finish(StatusCode::OK, Script::new(steps, length));
            reply.headers_mut().insert(CONTENT_TYPE, JSON);
            Some(reply)
        }
        _ => None,
    }
}

/// Returns an error in the service's own format.
fn error_reply(service: Service, status: u16, message: Option<&str>) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let throttled = status == StatusCode::TOO_MANY_REQUESTS;
    match service {
        Service::Vault => {
            let problem = if throttled { Problem::throttled() } else { Problem::internal_error(status) };
            match message {
                Some(message) => problem.with_message(message).reply(),
                None => problem.reply(),
            }
        }
        _ => {
            let default = if throttled { "too many requests" } else { "the service is temporarily unavailable" };
            let description = message.unwrap_or(default);
            reply::json(status, &json!({ "error": "temporarily_unavailable", "error_description": description }))
        }
    }
}

/// Applies a fault to a good reply.
fn apply_fault(mut reply: Reply, fault: Kind, request: &ServiceRequest, resource: &str) -> Reply {
    match fault {
        Kind::Reset { after: Some(bytes) } => {
            // The wait lets the sent bytes leave before the reset.
            cut_after(reply, bytes, [Step::Wait(Duration::from_millis(20)), Step::Reset])
        }
        Kind::Slow { milliseconds, after: Some(bytes) } => {
            let rest = reply.body().bytes();
            let rest = rest.slice(bytes.min(rest.len())..);
            cut_after(reply, bytes, [Step::Wait(Duration::from_millis(milliseconds)), Step::Send(rest)])
        }
        Kind::EndlessPages => {
            let page: u64 = request.parameter("$endless").and_then(|page| page.parse().ok()).unwrap_or(0);
            let version = request.parameter("api-version").unwrap_or_default();
            next_link(
                reply,
                &format!("{}{}?api-version={version}&$endless={}", request.origin(), request.path, page + 1),
            )
        }
        Kind::ForeignNextLink { to } => {
            let version = request.parameter("api-version").unwrap_or_default();
            next_link(reply, &format!("{to}{}?api-version={version}&$skiptoken=e30", request.path))
        }
        Kind::ContentType { value, body } => {
            let body = body.map_or_else(|| reply.body().bytes(), Bytes::from);
            reply::with_type(reply.status(), header(&value), body)
        }
        Kind::ForeignChallenge { authority, resource: other } => {
            let resource = other.as_deref().unwrap_or(resource);
            let challenge = format!("Bearer authorization=\"{authority}\", resource=\"{resource}\"");
            if reply.status() == StatusCode::UNAUTHORIZED {
                reply.headers_mut().insert("www-authenticate", header(&challenge));
            }
            reply
        }
        _ => reply,
    }
}

fn cut_after(reply: Reply, after: usize, then: [Step; 2]) -> Reply {
    let (parts, body) = reply.into_parts();
    let bytes = body.bytes();
    let [first, second] = then;
    let steps = [Step::Send(bytes.slice(..after.min(bytes.len()))), first, second];
    let mut cut = reply::finish(parts.status, Script::new(steps, Some(bytes.len() as u64)));
    *cut.headers_mut() = parts.headers;
    cut
}

fn next_link(reply: Reply, link: &str) -> Reply {
    match serde_json::from_slice::<Value>(&reply.body().bytes()) {
        Ok(Value::Object(mut page)) if page.contains_key("nextLink") => {
            page.insert("nextLink".to_owned(), link.into());
            reply::json(reply.status(), &page.into())
        }
        _ => reply,
    }
}

fn query(pairs: &[(String, String)]) -> String {
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()),
    }
}
