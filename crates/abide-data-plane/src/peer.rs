//! One server of the plane below: requests to it, and how they fail.
//!
//! It is reached over HTTP, or it is a service of this process, which is asked without a connection.
//!
//! What matters is how an exchange failed: only if no connection came about is it certain that
//! nothing was done. A connection from the pool that turns out to be closed before anything was
//! written counts as none, and another one is opened.

use std::time::Duration;

use abide_model::{BOOT_ID_HEADER, Problem, ProblemCode};
use abide_session_agent::Tasks;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tower::ServiceExt as _;

use crate::attachment::RemoteAttachment;
use crate::forward::{self, Forward};
use crate::lines;
use crate::link::{Answered, CallError, Frames};
use crate::trace::{REQUEST_ID_HEADER, TRACEPARENT_HEADER, TraceContext};

/// Largest answer that is read whole. Step answers carry two views of 64 KiB, escaped.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// As many as a step's request has, so that room for them is made once.
const HEADERS: usize = 12;

const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);
const TRACEPARENT: HeaderName = HeaderName::from_static(TRACEPARENT_HEADER);
pub(crate) const BOOT_ID: HeaderName = HeaderName::from_static(BOOT_ID_HEADER);

/// How long to wait for the plane below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentTimes {
    /// For a connection.
    pub connect: Duration,
    /// For the answer to a question; what the question itself allows comes on top.
    pub answer: Duration,
    /// For an interpreter to be started.
    pub ready: Duration,
    /// How long idle connections are kept: shorter than servers commonly do, so that a request
    /// rarely meets a connection that is being closed. Zero: not at all.
    pub idle: Duration,
}

impl Default for AgentTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(5),
            ready: Duration::from_secs(60),
            idle: Duration::from_secs(15),
        }
    }
}

/// Opens connections for the clients of the planes below; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections {
    way: Way,
    times: AgentTimes,
}

/// How requests get to where they are answered.
#[derive(Debug, Clone)]
enum Way {
    Http(Client<HttpConnector, Full<Bytes>>),
    /// Within this process.
    Here(Router),
}

impl Connections {
    /// An empty pool.
    pub fn new(times: AgentTimes) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(times.connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(times.idle)
            .pool_max_idle_per_host(if times.idle.is_zero() { 0 } else { usize::MAX })
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            way: Way::Http(client),
            times,
        }
    }

    /// Not connections at all: every request is answered by `service`, which is of this process.
    pub const fn within(service: Router, times: AgentTimes) -> Self {
        Self {
            way: Way::Here(service),
            times,
        }
    }
}

impl Way {
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, SendError> {
        match self {
            Self::Http(client) => {
                let answer = client.request(request).await;
                answer
                    .map(|response| response.map(Body::new))
                    .map_err(|error| SendError {
                        connected: !error.is_connect(),
                        source: error.into(),
                    })
            }
            Self::Here(service) => {
                // Nothing in between waits: who asks over and over lets others have their turn.
                tokio::task::coop::consume_budget().await;
                let mut request = request.map(Body::new);
                let here = HeaderValue::from_static("localhost");
                request.headers_mut().insert(HOST, here);
                match service.clone().oneshot(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
        }
    }
}

/// No answer.
struct SendError {
    /// Bytes may have got there.
    connected: bool,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// One server at a base URL.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    connections: Connections,
    endpoint: String,
    /// What it is, in sentences.
    what: &'static str,
}

impl Peer {
    /// The `what` at `endpoint`.
    pub(crate) fn new(connections: Connections, endpoint: &str, what: &'static str) -> Self {
        Self {
            connections,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            what,
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) const fn times(&self) -> &AgentTimes {
        &self.connections.times
    }

    /// How long the answer to a plain question may take.
    pub(crate) fn answer_within(&self) -> Duration {
        self.connections.times.connect + self.connections.times.answer
    }

    pub(crate) fn broke(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> CallError {
        CallError::Broke {
            endpoint: self.endpoint.clone(),
            source: source.into(),
        }
    }

    /// A request that names whom it is made for.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        trace: Option<&TraceContext>,
    ) -> RequestParts {
        let uri = format!("{}{path}", self.endpoint);
        let mut request = Request::builder()
            .method(method)
            .uri(Uri::from_maybe_shared(uri).unwrap_or_default());
        if let Some(headers) = request.headers_mut() {
            headers.reserve(HEADERS);
        }
        let request = RequestParts(request);
        match trace {
            Some(trace) => request
                .header(REQUEST_ID, &trace.request_id)
                .header(TRACEPARENT, &trace.traceparent()),
            None => request,
        }
    }

    /// Sends and returns the head of the answer, whatever its status.
    async fn send(&self, request: RequestParts, body: Bytes) -> Result<Response<Body>, CallError> {
        let request = request
            .0
            .body(Full::new(body))
            .map_err(|error| CallError::Connect {
                endpoint: self.endpoint.clone(),
                source: error.into(),
            })?;
        let answer = self.connections.way.send(request).await;
        answer.map_err(|error| {
            if error.connected {
                return self.broke(error.source);
            }
            CallError::Connect {
                endpoint: self.endpoint.clone(),
                source: error.source,
            }
        })
    }

    /// Sends, and turns a refusal into an error.
    pub(crate) async fn ask(
        &self,
        request: RequestParts,
        body: Bytes,
    ) -> Result<Response<Body>, CallError> {
        let response = self.send(request, body).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await?)
    }

    /// Hands a request on and returns the answer, which may be a WebSocket that is joined to the
    /// client's by one of `tasks`. A refusal is an error.
    pub(crate) async fn forward(
        &self,
        mut request: RequestParts,
        forward: &Forward,
        tasks: &Tasks,
    ) -> Result<Response<Body>, CallError> {
        if let Some(headers) = request.0.headers_mut() {
            headers.extend(forward.handed_on());
        }
        if let Some(upgrade) = &forward.upgrade {
            // For a service of this process.
            request = RequestParts(request.0.extension(upgrade.clone()));
        }
        let response = self.send(request, forward.body.clone()).await?;
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !switches && !response.status().is_success() {
            return Err(self.refused(response).await?);
        }
        Ok(forward::answer(response, forward, tasks))
    }

    /// Asks for an attachment.
    pub(crate) async fn attach(
        &self,
        request: RequestParts,
    ) -> Result<RemoteAttachment, CallError> {
        let request = request
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &generate_key());
        let exchange = async {
            let response = self.send(request, Bytes::new()).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(self.refused(response).await?);
            }
            let connection = hyper::upgrade::on(response).await;
            connection.map_err(|error| self.broke(error))
        };
        let connection = tokio::time::timeout(self.answer_within(), exchange).await;
        let connection = connection.unwrap_or_else(|_| Err(self.broke("no answer in time")))?;
        Ok(RemoteAttachment::over(connection).await)
    }

