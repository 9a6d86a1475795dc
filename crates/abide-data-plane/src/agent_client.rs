//! A session agent over HTTP.
//!
//! What matters is how an exchange failed: only if no connection came about is it certain that
//! nothing was done. A connection from the pool that turns out to be closed before anything was
//! written counts as none, and another one is opened.

mod lines;

use std::time::Duration;

use abide_model::{
    AgentHealth, AgentSession, AgentStep, BOOT_ID_HEADER, Problem, ProblemCode, RegisterSession,
    RunStep, SESSION_TOKEN_HEADER, STEP_FRAMES, WorkerExit,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;

use crate::link::{AgentLink, Answered, Call, CallError, Caller, Frames, PassedOn};
use crate::trace::{REQUEST_ID_HEADER, TRACEPARENT_HEADER};

/// Largest answer that is read whole. Step answers carry two views of 64 KiB, escaped.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// How long to wait for a session agent.
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

/// Opens connections for the clients of every agent; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections {
    client: Client<HttpConnector, Full<Bytes>>,
    times: AgentTimes,
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
        Self { client, times }
    }
}

/// One session agent at a base URL.
#[derive(Clone)]
pub struct AgentClient {
    connections: Connections,
    endpoint: String,
    secret: Option<String>,
}

impl AgentClient {
    /// Of the agent at `endpoint`, such as `http://127.0.0.1:9000`, which may have a secret.
    pub fn new(connections: Connections, endpoint: &str, secret: Option<String>) -> Self {
        Self {
            connections,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            secret: secret.filter(|secret| !secret.is_empty()),
        }
    }

    fn broke(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
        CallError::Broke {
            endpoint: self.endpoint.clone(),
            source: source.into(),
        }
    }

