//! The data plane as a program, with real session agents and interpreters below it.

mod in_process;
mod launched;
mod user_stories;

use abide_testkit::{AgentOptions, TestAgent, TestDataPlane};
use serde_json::{Value, json};

use crate::api::http::Answer;

/// A data plane and how to speak to it.
struct Plane {
    program: TestDataPlane,
    http: reqwest::Client,
}

impl Plane {
    /// One that launches its session agent; nobody is asked who they are.
    fn launching() -> Self {
        Self::with(open())
    }

    /// One on the session agent of the test.
    fn on(agent: &TestAgent) -> Self {
        Self::with(open().set(&format!("agent_endpoint={}", agent.url())))
    }

    fn with(options: AgentOptions) -> Self {
        Self {
            program: TestDataPlane::start(options).unwrap(),
            http: client(),
        }
    }

    /// The next data plane in the same place; the one before must have ended.
    fn up_again(&mut self) {
        self.program.up().unwrap();
        self.http = client();
    }

    async fn get(&self, path: &str) -> Answer {
        let url = format!("{}{path}", self.program.url());
        Answer::of(self.http.get(url)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let url = format!("{}{path}", self.program.url());
        Answer::of(self.http.post(url).body(body.to_string())).await
    }

    async fn create(&self, session: &str) -> Value {
        let body = json!({ "sessionId": session });
        self.post("/sessions", &body).await.check(202)
    }

    async fn run(&self, session: &str, code: &str) -> Value {
        let body = json!({ "command": code });
        let path = format!("/sessions/{session}/steps");
        self.post(&path, &body).await.check(202)
    }

    async fn prints(&self, session: &str, code: &str, expected: &str) {
        let step = self.run(session, code).await;
        assert_eq!(step["stdout"], expected, "{step}");
    }
}

fn options() -> AgentOptions {
    AgentOptions::new(env!("CARGO_BIN_EXE_abide"))
}

fn open() -> AgentOptions {
    options().env("AUTHZ_BYPASS", "true")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