    /// What a refusal says.
    async fn refused(&self, response: Response<Body>) -> Result<CallError, CallError> {
        let (status, boot_id) = (response.status(), boot_id(&response));
        let body = self.whole(response).await?;
        Ok(CallError::Refused {
            problem: Box::new(problem(self.what, status, &body)),
            boot_id,
        })
    }

    async fn whole(&self, response: Response<Body>) -> Result<Bytes, CallError> {
        let body = Limited::new(response.into_body(), LARGEST_ANSWER);
        Ok(body.collect().await.map_err(|e| self.broke(e))?.to_bytes())
    }

    /// Sends and reads the answer, all within `limit`.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestParts,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answered<T>, CallError> {
        let exchange = async {
            let response = self.ask(request, body).await?;
            let boot_id = boot_id(&response);
            let body = self.whole(response).await?;
            let value = serde_json::from_slice(&body).map_err(|error| self.broke(error))?;
            Ok(Answered { value, boot_id })
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(self.broke("no answer in time")))
    }

    /// Like [`Self::json`], for answers whose body says nothing.
    pub(crate) async fn done(
        &self,
        request: RequestParts,
        limit: Duration,
    ) -> Result<Answered<()>, CallError> {
        let exchange = async {
            let response = self.ask(request, Bytes::new()).await?;
            let boot_id = boot_id(&response);
            self.whole(response).await?;
            Ok(Answered { value: (), boot_id })
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(self.broke("no answer in time")))
    }

    /// The body of an answer as frames.
    pub(crate) fn frames(&self, response: Response<Body>) -> Answered<Frames> {
        Answered {
            boot_id: boot_id(&response),
            value: lines::frames(response.into_body(), self.endpoint.clone()),
        }
    }
}

/// A request whose body is to come.
pub(crate) struct RequestParts(hyper::http::request::Builder);

impl RequestParts {
    pub(crate) fn header(self, name: HeaderName, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn sending_json(self) -> Self {
        self.header(CONTENT_TYPE, "application/json")
    }
}

/// A value as a body.
pub(crate) fn encode(value: &impl serde::Serialize) -> Bytes {
    // Maps with keys that are no text cannot be encoded; there are none.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn boot_id(response: &Response<Body>) -> String {
    response
        .headers()
        .get(BOOT_ID)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// What a refusal says, also where its body is no problem document.
fn problem(what: &str, status: StatusCode, body: &[u8]) -> Problem {
    if let Ok(problem) = serde_json::from_slice(body) {
        return problem;
    }
    let text: String = String::from_utf8_lossy(body)
        .trim()
        .chars()
        .take(400)
        .collect();
    let code = match status.as_u16() {
        401 | 403 => ProblemCode::InvalidSessionToken,
        404 => ProblemCode::SessionNotFound,
        409 => ProblemCode::RuntimeMismatch,
        413 => ProblemCode::BodyTooLarge,
        429 => ProblemCode::LimitReached,
        400..500 => ProblemCode::InvalidInput,
        _ => ProblemCode::Internal,
    };
    let mut problem = Problem::new(code, format!("the {what} answered {status}: {text}"));
    problem.status = status.as_u16();
    problem
}
