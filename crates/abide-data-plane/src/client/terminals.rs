//! Terminals of a data plane.

use abide_model::{Problem, StartTerminal, TerminalState, WorkerId};
use abide_session_agent::Tasks;
use axum::body::Body;
use bytes::Bytes;
use hyper::{Method, Response};

use super::{DataPlaneClient, as_problem};
use crate::attachment::RemoteAttachment;
use crate::forward::Forward;
use crate::peer::encode;
use crate::trace::TraceContext;

impl DataPlaneClient {
    /// Hands on a request about a session's workers. Where the answer is a WebSocket, one of `tasks`
    /// joins it to the client's.
    ///
    /// # Errors
    /// What is refused below; 503 `runtime_unreachable`.
    pub async fn forward(
        &self,
        session: &str,
        forward: &Forward,
        tasks: &Tasks,
        trace: &TraceContext,
    ) -> Result<Response<Body>, Problem> {
        let path = format!("/sessions/{session}/workers{}", forward.rest);
        let repeat = forward.method == Method::GET;
        let answer = self
            .persist(repeat, || {
                let request = self.request(forward.method.clone(), &path, trace);
                self.peer.forward(request, forward, tasks)
            })
            .await;
        answer.map_err(as_problem)
    }

    /// Attaches to a terminal; `query` is that of [`abide_session_agent::http::query_of`].
    ///
    /// # Errors
    /// Those of [`Self::forward`].
    pub async fn attach(
        &self,
        session: &str,
        worker: WorkerId,
        query: &str,
        trace: &TraceContext,
    ) -> Result<RemoteAttachment, Problem> {
        let path = format!("/sessions/{session}/workers/{worker}/attach?{query}");
        let answer = self
            .persist(true, || {
                let request = self.request(Method::GET, &path, trace);
                self.peer.attach(request)
            })
            .await;
        answer.map_err(as_problem)
    }

    /// Starts a program on a terminal.
    ///
    /// # Errors
    /// 404, 410, 429, those of [`Self::create`].
    pub async fn start_terminal(
        &self,
        session: &str,
        new: &StartTerminal,
        trace: &TraceContext,
    ) -> Result<TerminalState, Problem> {
        let path = format!("/sessions/{session}/workers");
        let limit = self.ready_within();
        self.repeated(Method::POST, &path, trace, encode(new), limit)
            .await
    }

    /// A terminal as it stands.
    ///
    /// # Errors
    /// 404 `worker_not_found`, those of [`Self::session`].
    pub async fn terminal(
        &self,
        session: &str,
        worker: WorkerId,
        trace: &TraceContext,
    ) -> Result<TerminalState, Problem> {
        let path = format!("/sessions/{session}/workers/{worker}");
        self.question(Method::GET, &path, trace).await
    }

    /// Ends a terminal's whole process tree, and with `forget` removes what it left; as it ended.
    ///
    /// # Errors
    /// Those of [`Self::terminal`].
    pub async fn end_terminal(
        &self,
        session: &str,
        worker: WorkerId,
        forget: bool,
        trace: &TraceContext,
    ) -> Result<TerminalState, Problem> {
        let path = format!("/sessions/{session}/workers/{worker}");
        let (method, path) = if forget {
            (Method::DELETE, path)
        } else {
            (Method::POST, format!("{path}/stop"))
        };
        // Programs are given time to end.
        let limit = self.ready_within();
        self.repeated(method, &path, trace, Bytes::new(), limit)
            .await
    }

    /// A session's terminals as they stand.
    ///
    /// # Errors
    /// Those of [`Self::session`].
    pub async fn terminals_of(
        &self,
        session: &str,
        trace: &TraceContext,
    ) -> Result<Vec<TerminalState>, Problem> {
        let path = format!("/sessions/{session}/workers");
        self.question(Method::GET, &path, trace).await
    }

    /// The terminals of all sessions, as they stand.
    ///
    /// # Errors
    /// 503 also where one of the runtimes does not tell.
    pub async fn terminals(&self, trace: &TraceContext) -> Result<Vec<TerminalState>, Problem> {
        self.question(Method::GET, "/workers", trace).await
    }
}
