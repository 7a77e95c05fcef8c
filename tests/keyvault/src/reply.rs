//! Replies, and the body that can misbehave: wait, never end, or break off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::Sleep;

/// A reply of any of the services.
pub(crate) type Reply = Response<Script>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// What a body does, in order.
pub(crate) enum Step {
    Send(Bytes),
    /// So many bytes of filling, made as they are sent.
    Fill(u64),
    Wait(Duration),
    /// The connection is reset.
    Reset,
}

/// A body that follows a list of steps.
#[derive(Default)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    /// What the header says about the length; `None`: in chunks.
    length: Option<u64>,
    waiting: Option<Pin<Box<Sleep>>>,
}

static FILLING: [u8; 64 * 1024] = [b'A'; 64 * 1024];

impl Script {
    pub(crate) fn new(steps: impl Into<VecDeque<Step>>, length: Option<u64>) -> Self {
        Self { steps: steps.into(), length, waiting: None }
    }

    fn plain(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = Some(bytes.len() as u64);
        Self::new([Step::Send(bytes)], length)
    }

    /// What a body holds that has not been tampered with yet.
    pub(crate) fn bytes(&self) -> Bytes {
        match self.steps.front() {
            Some(Step::Send(bytes)) => bytes.clone(),
            _ => Bytes::new(),
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(sleep) = &mut self.waiting {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(bytes)) if bytes.is_empty() => {}
                Some(Step::Send(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Fill(0)) => {}
                Some(Step::Fill(left)) => {
                    let bytes = Bytes::from_static(&FILLING);
                    let bytes = bytes.slice(..usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len())));
                    self.steps.push_front(Step::Fill(left - bytes.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Wait(time)) => self.waiting = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Reset) => return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_none()
    }
}

pub(crate) fn json(status: StatusCode, body: &Value) -> Reply {
    with_type(status, JSON, body.to_string())
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    finish(status, Script::plain(Bytes::new()))
}

pub(crate) fn with_type(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = finish(status, Script::plain(body));
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

pub(crate) fn finish(status: StatusCode, body: Script) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// A header's value of text that the server made itself; what cannot be one becomes nothing.
pub(crate) fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Answering cannot fail, except by a reset that a fault asks for.
pub(crate) enum Answer {
    Reply(Reply),
    Reset,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}
