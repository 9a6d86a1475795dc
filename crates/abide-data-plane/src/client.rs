//! A data plane over HTTP, for the plane above.
//!
//! Everything but a step may be asked again where no connection came about, and questions also where
//! one broke. A step is sent by [`DataPlaneClient::run`]; whoever calls it decides by the kind of
//! [`CallError`] whether it may have got there.

mod terminals;

use std::sync::Arc;
use std::time::Duration;

use abide_model::{
    AgentStep, AuthMode, PlaneNews, Problem, ProblemCode, RunStep, Runtime, STEP_FRAMES, Timestamp,
    WorkerId,
};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::Minter;
use crate::link::{CallError, Frames};
pub use crate::peer::{AgentTimes, Connections};
use crate::peer::{Peer, RequestParts, encode};
use crate::plane::CreateSession;
pub use crate::plane::mismatch;
use crate::trace::TraceContext;

/// Attempts to get a request there, with [`FIRST_BACKOFF`] after the first and twice as much after
/// each further one.
const ATTEMPTS: u32 = 3;
/// How long a data plane that is well may take to say so.
const HEALTHY_WITHIN: Duration = Duration::from_secs(5);
/// See [`ATTEMPTS`].
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// One data plane at a base URL; cheap to clone.
#[derive(Debug, Clone)]
pub struct DataPlaneClient {
    peer: Peer,
    minter: Option<Arc<Minter>>,
}

/// A session as the data plane shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteSession {
    /// Its id.
    pub id: String,
    /// `running`, `lost`, `crashed`, `expired`, `terminated`, …
    pub status: String,
    /// Its interpreter, or the one it had.
    pub worker_id: Option<WorkerId>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

/// Which output of a session is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputQuery {
    /// Whose; the present interpreter's if `None`.
    pub worker: Option<WorkerId>,
    /// First output offset; the earliest there is if `None`.
    pub from: Option<u64>,
    /// Output offset to stop at; what is there if `None`.
    pub end: Option<u64>,
    /// Goes on as more is written.
    pub follow: bool,
}

/// Output of a worker.
pub struct RemoteOutput {
    /// The earliest output offset there is.
    pub earliest: u64,
    /// Output offset after the last byte there was when it was asked for.
    pub head: u64,
    /// Output and gaps.
    pub frames: Frames,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateBody<'a> {
    session_id: &'a str,
    runtime: Runtime,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_ref: Option<&'a str>,
    scratch: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<i64>,
    sliding: bool,
    interpreter: bool,
}

impl DataPlaneClient {
    /// Of the data plane at `url`. `minter` shows who is asking; without one nothing is shown.
    pub fn new(connections: Connections, url: &str, minter: Option<Minter>) -> Self {
        Self {
            peer: Peer::new(connections, url, "data plane"),
            minter: minter.map(Arc::new),
        }
    }

    /// Base URL.
    pub fn endpoint(&self) -> &str {
        self.peer.endpoint()
    }

    /// Whether the data plane is shown who is asking.
    pub fn auth_mode(&self) -> AuthMode {
        match self.minter {
            Some(_) => AuthMode::Enforced,
            None => AuthMode::Bypass,
        }
    }

    /// Makes a session, or finds the one of the same id and runtime.
    ///
    /// # Errors
    /// What the data plane refuses; 503 `runtime_unreachable` if it cannot be reached.
    pub async fn create(
        &self,
        new: &CreateSession,
        trace: &TraceContext,
    ) -> Result<RemoteSession, Problem> {
        let body = encode(&CreateBody {
            session_id: &new.session_id,
            runtime: new.runtime,
            workspace_ref: new.workspace_ref.as_deref(),
            scratch: new.scratch,
            ttl_seconds: new.ttl_seconds,
            sliding: new.sliding,
            interpreter: new.interpreter,
        });
        self.repeated(Method::POST, "/sessions", trace, body, self.ready_within())
            .await
    }

    /// A session as it is.
    ///
    /// # Errors
    /// 404 `session_not_found`, those of [`Self::create`].
    pub async fn session(
        &self,
        session: &str,
        trace: &TraceContext,
    ) -> Result<RemoteSession, Problem> {
        let path = format!("/sessions/{session}");
        self.question(Method::GET, &path, trace).await
    }

    /// Up to a thousand sessions after the id `after`, in the order of their ids.
    ///
    /// # Errors
    /// Those of [`Self::create`].
    pub async fn sessions(
        &self,
        after: Option<&str>,
        trace: &TraceContext,
    ) -> Result<Vec<RemoteSession>, Problem> {
        let path = match after {
            Some(after) => format!("/sessions?after={after}"),
            None => "/sessions".to_owned(),
        };
        self.question(Method::GET, &path, trace).await
    }

