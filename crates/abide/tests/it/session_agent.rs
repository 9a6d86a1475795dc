//! The session agent as a service of its own: its contract, case by case, and what it survives.

mod auth;
mod contract;
mod kills;
mod lifecycle;
mod metrics;
mod start;
mod steps;
mod streams;

use std::path::PathBuf;

use abide_model::{ProblemCode, StepId};
use abide_testkit::{AgentOptions, TestAgent};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::api::http::Answer;

/// The token of every session that a test registers without naming another.
const TOKEN: &str = "token-of-the-test";

/// A session agent and how to speak to it.
struct Agent {
    agent: TestAgent,
    http: reqwest::Client,
    /// Sent with every request.
    token: Option<String>,
}

impl Agent {
    /// One that asks for tokens; requests carry [`TOKEN`].
    fn enforced() -> Self {
        Self::with(options())
    }

    /// One that asks for none.
    fn bypass() -> Self {
        let mut agent = Self::with(options().env("SESSION_AGENT_AUTH_BYPASS", "true"));
        agent.token = None;
        agent
    }

    fn with(options: AgentOptions) -> Self {
        Self {
            agent: TestAgent::start(options).unwrap(),
            http: client(),
            token: Some(TOKEN.to_owned()),
        }
    }

    /// The next agent in the same place; the one before must have ended.
    fn up_again(&mut self) {
        self.agent.up(&[]).unwrap();
        self.http = client();
    }

    fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http
            .request(method, format!("{}{path}", self.agent.url()))
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.bare(method, path);
        match &self.token {
            Some(token) => request.header("x-session-token", token),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    /// A POST of JSON; like other clients of this API it says nothing of a content type.
    async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request("POST", path).body(body.to_string())).await
    }

    async fn register(&self, session: &str) -> Value {
        let body = json!({ "sessionId": session, "runtime": "python" });
        self.post("/v1/sessions", &body).await.check(200)
    }

    /// A step once it has ended.
    async fn run(&self, session: &str, code: &str) -> Value {
        let body = step(session, &StepId::new().to_string(), code);
        self.post("/v1/steps", &body).await.check(200)
    }

    /// Submits a step and comes back at once.
    async fn submit(&self, session: &str, id: &str, code: &str) -> Value {
        let body = step(session, id, code);
        self.post("/v1/steps?wait=0", &body).await.check(202)
    }

    /// A submitted step once it has ended.
    async fn ended(&self, session: &str, id: &str) -> Value {
        let path = format!("/v1/sessions/{session}/steps/{id}?wait_ms=60000");
        let step = self.get(&path).await.check(200);
        assert!(step["exitCode"].is_number(), "it does not end: {step}");
        step
    }

    async fn boot_id(&self) -> String {
        let health = Answer::of(self.bare("GET", "/v1/health")).await.check(200);
        health["boot_id"].as_str().unwrap().to_owned()
    }

    fn gate(&self) -> Gate {
        Gate::new(self.agent.home().join(StepId::new().to_string()))
    }
}

fn options() -> AgentOptions {
    AgentOptions::new(env!("CARGO_BIN_EXE_abide"))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn step(session: &str, id: &str, code: &str) -> Value {
    json!({ "sessionId": session, "stepId": id, "code": code })
}

/// Fails unless the answer is a problem of this status and code; answers with its message.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: ProblemCode) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(
        (answer.status, problem["error"].as_str()),
        (status, Some(code.as_str())),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["retryable"], code.retryable());
    assert!(!answer.header("x-abide-boot-id").is_empty());
    problem["message"].as_str().unwrap().to_owned()
}

/// A named pipe that holds up code until the test lets it go on.
struct Gate {
    path: PathBuf,
}

impl Gate {
    fn new(path: PathBuf) -> Self {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        Self { path }
    }

    /// Python that waits for [`Self::open`].
    fn waits(&self) -> String {
        format!("_ = open({:?}).read()", self.path)
    }

    /// Lets the code go on; returns once it has got there.
    async fn open(&self) {
        let path = self.path.clone();
        let writing = tokio::task::spawn_blocking(move || std::fs::write(path, "x"));
        writing.await.unwrap().unwrap();
    }
}
