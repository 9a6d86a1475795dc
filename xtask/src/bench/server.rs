//! `abide up` with a data directory of its own on a free port.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Bench;
use super::http::Connection;
use super::process;
use super::websocket::WebSocket;

/// Filling a pool of twenty takes a few seconds on a busy machine.
const WARM_WITHIN: Duration = Duration::from_secs(60);

/// A running server. Dropping it ends the server, its workers and its directory.
#[derive(Debug)]
pub(super) struct Server {
    exe: PathBuf,
    settings: Vec<String>,
    home: TempDir,
    child: Option<Child>,
    address: SocketAddr,
    key: String,
}

impl Server {
    /// Starts a server in a fresh directory and waits until it is ready.
    pub(super) fn start(bench: &Bench, settings: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("abide-bench-").tempdir()?;
        let mut server = Self {
            exe: bench.abide.clone(),
            settings: settings.iter().map(|it| (*it).to_owned()).collect(),
            home,
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            key: String::new(),
        };
        server.up()?;
        Ok(server)
    }

    /// Starts it again in the same directory; returns once it says that it is ready.
    pub(super) fn up(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server is running");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.path().join("log"))?;
        let mut command = self.command(&["up", "--host", "127.0.0.1", "--port", "0"]);
        command.args(["--set", "log=warn"]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("cannot start the server")?;
        let out = child.stdout.take().context("no standard output")?;
        self.child = Some(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line
            .split(' ')
            .find_map(|word| word.strip_prefix("http://"))
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            bail!("the server did not start: {line}{log}");
        };
        self.address = address;
        let key = std::fs::read_to_string(self.home.path().join("data/key"));
        key.context("no key")?.trim().clone_into(&mut self.key);
        Ok(())
    }

    /// Ends the server with `SIGKILL`; its workers go on.
    pub(super) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends it in good order, with its workers.
    pub(super) fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        let told = self
            .connect()?
            .json("POST", "/shutdown?workers=end", &Value::Null);
        if told.is_err() {
            child.kill()?;
        }
        child.wait()?;
        told.map(drop)
    }

    /// Where its files are.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Its process.
    pub(super) fn pid(&self) -> Result<u32> {
        let child = self.child.as_ref();
        child.map(Child::id).context("the server is not running")
    }

    /// Its keepers' processes.
    pub(super) fn keepers(&self) -> Result<Vec<u32>> {
        let home = self.home.path().to_str().context("path is not UTF-8")?;
        process::with_arguments(&["keeper", &format!("{home}/data/workers")])
    }

    /// A connection to it.
    pub(super) fn connect(&self) -> Result<Connection> {
        Connection::open(self.address, &self.key)
    }

    /// A WebSocket at `path`.
    pub(super) fn websocket(&self, path: &str) -> Result<WebSocket> {
        let key = format!("Authorization: Bearer {}\r\n", self.key);
        WebSocket::connect(self.address, path, &key)
    }

    /// Waits until as many Python interpreters are warm.
    pub(super) fn until_warm(&self, count: u64) -> Result<()> {
        let mut connection = self.connect()?;
        let deadline = Instant::now() + WARM_WITHIN;
        loop {
            let status = connection.json("GET", "/status", &Value::Null)?;
            if status["warm"]["python"].as_u64() >= Some(count) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the pool stays empty");
            // The API has no event for it, and asking all the time would slow the pool down.
            pause(Duration::from_millis(20));
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        let passed = ["PATH", "LANG"];
        command
            .args(arguments)
            .env_clear()
            .envs(passed.map(|name| (name, std::env::var_os(name).unwrap_or_default())))
            .env("HOME", self.home.path())
            .env("ABIDE_DATA_DIR", self.home.path().join("data"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Workers live on by design; those of a benchmark must not.
        let _ = self
            .command(&["down"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A new session; returns its id.
pub(super) fn create(connection: &mut Connection, body: &Value) -> Result<String> {
    let session = connection.json("POST", "/sessions", body)?;
    Ok(session["id"].as_str().context("no id")?.to_owned())
}

/// A new Python session; returns its id.
pub(super) fn create_python(connection: &mut Connection) -> Result<String> {
    create(connection, &json!({}))
}

/// Runs code that must succeed; returns the text of its result.
pub(super) fn run(connection: &mut Connection, session: &str, code: &str) -> Result<String> {
    let path = format!("/sessions/{session}/steps");
    let step = connection.json("POST", &path, &json!({ "code": code }))?;
    ensure!(
        step["status"] == "completed",
        "the step did not complete: {step}"
    );
    Ok(step["result"]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Removes a session with its interpreter.
pub(super) fn delete(connection: &mut Connection, session: &str) -> Result<()> {
    let path = format!("/sessions/{session}?force=true");
    connection.json("DELETE", &path, &Value::Null).map(drop)
}

/// Lets time pass.
#[expect(
    clippy::disallowed_methods,
    reason = "what is measured over a time needs that time"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}