    /// Gives a session a fresh interpreter.
    ///
    /// # Errors
    /// 404, 410, those of [`Self::create`].
    pub async fn restart(
        &self,
        session: &str,
        trace: &TraceContext,
    ) -> Result<RemoteSession, Problem> {
        let path = format!("/sessions/{session}/restart");
        let limit = self.ready_within();
        let answer = self
            .persist(false, || {
                let request = self.request(Method::POST, &path, trace);
                self.peer.json(request, Bytes::new(), limit)
            })
            .await;
        answer.map(|answered| answered.value).map_err(as_problem)
    }

    /// Ends a session at once; one that has ended stays so.
    ///
    /// # Errors
    /// 404, those of [`Self::create`].
    pub async fn terminate(&self, session: &str, trace: &TraceContext) -> Result<(), Problem> {
        let path = format!("/sessions/{session}/terminate");
        self.done(Method::POST, &path, trace).await
    }

    /// Interrupts what runs in a session.
    ///
    /// # Errors
    /// 404, 410, those of [`Self::create`].
    pub async fn interrupt(&self, session: &str, trace: &TraceContext) -> Result<(), Problem> {
        let path = format!("/sessions/{session}/interrupt");
        self.done(Method::POST, &path, trace).await
    }

    /// Runs a step. Answers once a runtime has it; its frames follow. With `output` they contain
    /// it, and the program waits for whoever reads them.
    ///
    /// # Errors
    /// [`CallError::Connect`]: nothing was done, also after some attempts. [`CallError::Broke`]: it
    /// may be under way; ask for it. [`CallError::Refused`].
    pub async fn run(
        &self,
        step: &RunStep,
        output: bool,
        trace: &TraceContext,
    ) -> Result<Frames, CallError> {
        let output = u8::from(output);
        let path = format!("/sessions/{}/steps?output={output}", step.session_id);
        let body = encode(step);
        let answered = self
            .persist(false, || {
                let request = self
                    .request(Method::POST, &path, trace)
                    .header(ACCEPT, STEP_FRAMES)
                    .sending_json();
                let body = body.clone();
                async { Ok(self.peer.frames(self.peer.ask(request, body).await?)) }
            })
            .await?;
        Ok(answered.value)
    }

    /// The frames of a step: with `output` from its first byte as they come; without, how it stands
    /// after at most `wait`, or at its end.
    ///
    /// # Errors
    /// Those of [`Self::run`]; nothing is ever started.
    pub async fn follow(
        &self,
        session: &str,
        step: &str,
        output: bool,
        wait: Duration,
        trace: &TraceContext,
    ) -> Result<Frames, CallError> {
        let path = if output {
            format!("/sessions/{session}/steps/{step}?output=1")
        } else {
            let wait = wait.as_millis();
            format!("/sessions/{session}/steps/{step}?wait_ms={wait}")
        };
        let request = self
            .request(Method::GET, &path, trace)
            .header(ACCEPT, STEP_FRAMES);
        let response = self.peer.ask(request, Bytes::new());
        // The head of an answer without output comes at the end of the wait.
        let limit = self.peer.answer_within() + wait;
        let response = match tokio::time::timeout(limit, response).await {
            Ok(response) => response?,
            Err(_) => return Err(self.peer.broke("no answer in time")),
        };
        Ok(self.peer.frames(response).value)
    }

    /// A step as it stands, or as it ended within `wait`.
    ///
    /// # Errors
    /// 404 `step_not_found`, those of [`Self::restart`].
    pub async fn step(
        &self,
        session: &str,
        step: &str,
        wait: Duration,
        trace: &TraceContext,
    ) -> Result<AgentStep, Problem> {
        let path = format!(
            "/sessions/{session}/steps/{step}?wait_ms={}",
            wait.as_millis()
        );
        let limit = self.peer.answer_within() + wait;
        self.repeated(Method::GET, &path, trace, Bytes::new(), limit)
            .await
    }

    /// Takes a step out of its queue, or interrupts it.
    ///
    /// # Errors
    /// Those of [`Self::step`].
    pub async fn cancel(
        &self,
        session: &str,
        step: &str,
        trace: &TraceContext,
    ) -> Result<AgentStep, Problem> {
        let path = format!("/sessions/{session}/steps/{step}");
        self.question(Method::DELETE, &path, trace).await
    }

