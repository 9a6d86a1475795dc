//! Requests that are handed on to the plane below as they are, WebSockets included.

mod tunnel;

use std::sync::Arc;

use abide_session_agent::Tasks;
use axum::body::Body;
use bytes::Bytes;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// What is handed on.
#[derive(Clone)]
pub struct Forward {
    /// `GET`, `POST`, …
    pub method: Method,
    /// What follows the path of the session's workers, query included.
    pub rest: String,
    /// Of the request; those that concern the plane below go on.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
    /// The client's connection, if it is to become a WebSocket.
    pub upgrade: Option<OnUpgrade>,
    /// Told of bytes that went to the client over a WebSocket.
    pub sent: Option<Sent>,
}

/// Takes a count of bytes.
pub type Sent = Arc<dyn Fn(usize) + Send + Sync>;

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Forward");
        shown.field("method", &self.method);
        shown.field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl Forward {
    /// A request of our own making.
    pub fn new(method: Method, rest: String, body: Bytes) -> Self {
        Self {
            method,
            rest,
            headers: HeaderMap::new(),
            body,
            upgrade: None,
            sent: None,
        }
    }

    /// A client's request, by another path. `rest`: see [`Self::rest`].
    pub fn of_request(parts: &Parts, rest: String, body: Bytes) -> Self {
        Self {
            method: parts.method.clone(),
            rest,
            headers: parts.headers.clone(),
            body,
            upgrade: parts.extensions.get().cloned(),
            sent: None,
        }
    }

    /// The headers that go on.
    pub(crate) fn handed_on(&self) -> HeaderMap {
        let upgrades = self.upgrade.is_some();
        let goes_on = |name: &HeaderName| {
            [CONTENT_TYPE, ACCEPT].contains(name) || upgrades && is_of_websocket(name)
        };
        selected(&self.headers, goes_on)
    }
}

/// Headers by which a connection becomes a WebSocket.
fn is_of_websocket(name: &HeaderName) -> bool {
    *name == CONNECTION || *name == UPGRADE || name.as_str().starts_with("sec-websocket-")
}

fn selected(headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let headers = headers.iter().filter(|(name, _)| wanted(name));
    headers
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The answer of the plane below as one of ours. Where that turned its connection into a WebSocket,
/// the client's becomes one, and what comes over either goes out over the other, until one of them
/// ends or `tasks` are stopped, which the client is told.
pub(crate) fn answer(
    mut below: Response<Body>,
    forward: &Forward,
    tasks: &Tasks,
) -> Response<Body> {
    let switches = below.status() == StatusCode::SWITCHING_PROTOCOLS;
    // A service of this process has taken the client's connection itself.
    let is_elsewhere = below.extensions().get::<OnUpgrade>().is_some();
    if switches
        && is_elsewhere
        && let Some(above) = forward.upgrade.clone()
    {
        let below = hyper::upgrade::on(&mut below);
        let (stopping, sent) = (tasks.stopping(), forward.sent.clone());
        tasks.spawn("attachment", async move {
            if let Err(error) = join(above, below, sent, stopping).await {
                // Whichever of them it was, the other has nobody left.
                debug!(%error, "an attachment broke off");
            }
        });
    }
    let (mut parts, body) = below.into_parts();
    parts.headers = selected(&parts.headers, |name| {
        if switches {
            is_of_websocket(name)
        } else {
            [CONTENT_TYPE, CONTENT_LENGTH].contains(name)
        }
    });
    Response::from_parts(parts, body)
}

async fn join(
    above: OnUpgrade,
    below: OnUpgrade,
    sent: Option<Sent>,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let both = async { tokio::try_join!(above, below) };
    let both = tokio::select! {
        both = both => both,
        () = stopping.cancelled() => return Ok(()),
    };
    let (above, below) = both.map_err(std::io::Error::other)?;
    tunnel::join(TokioIo::new(above), TokioIo::new(below), sent, stopping).await
}
