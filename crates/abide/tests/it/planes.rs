//! Two planes as programs of their own and a proxy between them that fails on demand: what must
//! hold of every step, whatever happens on its way.

mod at_most_once;
mod edge_cases;
mod proxied;
mod regressions;
mod requirements;
mod runs;
mod schedules;
mod success_criteria;
mod through_control;
mod traces;
mod user_stories;

use std::fs::File;
use std::io::Write as _;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use abide_model::{ProblemCode, StepId};
use abide_testkit::{AgentOptions, Proxy, TestAgent, TestDataPlane};
use reqwest::{Method, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::api::http::Answer;

/// What the planes of a test know each other by.
const SECRET: &str = "between-data-plane-and-agent";
/// What the test uses the data plane with.
const KEY: &str = "between-test-and-data-plane";

/// A data plane, a session agent, and a proxy between the two.
struct Planes {
    agent: TestAgent,
    proxy: Arc<Proxy>,
    data: TestDataPlane,
    client: Client,
}

/// How the test speaks to the data plane that is there now.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn of(data: &TestDataPlane) -> Self {
        Self {
            http: client(),
            url: data.url().to_owned(),
        }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(KEY)
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request("POST", path).body(body.to_string())).await
    }

    async fn create(&self, session: &str) -> Value {
        self.create_with(json!({ "sessionId": session })).await
    }

    async fn create_with(&self, body: Value) -> Value {
        self.post("/sessions", &body).await.check(202)
    }

    /// The answer to a step of this id.
    async fn submit(&self, session: &str, id: &str, code: &str) -> Answer {
        let body = json!({ "stepId": id, "command": code });
        let path = format!("/sessions/{session}/steps");
        self.post(&path, &body).await
    }

    /// A step once it has ended.
    async fn run(&self, session: &str, code: &str) -> Value {
        let id = StepId::new().to_string();
        self.submit(session, &id, code).await.check(202)
    }

    async fn prints(&self, session: &str, code: &str, expected: &str) {
        let step = self.run(session, code).await;
        assert_eq!(
            (&step["stdout"], &step["outcome"]),
            (&json!(expected), &json!("completed")),
            "{step}"
        );
    }

    /// A step by its id, once it has ended.
    async fn ended(&self, session: &str, id: &str) -> Value {
        let path = format!("/sessions/{session}/steps/{id}?wait_ms=60000");
        let step = self.get(&path).await.check(200);
        assert!(step["exitCode"].is_number(), "it does not end: {step}");
        step
    }

    async fn terminate(&self, session: &str) -> Value {
        let path = format!("/sessions/{session}/terminate");
        self.post(&path, &Value::Null).await.check(202)
    }

    /// How the data plane shows the session.
    async fn session(&self, session: &str) -> Value {
        self.get(&format!("/sessions/{session}")).await.check(200)
    }
}

impl Planes {
    /// Tokens and keys everywhere, as in production.
    fn start() -> Self {
        Self::with(agent_options(), data_options())
    }

    fn with(agent: AgentOptions, data: AgentOptions) -> Self {
        let agent = TestAgent::start(agent).unwrap();
        let proxy = Arc::new(Proxy::start(agent.url()).unwrap());
        let data = data.set(&format!("agent_endpoint={}", proxy.url()));
        let data = TestDataPlane::start(data).unwrap();
        Self {
            agent,
            proxy,
            client: Client::of(&data),
            data,
        }
    }

    /// Ends the agent with `SIGKILL` and starts the next one in the same place.
    fn restart_agent(&mut self) {
        tokio::task::block_in_place(|| {
            self.agent.kill().unwrap();
            self.agent.up(&[]).unwrap();
        });
        self.proxy.set_target(self.agent.url()).unwrap();
    }

    /// The same for the data plane.
    fn restart_data_plane(&mut self) {
        tokio::task::block_in_place(|| {
            self.data.kill().unwrap();
            self.data.up().unwrap();
        });
        self.client = Client::of(&self.data);
    }

    /// Puts a runtime that lost everything in the agent's place.
    fn replace_agent(&mut self) {
        tokio::task::block_in_place(|| {
            let before = TestAgent::start(agent_options()).unwrap();
            let before = std::mem::replace(&mut self.agent, before);
            self.proxy.set_target(self.agent.url()).unwrap();
            drop(before);
        });
    }

    /// Waits until so many such requests have come from the data plane.
    async fn wait_for(&self, count: usize, method: &'static str, path: &str) {
        let (proxy, path) = (Arc::clone(&self.proxy), path.to_owned());
        blocking(move || proxy.wait_for(count, method, &path)).await;
    }

    /// A gate for a step.
    fn gate(&self) -> Gate {
        Gate::new(self.data.home().join(StepId::new().to_string()))
    }
}

impl Deref for Planes {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

fn agent_options() -> AgentOptions {
    options().env("ABIDE_AGENT_SECRET", SECRET)
}

fn data_options() -> AgentOptions {
    options()
        .env("ABIDE_AGENT_SECRET", SECRET)
        .env("ABIDE_PLANE_KEYS", KEY)
}

fn options() -> AgentOptions {
    AgentOptions::new(env!("CARGO_BIN_EXE_abide"))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Fails unless the answer is a problem of this status and code; answers with it.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: ProblemCode) -> Value {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(
        (answer.status, problem["error"].as_str()),
        (status, Some(code.as_str())),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(problem["message"].is_string() && problem["retryable"].is_boolean());
    problem
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Does something that blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Two named pipes: through one a step says that it runs, at the other it waits for the test.
struct Gate {
    begun: PathBuf,
    go: PathBuf,
    /// Held open, so that opening the gate never waits for the step to get there.
    opener: File,
}

impl Gate {
    fn new(path: PathBuf) -> Self {
        let (begun, go) = (path.with_extension("begun"), path.with_extension("go"));
        for pipe in [&begun, &go] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, pipe, kind, mode, 0).unwrap();
        }
        let mut both = File::options();
        let opener = both.read(true).write(true).open(&go).unwrap();
        Self { begun, go, opener }
    }

    /// Python that waits for [`Self::open`].
    fn waits(&self) -> String {
        format!("open({:?}, 'rb', 0).read(1)", self.go)
    }

    /// Python that says that it runs.
    fn begins(&self) -> String {
        format!("open({:?}, 'w').close()", self.begun)
    }

    /// Python that says that it runs, then waits.
    fn begins_and_waits(&self) -> String {
        format!("{}\n{}", self.begins(), self.waits())
    }

    /// Returns once the code is there.
    async fn begun(&self) {
        let begun = self.begun.clone();
        let read = blocking(move || std::fs::read(begun)).await;
        assert_eq!(read.unwrap(), b"");
    }

    /// Lets the code go on, now or when it gets there; as often as it might be run.
    fn open(&self) {
        (&self.opener).write_all(&[b'x'; 16]).unwrap();
    }
}
