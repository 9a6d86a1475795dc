//! Requests that are handed on to the plane below as they are, WebSockets included.

use abide_session_agent::Tasks;
use axum::body::Body;
use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tracing::debug;

/// What is handed on.
#[derive(Debug, Clone)]
pub struct Forward {
    /// `GET`, `POST`, …
    pub method: Method,
    /// What follows the worker collection's path, query included.
    pub rest: String,
    /// Of the request; those that concern the plane below go on.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
    /// The client's connection, if it is to become a WebSocket.
    pub upgrade: Option<OnUpgrade>,
}

/// Headers that mean something to whoever answers in the end.
const HANDED_ON: [HeaderName; 5] = [
    CONTENT_TYPE,
    HeaderName::from_static("range"),
    HeaderName::from_static("accept"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("idempotency-key"),
];

impl Forward {
    /// A request below `/sessions/{id}/workers`; `None` if it is none.
    pub fn of_workers(parts: &Parts, body: Bytes) -> Option<Self> {
        let path = parts.uri.path_and_query()?.as_str();
        let rest = path.splitn(4, '/').nth(3)?.strip_prefix("workers")?;
        Some(Self {
            method: parts.method.clone(),
            rest: rest.to_owned(),
            headers: parts.headers.clone(),
            body,
            upgrade: parts.extensions.get().cloned(),
        })
    }

    /// The headers that go on.
    pub(crate) fn handed_on(&self) -> HeaderMap {
        let upgrades = self.upgrade.is_some();
        let goes_on = |name: &HeaderName| {
            HANDED_ON.contains(name)
                || upgrades && (is_of_websocket(name) || *name == CONNECTION || *name == UPGRADE)
        };
        let headers = self.headers.iter().filter(|(name, _)| goes_on(name));
        headers
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

fn is_of_websocket(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
}

/// The answer of the plane below as one of ours. Where that turned its connection into a WebSocket,
/// the client's becomes one, and what comes over either goes out over the other, until one of them
/// ends or `tasks` are stopped.
pub(crate) fn answer(
    mut below: Response<Body>,
    upgrade: Option<OnUpgrade>,
    tasks: &Tasks,
) -> Response<Body> {
    // A service of this process has taken the client's connection itself.
    let is_elsewhere = below.extensions().get::<OnUpgrade>().is_some();
    if below.status() == StatusCode::SWITCHING_PROTOCOLS
        && is_elsewhere
        && let Some(upgrade) = upgrade
    {
        let below = hyper::upgrade::on(&mut below);
        let stopping = tasks.stopping();
        tasks.spawn("attachment", async move {
            let joined = async {
                let (above, below) = tokio::try_join!(upgrade, below)?;
                let (mut above, mut below) = (TokioIo::new(above), TokioIo::new(below));
                let copied = tokio::io::copy_bidirectional(&mut above, &mut below).await;
                // However one of them ended, the other has nobody left.
                if let Err(error) = copied {
                    debug!(%error, "an attachment broke off");
                }
                Ok::<_, hyper::Error>(())
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                joined = joined => if let Err(error) = joined {
                    debug!(%error, "no attachment came about");
                }
            }
        });
    }
    // Of the connection below, except where it stands for ours.
    let switches = below.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = below.headers_mut();
    headers.remove("transfer-encoding");
    headers.remove("x-request-id");
    if !switches {
        headers.remove(CONNECTION);
    }
    below
}