    /// Output of a session's interpreter.
    ///
    /// # Errors
    /// 404 `worker_not_found`, those of [`Self::restart`].
    pub async fn output(
        &self,
        session: &str,
        query: &OutputQuery,
        trace: &TraceContext,
    ) -> Result<RemoteOutput, Problem> {
        let mut path = format!(
            "/sessions/{session}/output?follow={}",
            u8::from(query.follow)
        );
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        };
        add("worker", query.worker.map(|id| id.to_string()));
        add("from", query.from.map(|offset| offset.to_string()));
        add("end", query.end.map(|offset| offset.to_string()));
        let response = self
            .persist(true, || {
                self.peer
                    .ask(self.request(Method::GET, &path, trace), Bytes::new())
            })
            .await
            .map_err(as_problem)?;
        Ok(RemoteOutput {
            earliest: number(response.headers(), "x-output-earliest"),
            head: number(response.headers(), "x-output-head"),
            frames: self.peer.frames(response).value,
        })
    }

    /// Whether the data plane answers at all.
    ///
    /// # Errors
    /// See [`CallError`]. Asked once.
    pub async fn health(&self) -> Result<(), CallError> {
        let request = self.peer.request(Method::GET, "/healthz", None);
        let limit = self.peer.times().connect + HEALTHY_WITHIN;
        let answer = self.peer.done(request, limit).await;
        answer.map(|_| ())
    }

    /// What befell sessions after a number of an epoch, waited for at most `wait`; without one, or
    /// if the epoch is another by now, how far the numbers are.
    ///
    /// # Errors
    /// What the data plane refuses; 503 `runtime_unreachable`. Asked once.
    pub async fn news(
        &self,
        after: Option<(&str, u64)>,
        wait: Duration,
    ) -> Result<PlaneNews, Problem> {
        let path = match after {
            Some((epoch, after)) => {
                let wait = wait.as_millis();
                format!("/events?after={after}&epoch={epoch}&wait_ms={wait}")
            }
            None => "/events".to_owned(),
        };
        let trace = TraceContext::new(None, None);
        let request = self.request(Method::GET, &path, &trace);
        let limit = self.peer.answer_within() + wait;
        let answer = self.peer.json(request, Bytes::new(), limit).await;
        answer.map(|answered| answered.value).map_err(as_problem)
    }

    fn request(&self, method: Method, path: &str, trace: &TraceContext) -> RequestParts {
        let request = self.peer.request(method, path, Some(trace));
        match &self.minter {
            Some(minter) => request.header(AUTHORIZATION, &minter.authorization()),
            None => request,
        }
    }

    fn ready_within(&self) -> Duration {
        self.peer.times().connect + self.peer.times().ready
    }

    async fn question<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        trace: &TraceContext,
    ) -> Result<T, Problem> {
        let limit = self.peer.answer_within();
        self.repeated(method, path, trace, Bytes::new(), limit)
            .await
    }

    /// A request that may be made twice.
    async fn repeated<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        trace: &TraceContext,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, Problem> {
        let answer = self
            .persist(true, || {
                let request = self.request(method.clone(), path, trace).sending_json();
                self.peer.json(request, body.clone(), limit)
            })
            .await;
        answer.map(|answered| answered.value).map_err(as_problem)
    }

    async fn done(&self, method: Method, path: &str, trace: &TraceContext) -> Result<(), Problem> {
        let limit = self.peer.answer_within();
        let answer = self
            .persist(true, || {
                let request = self.request(method.clone(), path, trace);
                self.peer.done(request, limit)
            })
            .await;
        answer.map(|_| ()).map_err(as_problem)
    }

    async fn persist<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        repeat: bool,
        call: impl Fn() -> F,
    ) -> Result<T, CallError> {
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match &error {
                CallError::Connect { .. } => true,
                CallError::Broke { .. } => repeat,
                // It may have begun before it was told to stop.
                CallError::Refused { problem, .. } => repeat && problem.code == "shutting_down",
            };
            if !again || attempt >= ATTEMPTS {
                return Err(error);
            }
            let pause = FIRST_BACKOFF * 2_u32.pow(attempt - 1);
            // A little longer, so that those who failed together do not come back together.
            tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
            attempt += 1;
        }
    }
}

/// What a client above hears of a failed exchange: what the data plane refused as it is, and 503
/// where it could not be reached.
pub fn as_problem(error: CallError) -> Problem {
    let chain = error.chain();
    match error {
        CallError::Connect { .. } => {
            tracing::warn!(error = %chain, "the data plane cannot be reached");
            Problem::new(
                ProblemCode::RuntimeUnreachable,
                "the data plane is not reachable; nothing was done",
            )
            .with_details(json!({ "attempts": ATTEMPTS, "sent": false }))
        }
        CallError::Broke { .. } => {
            tracing::warn!(error = %chain, "an exchange with the data plane broke off");
            Problem::new(
                ProblemCode::RuntimeUnreachable,
                "the data plane did not answer; whether it did what was asked is not known",
            )
            .with_details(json!({ "attempts": 1, "sent": true }))
        }
        // About this plane, not about the client.
        CallError::Refused { problem, .. } if matches!(problem.status, 401 | 403) => {
            tracing::error!(message = %problem.message, "the data plane does not let us in");
            Problem::new(
                ProblemCode::RuntimeUnreachable,
                "the data plane does not accept this control plane's credentials",
            )
            .with_details(json!({ "attempts": 1, "sent": false }))
        }
        CallError::Refused { problem, .. } => *problem,
    }
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl std::fmt::Debug for RemoteOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteOutput")
            .field("earliest", &self.earliest)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}
