//! Plain requests to a server of the test's own, and answers to look at to the letter.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;

use abide_client::{Message, SseParser};
use abide_model::ProblemCode;
use abide_testkit::{AgentOptions, Exited, Plane, ServerOptions, Terminal, TestServer, TestStack};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// `abide up`.
pub(crate) type Server = TestServer;

/// The same, and how to speak to it.
pub(crate) type Api = ApiOf<TestServer>;

/// A server and how to speak to it.
pub(crate) struct ApiOf<S> {
    pub(crate) server: S,
    pub(crate) key: String,
    http: reqwest::Client,
}

/// The planes in one process, or in three.
pub(crate) trait Composition: Sized {
    /// With these settings on top of the small and fast ones.
    fn begin(settings: &[&str]) -> Self;
    /// Base URL of the public API.
    fn base_url(&self) -> &str;
    /// The key of its own.
    fn api_key(&self) -> String;
    /// What scratch workspaces are in, and what stands before their names in the records.
    fn scratch(&self) -> (PathBuf, String);
    /// A directory that a session may be given, and its name in the API.
    fn directory(&self, name: &str) -> (PathBuf, String);
    /// The files of whoever serves the API.
    fn own_files(&self) -> PathBuf;
    /// Directories of directories that are nobody else's business.
    fn private(&self) -> Vec<PathBuf>;
    /// Waits until whoever serves the API has ended by itself.
    fn wait_for_end(&mut self) -> Exited;
    /// Starts it again; it must have ended.
    fn start_again(&mut self);
    /// Ends it with `SIGKILL`, and starts it again.
    fn again(&mut self);
    /// Ends it with `SIGKILL`.
    fn kill_server(&mut self);
    /// A directory that belongs to the test.
    fn place(&self) -> &Path;
    /// What the workers' directories are in.
    fn workers(&self) -> PathBuf;
    /// Ends everything above the keepers with `SIGKILL`.
    fn kill_all(&mut self);
    /// Starts that again.
    fn up_all(&mut self);
    /// Ends what lives under keepers that nothing is above.
    fn end_workers(&self);
    /// Ends everything in order, workers included.
    fn end_all(&mut self);
    /// The process that serves the API.
    fn server_pid(&self) -> u32;
    /// The program with arguments, as whoever uses the server.
    fn cli(&self, args: &[&str]) -> Command;
    /// The same on a terminal.
    fn cli_on_terminal(&self, args: &[&str]) -> Terminal;
}

impl Composition for TestServer {
    fn begin(settings: &[&str]) -> Self {
        let options = ServerOptions::new(env!("CARGO_BIN_EXE_abide"));
        let options = settings
            .iter()
            .fold(options, |options, setting| options.set(setting));
        Self::start(options).unwrap()
    }

    fn base_url(&self) -> &str {
        self.url()
    }

    fn api_key(&self) -> String {
        self.key().unwrap()
    }

    fn scratch(&self) -> (PathBuf, String) {
        let dir = self.data_dir().join("workspaces");
        (dir.clone(), format!("{}/", dir.display()))
    }

    fn directory(&self, name: &str) -> (PathBuf, String) {
        let dir = self.home().canonicalize().unwrap().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        (dir.clone(), dir.display().to_string())
    }

    fn own_files(&self) -> PathBuf {
        self.data_dir()
    }

    fn private(&self) -> Vec<PathBuf> {
        ["workers", "workspaces"]
            .map(|dir| self.data_dir().join(dir))
            .into()
    }

    fn wait_for_end(&mut self) -> Exited {
        self.wait().unwrap()
    }

    fn start_again(&mut self) {
        self.up(&[]).unwrap();
    }

    fn again(&mut self) {
        self.kill().unwrap();
        self.start_again();
    }

    fn kill_server(&mut self) {
        self.kill().unwrap();
    }

    fn place(&self) -> &Path {
        self.home()
    }

    fn workers(&self) -> PathBuf {
        self.data_dir().join("workers")
    }

    fn kill_all(&mut self) {
        self.kill().unwrap();
    }

    fn up_all(&mut self) {
        self.start_again();
    }

    fn end_workers(&self) {
        let down = self.command(&["down"]).output().unwrap();
        assert!(down.status.success(), "{down:?}");
    }

    fn end_all(&mut self) {
        self.down().unwrap();
    }

    fn server_pid(&self) -> u32 {
        self.pid().unwrap()
    }

    fn cli(&self, args: &[&str]) -> Command {
        self.command(args)
    }

    fn cli_on_terminal(&self, args: &[&str]) -> Terminal {
        self.terminal(args).unwrap()
    }
}

