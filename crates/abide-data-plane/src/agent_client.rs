//! A session agent over HTTP, or within this process.

use std::time::Duration;

use abide_model::{
    AgentHealth, AgentSession, AgentStep, RegisterSession, RunStep, SESSION_TOKEN_HEADER,
    STEP_FRAMES, TerminalState, WorkerNews,
};
use abide_session_agent::Tasks;
use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use hyper::{Method, Response};

use crate::forward::Forward;
use crate::lines;
use crate::link::{AgentLink, Answered, Call, Caller, Frames, PassedOn};
pub use crate::peer::{AgentTimes, Connections};
use crate::peer::{BOOT_ID, Peer, RequestParts, encode};

const SESSION_TOKEN: HeaderName = HeaderName::from_static(SESSION_TOKEN_HEADER);

/// One session agent at a base URL.
#[derive(Clone)]
pub struct AgentClient {
    peer: Peer,
    secret: Option<String>,
}

impl AgentClient {
    /// Of the agent at `endpoint`, such as `http://127.0.0.1:9000`, which may have a secret. Within this
    /// process the endpoint is only a name: `in-process://NAME`.
    pub fn new(connections: Connections, endpoint: &str, secret: Option<String>) -> Self {
        Self {
            peer: Peer::new(connections, endpoint, "session agent"),
            secret: secret.filter(|secret| !secret.is_empty()),
        }
    }

    fn request(&self, method: Method, path: &str, caller: Option<Caller<'_>>) -> RequestParts {
        let trace = caller.map(|caller| caller.trace);
        let mut request = self.peer.request(method, path, trace);
        if let Some(caller) = caller.filter(|caller| !caller.token.is_empty()) {
            request = request.header(SESSION_TOKEN, caller.token);
        }
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, &format!("Bearer {secret}"));
        }
        request
    }

    fn step_path(caller: Caller<'_>, step: &str, rest: &str) -> String {
        format!("/v1/sessions/{}/steps/{step}{rest}", caller.session)
    }
}

impl AgentLink for AgentClient {
    fn endpoint(&self) -> &str {
        self.peer.endpoint()
    }

    fn health(&self) -> Call<'_, Answered<AgentHealth>> {
        Box::pin(async {
            let request = self.request(Method::GET, "/v1/health", None);
            self.peer
                .json(request, Bytes::new(), self.peer.answer_within())
                .await
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
            let limit = self.peer.times().connect + self.peer.times().ready;
            self.peer.json(request, encode(new), limit).await
        })
    }

    fn session<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<AgentSession>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}", caller.session);
            let request = self.request(Method::GET, &path, Some(caller));
            self.peer
                .json(request, Bytes::new(), self.peer.answer_within())
                .await
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
                .header(BOOT_ID, boot_id)
                .header(ACCEPT, STEP_FRAMES)
                .sending_json();
            let response = self.peer.ask(request, encode(step)).await?;
            Ok(self.peer.frames(response))
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
                .header(BOOT_ID, boot_id)
                .sending_json();
            self.peer
                .json(request, encode(step), self.peer.answer_within())
                .await
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
            let response = self.peer.ask(request, Bytes::new()).await?;
            Ok(self.peer.frames(response))
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
            let limit = self.peer.answer_within() + wait;
            self.peer.json(request, Bytes::new(), limit).await
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
            let response = self.peer.ask(request, Bytes::new()).await?;
            Ok(passed_on(response, self.peer.endpoint().to_owned()))
        })
    }

    fn cancel<'a>(&'a self, step: &'a str, caller: Caller<'a>) -> Call<'a, Answered<AgentStep>> {
        Box::pin(async move {
            let path = Self::step_path(caller, step, "");
            let request = self.request(Method::DELETE, &path, Some(caller));
            self.peer
                .json(request, Bytes::new(), self.peer.answer_within())
                .await
        })
    }

    fn interrupt<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<()>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/interrupt", caller.session);
            let request = self.request(Method::POST, &path, Some(caller));
            self.peer.done(request, self.peer.answer_within()).await
        })
    }

    fn restart<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<AgentSession>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/restart", caller.session);
            let request = self.request(Method::POST, &path, Some(caller));
            let limit = self.peer.times().connect + self.peer.times().ready;
            self.peer.json(request, Bytes::new(), limit).await
        })
    }

    fn terminate<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<()>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/terminate", caller.session);
            let request = self.request(Method::POST, &path, Some(caller));
            self.peer.done(request, self.peer.answer_within()).await
        })
    }

    fn output_frames<'a>(&'a self, query: &'a str, caller: Caller<'a>) -> Call<'a, Frames> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/output?{query}", caller.session);
            let request = self.request(Method::GET, &path, Some(caller));
            let response = self.peer.ask(request, Bytes::new()).await?;
            Ok(self.peer.frames(response).value)
        })
    }

    fn output<'a>(&'a self, query: &'a str, caller: Caller<'a>) -> Call<'a, PassedOn> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/output?{query}", caller.session);
            let request = self.request(Method::GET, &path, Some(caller));
            let response = self.peer.ask(request, Bytes::new()).await?;
            Ok(passed_on(response, self.peer.endpoint().to_owned()))
        })
    }

    fn forward<'a>(
        &'a self,
        forward: &'a Forward,
        boot_id: &'a str,
        tasks: &'a Tasks,
        caller: Caller<'a>,
    ) -> Call<'a, Response<Body>> {
        Box::pin(async move {
            let path = format!("/v1/sessions/{}/workers{}", caller.session, forward.rest);
            let request = self
                .request(forward.method.clone(), &path, Some(caller))
                .header(BOOT_ID, boot_id);
            self.peer.forward(request, forward, tasks).await
        })
    }

    fn terminals(&self) -> Call<'_, Answered<Vec<TerminalState>>> {
        Box::pin(async {
            let request = self.request(Method::GET, "/v1/workers", None);
            let limit = self.peer.answer_within();
            self.peer.json(request, Bytes::new(), limit).await
        })
    }

    fn sessions(&self) -> Call<'_, Answered<Vec<AgentSession>>> {
        Box::pin(async {
            let request = self.request(Method::GET, "/v1/sessions", None);
            self.peer
                .json(request, Bytes::new(), self.peer.answer_within())
                .await
        })
    }

    fn news(&self, after: u64, wait: Duration) -> Call<'_, Answered<Vec<WorkerNews>>> {
        Box::pin(async move {
            let path = format!("/v1/news?after={after}&wait_ms={}", wait.as_millis());
            let request = self.request(Method::GET, &path, None);
            let limit = self.peer.answer_within() + wait;
            self.peer.json(request, Bytes::new(), limit).await
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
            .field("endpoint", &self.peer.endpoint())
            .finish_non_exhaustive()
    }
}

/// Headers of an output answer that mean something to the client.
fn passed_on(response: Response<Body>, endpoint: String) -> PassedOn {
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
