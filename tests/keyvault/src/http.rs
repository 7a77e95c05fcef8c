//! A request as the services see it, and the way of each one: fault, service, journal.

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

/// A request, read whole.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    /// A parameter of the query. As in the real services, names are compared without regard to case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The origin under which the client knows the service; what it is told to ask next must be there.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default())
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

/// What a service made of a request.
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

/// Bodies beyond this are refused: a secret has 25 KB at most, which JSON can make six times as long.
const BODY: usize = 512 * 1024;

/// Answers one request.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    listeners: &Arc<Listeners>,
    service: Service,
    request: Request<Incoming>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY).collect().await else {
        return reply::empty(StatusCode::PAYLOAD_TOO_LARGE).into();
    };
    let asked = Asked {
        query: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        path: parts.uri.path().to_owned(),
        method: parts.method,
        headers: parts.headers,
        body: body.to_bytes(),
    };
    if service == Service::Admin {
        return admin::answer(shared, listeners, &asked).await.into();
    }
    let _open = (service == Service::Vault).then(|| shared.journal.open());
    let fault =
        shared.faults.take(service, asked.method.as_str(), &asked.path, asked.headers.contains_key(AUTHORIZATION));
    if let Some(Kind::Slow { milliseconds, after: None }) = fault {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    let mut outcome = match fault.as_ref().and_then(|fault| instead(service, fault, &asked)) {
        Some(reply) => Outcome::new("fault", reply),
        None => match service {
            Service::Vault => vault::answer(shared, &asked),
            Service::Authority => authority::answer(shared, &asked),
            Service::Metadata | Service::Admin => metadata::answer(shared, &asked),
        },
    };
    let reset = matches!(fault, Some(Kind::Reset { after: None }));
    let name = fault.as_ref().map(Kind::name);
    if let Some(fault) = fault {
        outcome.reply = spoil(outcome.reply, fault, &asked, &shared.options.resource);
    }
    let request_id = uuid();
    outcome.reply.headers_mut().insert("x-ms-request-id", header(&request_id));
    shared.journal.note(Entry {
        at: shared.clock.now(),
        service,
        method: asked.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        kind: outcome.kind,
        principal: outcome.principal,
        status: if reset { 0 } else { outcome.reply.status().as_u16() },
        fault: name,
        request_id,
    });
    if reset { Answer::Reset } else { outcome.reply.into() }
}

/// The reply of a fault that keeps the request from the service.
fn instead(service: Service, fault: &Kind, asked: &Asked) -> Option<Reply> {
    match fault {
        Kind::Throttle { retry_after } => {
            let mut reply = failed(service, 429, None);
            if let Some(seconds) = retry_after {
                reply.headers_mut().insert(RETRY_AFTER, header(&seconds.to_string()));
            }
            Some(reply)
        }
        Kind::Status { code, message } => Some(failed(service, *code, message.as_deref())),
        Kind::Reset { after: None } => Some(reply::empty(StatusCode::OK)),
        Kind::Redirect { to } => {
            let mut reply = reply::empty(StatusCode::TEMPORARY_REDIRECT);
            reply.headers_mut().insert(LOCATION, header(&format!("{to}{}{}", asked.path, query(&asked.query))));
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

/// An error of the kind that the service sends.
fn failed(service: Service, status: u16, message: Option<&str>) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let throttled = status == StatusCode::TOO_MANY_REQUESTS;
    match service {
        Service::Vault => {
            let problem = if throttled { Problem::throttled() } else { Problem::broken(status) };
            match message {
                Some(message) => problem.saying(message).reply(),
                None => problem.reply(),
            }
        }
        _ => {
            let own = if throttled { "too many requests" } else { "the service is temporarily unavailable" };
            let description = message.unwrap_or(own);
            reply::json(status, &json!({ "error": "temporarily_unavailable", "error_description": description }))
        }
    }
}

/// What a fault makes of a good reply.
fn spoil(mut reply: Reply, fault: Kind, asked: &Asked, resource: &str) -> Reply {
    match fault {
        Kind::Reset { after: Some(bytes) } => {
            // The wait lets what was sent leave before the reset.
            cut(reply, bytes, [Step::Wait(Duration::from_millis(20)), Step::Reset])
        }
        Kind::Slow { milliseconds, after: Some(bytes) } => {
            let rest = reply.body().bytes();
            let rest = rest.slice(bytes.min(rest.len())..);
            cut(reply, bytes, [Step::Wait(Duration::from_millis(milliseconds)), Step::Send(rest)])
        }
        Kind::EndlessPages => {
            let page: u64 = asked.parameter("$endless").and_then(|page| page.parse().ok()).unwrap_or(0);
            let version = asked.parameter("api-version").unwrap_or_default();
            next_link(reply, &format!("{}{}?api-version={version}&$endless={}", asked.origin(), asked.path, page + 1))
        }
        Kind::ForeignNextLink { to } => {
            let version = asked.parameter("api-version").unwrap_or_default();
            next_link(reply, &format!("{to}{}?api-version={version}&$skiptoken=e30", asked.path))
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

fn cut(reply: Reply, after: usize, then: [Step; 2]) -> Reply {
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