impl Composition for TestStack {
    fn begin(settings: &[&str]) -> Self {
        let mut options = AgentOptions::new(env!("CARGO_BIN_EXE_abide")).set("warm_python=1");
        for setting in settings {
            options = options.set(setting);
        }
        Self::start(options).unwrap()
    }

    fn base_url(&self) -> &str {
        self.url()
    }

    fn api_key(&self) -> String {
        self.key().unwrap()
    }

    fn scratch(&self) -> (PathBuf, String) {
        (self.workspaces(), String::new())
    }

    fn directory(&self, name: &str) -> (PathBuf, String) {
        let dir = self.workspaces().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        (dir, name.to_owned())
    }

    fn own_files(&self) -> PathBuf {
        self.files(Plane::Control)
    }

    fn private(&self) -> Vec<PathBuf> {
        let agent = self.files(Plane::Agent);
        vec![
            agent.join("workers"),
            agent.join("sessions"),
            self.workspaces(),
        ]
    }

    fn wait_for_end(&mut self) -> Exited {
        self.wait(Plane::Control).unwrap()
    }

    fn start_again(&mut self) {
        self.up(Plane::Control).unwrap();
    }

    fn again(&mut self) {
        self.kill(Plane::Control).unwrap();
        self.start_again();
    }

    fn kill_server(&mut self) {
        self.kill(Plane::Control).unwrap();
    }

    fn place(&self) -> &Path {
        self.home()
    }

    fn workers(&self) -> PathBuf {
        self.files(Plane::Agent).join("workers")
    }

    fn kill_all(&mut self) {
        for plane in Plane::ALL.into_iter().rev() {
            self.kill(plane).unwrap();
        }
    }

    fn up_all(&mut self) {
        for plane in Plane::ALL {
            self.up(plane).unwrap();
        }
    }

    fn end_workers(&self) {
        let mut down = self.command(&["down", "--data-dir"]);
        let down = down.arg(self.files(Plane::Agent)).output().unwrap();
        assert!(down.status.success(), "{down:?}");
    }

    fn end_all(&mut self) {
        let mut down = self.command(&["down", "--data-dir"]);
        let down = down.arg(self.files(Plane::Control)).output().unwrap();
        assert!(down.status.success(), "{down:?}");
        self.wait(Plane::Control).unwrap();
    }

    fn server_pid(&self) -> u32 {
        self.pid().unwrap()
    }

    fn cli(&self, args: &[&str]) -> Command {
        self.user_command(args)
    }

    fn cli_on_terminal(&self, args: &[&str]) -> Terminal {
        self.terminal(args).unwrap()
    }
}

impl Api {
    /// This server.
    pub(crate) fn of(server: TestServer) -> Self {
        Self::on(server)
    }
}

impl<S: Composition> ApiOf<S> {
    /// A server that keeps no interpreter ready: for tests of records, or of the pool.
    pub(crate) fn cold() -> Self {
        Self::with(&["warm_python=0"])
    }

    /// A server with these settings on top of the small and fast ones.
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self::on(S::begin(settings))
    }

    fn on(server: S) -> Self {
        Self {
            key: server.api_key(),
            server,
            http: client(),
        }
    }

    /// Starts everything again that [`Composition::kill_all`] has ended.
    pub(crate) fn up_all(&mut self) {
        self.server.up_all();
        self.reconnect();
    }

    /// The next server in the same place; the one before must have ended.
    pub(crate) fn up_again(&mut self) {
        self.server.start_again();
        self.reconnect();
    }

    /// Kills the server and starts the next one in the same place.
    pub(crate) fn kill_and_up(&mut self) {
        self.server.again();
        self.reconnect();
    }

    /// Forgets connections to a server that is gone.
    pub(crate) fn reconnect(&mut self) {
        self.http = client();
    }

    /// A request without a key.
    pub(crate) fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http
            .request(method, format!("{}{path}", self.server.base_url()))
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request("DELETE", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request("POST", path).json(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request("PATCH", path).json(body)).await
    }

    /// Sends a body as it is, as JSON.
    pub(crate) async fn raw(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = self.request(method, path);
        let request = request.header("content-type", "application/json");
        Answer::of(request.body(body.to_owned())).await
    }

    /// The path of a new session.
    pub(crate) async fn session(&self, body: Value) -> String {
        let session = self.post("/sessions", &body).await.check(201);
        format!("/sessions/{}", session["id"].as_str().unwrap())
    }

    /// A step of the session at `path`, once it has ended.
    pub(crate) async fn run(&self, path: &str, code: &str) -> Value {
        self.step(path, json!({ "code": code })).await
    }

    /// A step with more than code, once it has ended.
    pub(crate) async fn step(&self, path: &str, body: Value) -> Value {
        self.post(&format!("{path}/steps"), &body).await.check(200)
    }

    /// The path of a step that was only submitted.
    pub(crate) async fn submit(&self, path: &str, code: &str) -> String {
        let body = json!({ "code": code });
        let step = self.post(&format!("{path}/steps?wait=0"), &body).await;
        let step = step.check(202);
        format!("{path}/steps/{}", step["id"].as_str().unwrap())
    }

    /// A submitted step once it has ended.
    pub(crate) async fn ended(&self, step: &str) -> Value {
        let step = self.get(&format!("{step}?wait=60")).await.check(200);
        assert!(step["finished_at"].is_string(), "it does not end: {step}");
        step
    }

    /// Returns when a step that prints something at its beginning has begun.
    pub(crate) async fn begun(&self, step: &str) {
        let mut stream = self.stream(step, None).await;
        while stream.next().await.unwrap().event != "stdout" {}
    }

    /// The server-sent events of a GET.
    pub(crate) async fn stream(&self, path: &str, last_event_id: Option<&str>) -> Stream {
        let mut request = self.request("GET", path);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        Stream::of(request).await
    }

    /// The server-sent events of a step that this submits.
    pub(crate) async fn stream_step(&self, path: &str, code: &str) -> Stream {
        let body = json!({ "code": code });
        Stream::of(self.request("POST", &format!("{path}/steps")).json(&body)).await
    }
}

fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().tcp_nodelay(true);
    builder
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().into(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Its JSON, if it has this status.
    #[track_caller]
    pub(crate) fn check(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Its bytes, if it has this status.
    #[track_caller]
    pub(crate) fn bytes(&self, status: u16) -> &[u8] {
        let shown = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        assert_eq!(self.status, status, "{shown}");
        &self.body
    }

    /// Its problem document, whole and in itself right, if it is of this code.
    #[track_caller]
    pub(crate) fn problem(&self, code: ProblemCode) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, code.status(), "{text}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{text}"
        );
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        let name = code.as_str();
        assert_eq!(problem["code"], name, "{text}");
        assert_eq!(problem["error"], name);
        assert_eq!(
            problem["type"],
            format!("https://abide.dev/problems/{name}")
        );
        assert_eq!(problem["title"], name.replace('_', " "));
        assert_eq!(problem["status"], code.status());
        assert_eq!(problem["retryable"], code.retryable());
        assert_eq!(
            problem["error_code"].as_str().unwrap_or_default(),
            code.number()
        );
        assert!(!problem["message"].as_str().unwrap().is_empty());
        assert!(problem["detail"].is_string() || problem["detail"].is_array());
        assert_eq!(
            problem["request_id"].as_str().unwrap(),
            self.header("x-request-id")
        );
        assert_eq!(
            self.header("retry-after").is_empty(),
            !code.retryable(),
            "{text}"
        );
        problem
    }

    /// The `type` and `loc` of each wrong field of a 422.
    #[track_caller]
    pub(crate) fn wrong_fields(&self) -> Vec<(String, Value)> {
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((self.status, &problem["status"]), (422, &json!(422)));
        let errors = problem["detail"].as_array().unwrap();
        assert!(!errors.is_empty());
        errors
            .iter()
            .map(|error| {
                assert!(!error["msg"].as_str().unwrap().is_empty());
                assert!(error.get("input").is_some());
                (
                    error["type"].as_str().unwrap().to_owned(),
                    error["loc"].clone(),
                )
            })
            .collect()
    }
}

/// Server-sent events as they come.
pub(crate) struct Stream {
    response: Response,
    parser: SseParser,
    ready: VecDeque<Message>,
}

impl Stream {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let request = request.header("accept", "text/event-stream");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Self {
            response,
            parser: SseParser::default(),
            ready: VecDeque::new(),
        }
    }

    /// The next event; `None` at the end of the stream, however it ends.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            self.parser.push(&self.response.chunk().await.ok()??);
            while let Some(message) = self.parser.next_message().unwrap() {
                self.ready.push_back(message);
            }
        }
    }

    /// Everything to the end of the stream.
    pub(crate) async fn rest(mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }
}

/// An event's data.
#[track_caller]
pub(crate) fn data(message: &Message) -> Value {
    serde_json::from_slice(&message.data).unwrap()
}

/// The bytes of an output event.
#[track_caller]
pub(crate) fn output(message: &Message) -> Vec<u8> {
    use base64::Engine as _;
    let data = data(message);
    match (data["text"].as_str(), data["base64"].as_str()) {
        (Some(text), None) => text.as_bytes().to_owned(),
        (None, Some(code)) => base64::engine::general_purpose::STANDARD
            .decode(code)
            .unwrap(),
        _ => panic!("neither text nor base64: {data}"),
    }
}