    fn request(&self, method: Method, path: &str, caller: Option<Caller<'_>>) -> RequestParts {
        let mut request = Request::builder().method(method).uri(
            format!("{}{path}", self.endpoint)
                .parse::<Uri>()
                .unwrap_or_default(),
        );
        if let Some(caller) = caller {
            request = request
                .header(REQUEST_ID_HEADER, &caller.trace.request_id)
                .header(TRACEPARENT_HEADER, caller.trace.traceparent());
            if !caller.token.is_empty() {
                request = request.header(SESSION_TOKEN_HEADER, caller.token);
            }
        }
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, format!("Bearer {secret}"));
        }
        RequestParts(request)
    }

    /// Sends and returns the head of the answer, whatever its status.
    async fn send(
        &self,
        request: RequestParts,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let request = request
            .0
            .body(Full::new(body))
            .map_err(|error| CallError::Connect {
                endpoint: self.endpoint.clone(),
                source: error.into(),
            })?;
        self.connections
            .client
            .request(request)
            .await
            .map_err(|error| {
                if error.is_connect() {
                    CallError::Connect {
                        endpoint: self.endpoint.clone(),
                        source: error.into(),
                    }
                } else {
                    self.broke(error)
                }
            })
    }

    /// Sends, and turns a refusal into an error.
    async fn ask(
        &self,
        request: RequestParts,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let response = self.send(request, body).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let boot_id = boot_id(&response);
        let body = self.whole(response).await?;
        Err(CallError::Refused {
            problem: Box::new(problem(status, &body)),
            boot_id,
        })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, CallError> {
        let body = Limited::new(response.into_body(), LARGEST_ANSWER);
        Ok(body.collect().await.map_err(|e| self.broke(e))?.to_bytes())
    }

    /// Sends and reads the answer, all within `limit`.
    async fn json<T: DeserializeOwned>(
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
    async fn done(
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

    fn frames(&self, response: Response<Incoming>) -> Answered<Frames> {
        Answered {
            boot_id: boot_id(&response),
            value: lines::frames(response.into_body(), self.endpoint.clone()),
        }
    }

    fn step_path(caller: Caller<'_>, step: &str, rest: &str) -> String {
        format!("/v1/sessions/{}/steps/{step}{rest}", caller.session)
    }

    fn answer_within(&self) -> Duration {
        self.connections.times.connect + self.connections.times.answer
    }
}

/// A request whose body is to come.
struct RequestParts(hyper::http::request::Builder);

impl RequestParts {
    fn header(self, name: impl AsRef<str>, value: &str) -> Self {
        Self(self.0.header(name.as_ref(), value))
    }

    fn sending_json(self) -> Self {
        self.header(CONTENT_TYPE, "application/json")
    }
}

impl AgentLink for AgentClient {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn health(&self) -> Call<'_, Answered<AgentHealth>> {
        Box::pin(async {
            let request = self.request(Method::GET, "/v1/health", None);
            self.json(request, Bytes::new(), self.answer_within()).await
        })
    }

    fn register<'a>(
        &'a self,
        new: &'a RegisterSession,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<AgentSession>> {
        Box::pin(async move {
            let request = self
                .request(Method::POST, "/v1/sessions", Some(caller))
                .sending_json();
            let limit = self.connections.times.connect + self.connections.times.ready;
            self.json(request, encode(new), limit).await
        })
    }

    fn session<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<AgentSession>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}", caller.session);
            let request = self.request(Method::GET, &path, Some(caller));
            self.json(request, Bytes::new(), self.answer_within()).await
        })
    }

    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        output: bool,
        boot_id: &'a str,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<Frames>> {
        Box::pin(async move {
            let path = if output {
                "/v1/steps?output=1"
            } else {
                "/v1/steps"
            };
            let request = self
                .request(Method::POST, path, Some(caller))
                .header(BOOT_ID_HEADER, boot_id)
                .header(ACCEPT, STEP_FRAMES)
                .sending_json();
            let response = self.ask(request, encode(step)).await?;
            Ok(self.frames(response))
        })
    }

    fn hand_over<'a>(
        &'a self,
        step: &'a RunStep,
        boot_id: &'a str,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<AgentStep>> {
        Box::pin(async move {
            let request = self
                .request(Method::POST, "/v1/steps?wait=0", Some(caller))
                .header(BOOT_ID_HEADER, boot_id)
                .sending_json();
            self.json(request, encode(step), self.answer_within()).await
        })
    }

    fn follow<'a>(
        &'a self,
        step: &'a str,
        wait: Duration,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<Frames>> {
        Box::pin(async move {
            let query = format!("?wait_ms={}", wait.as_millis());
            let path = Self::step_path(caller, step, &query);
            let request = self
                .request(Method::GET, &path, Some(caller))
                .header(ACCEPT, STEP_FRAMES);
            let response = self.ask(request, Bytes::new()).await?;
            Ok(self.frames(response))
        })
    }

    fn step<'a>(
        &'a self,
        step: &'a str,
        wait: Duration,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<AgentStep>> {
        Box::pin(async move {
            let query = format!("?wait_ms={}", wait.as_millis());
            let path = Self::step_path(caller, step, &query);
            let request = self.request(Method::GET, &path, Some(caller));
            let limit = self.answer_within() + wait;
            self.json(request, Bytes::new(), limit).await
        })
    }

    fn tell_step<'a>(
        &'a self,
        step: &'a str,
        query: &'a str,
        accept: &'a str,
        caller: Caller<'a>,
    ) -> Call<'a, PassedOn> {
        Box::pin(async move {
            let path = Self::step_path(caller, step, &format!("?{query}"));
            let request = self
                .request(Method::GET, &path, Some(caller))
                .header(ACCEPT, accept);
            let response = self.ask(request, Bytes::new()).await?;
            Ok(passed_on(response, self.endpoint.clone()))
        })
    }

    fn cancel<'a>(&'a self, step: &'a str, caller: Caller<'a>) -> Call<'a, Answered<AgentStep>> {
        Box::pin(async move {
            let path = Self::step_path(caller, step, "");
            let request = self.request(Method::DELETE, &path, Some(caller));
            self.json(request, Bytes::new(), self.answer_within()).await
        })
    }

    fn interrupt<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<()>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/interrupt", caller.session);
            let request = self.request(Method::POST, &path, Some(caller));
            self.done(request, self.answer_within()).await
        })
    }

    fn restart<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<AgentSession>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/restart", caller.session);
            let request = self.request(Method::POST, &path, Some(caller));
            let limit = self.connections.times.connect + self.connections.times.ready;
            self.json(request, Bytes::new(), limit).await
        })
    }

    fn terminate<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<()>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/terminate", caller.session);
            let request = self.request(Method::POST, &path, Some(caller));
            self.done(request, self.answer_within()).await
        })
    }

    fn output_frames<'a>(&'a self, query: &'a str, caller: Caller<'a>) -> Call<'a, Frames> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/output?{query}", caller.session);
            let request = self.request(Method::GET, &path, Some(caller));
            let response = self.ask(request, Bytes::new()).await?;
            Ok(self.frames(response).value)
        })
    }

    fn output<'a>(&'a self, query: &'a str, caller: Caller<'a>) -> Call<'a, PassedOn> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/output?{query}", caller.session);
            let request = self.request(Method::GET, &path, Some(caller));
            let response = self.ask(request, Bytes::new()).await?;
            Ok(passed_on(response, self.endpoint.clone()))
        })
    }

    fn sessions(&self) -> Call<'_, Answered<Vec<AgentSession>>> {
        Box::pin(async {
            let request = self.request(Method::GET, "/v1/sessions", None);
            self.json(request, Bytes::new(), self.answer_within()).await
        })
    }

    fn exits(&self, after: u64, wait: Duration) -> Call<'_, Answered<Vec<WorkerExit>>> {
        Box::pin(async move {
            let path = format!("/v1/exits?after={after}&wait_ms={}", wait.as_millis());
            let request = self.request(Method::GET, &path, None);
            let limit = self.answer_within() + wait;
            self.json(request, Bytes::new(), limit).await
        })
    }

    fn is_ours(&self) -> bool {
        self.secret.is_some()
    }
}

impl std::fmt::Debug for AgentClient {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentClient")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

fn encode(value: &impl serde::Serialize) -> Bytes {
    // Maps with keys that are no text cannot be encoded; there are none.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn boot_id(response: &Response<Incoming>) -> String {
    response
        .headers()
        .get(BOOT_ID_HEADER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// What a refusal says, also where its body is no problem document.
fn problem(status: StatusCode, body: &[u8]) -> Problem {
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
    let mut problem = Problem::new(code, format!("the session agent answered {status}: {text}"));
    problem.status = status.as_u16();
    problem
}

/// Headers of an output answer that mean something to the client.
fn passed_on(response: Response<Incoming>, endpoint: String) -> PassedOn {
    let headers = response
        .headers()
        .iter()
        .filter(|(name, _)| *name == CONTENT_TYPE || name.as_str().starts_with("x-output-"))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    PassedOn {
        status: response.status().as_u16(),
        headers,
        body: lines::data(response.into_body(), endpoint).boxed(),
    }
}
