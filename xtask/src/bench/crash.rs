//! An interpreter is killed in the middle of a step: how soon does the caller know?

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::http::Connection;
use super::python::{BareLoop, real_interpreter};
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::{Server, create_python};

/// Kills per run.
const KILLS: usize = 6;

/// Tells the time, then kills its own process, as a kernel that is out of memory would.
const STEP: &str = "import os, time\nprint(time.time_ns(), flush=True)\nos.kill(os.getpid(), 9)";
/// The same as one expression.
const EXPRESSION: &str = "(lambda os, now: (os.write(1, str(now).encode()), \
                          os.kill(os.getpid(), 9)))(__import__('os'), __import__('time').time_ns())";

/// From the kill to the answer.
pub(super) fn noticed() -> Row {
    Row {
        name: "crash",
        what: "interpreter killed (SIGKILL) in a step → the caller has the answer, with the reason",
        contenders: &[
            "`abide up`",
            "bare exec loop: the pipe's end, process reaped",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Crash::open(bench)?)),
        claims: |outcome| {
            // The 99th percentile of thirty is the slowest.
            let abide = outcome.summary(0);
            vec![
                Claim::at_most("p50 ≤ 10 ms", abide.median, 10.0),
                Claim::at_most("slowest ≤ 10 ms", abide.p99, 10.0),
            ]
        },
    }
}

struct Crash {
    /// Ends with the row.
    _server: Server,
    connection: Connection,
    session: String,
    python: PathBuf,
    reason: String,
}

impl Crash {
    fn open(bench: &Bench) -> Result<Self> {
        let server = Server::start(bench, &[])?;
        let python = real_interpreter(&server)?;
        let mut connection = server.connect()?;
        let session = create_python(&mut connection)?;
        Ok(Self {
            _server: server,
            connection,
            session,
            python,
            reason: String::new(),
        })
    }

    fn abide(&mut self) -> Result<f64> {
        let path = format!("/sessions/{}", self.session);
        let steps = format!("{path}/steps");
        self.connection
            .json("POST", &steps, &json!({ "code": "None" }))?;
        let step = self
            .connection
            .json("POST", &steps, &json!({ "code": STEP }))?;
        let known = now()?;
        ensure!(
            step["status"] == "crashed",
            "the step did not crash: {step}"
        );
        ensure!(step["exit"]["signal"] == 9, "not with the signal: {step}");
        let reason = step["exit"]["reason"].as_str().unwrap_or_default();
        ensure!(!reason.is_empty(), "no reason: {step}");
        reason.clone_into(&mut self.reason);
        let killed = step["stdout"].as_str().context("no output")?.to_owned();
        self.connection
            .json("POST", &format!("{path}/restart"), &Value::Null)?;
        since(&killed, known)
    }

    fn bare(&self) -> Result<f64> {
        let mut bare = BareLoop::start(&self.python)?;
        bare.evaluate("None")?;
        bare.send(EXPRESSION)?;
        let killed = bare.rest()?;
        since(&killed, now()?)
    }
}

fn now() -> Result<Duration> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock stands before 1970")
}

/// Milliseconds from the nanosecond that the program printed to `known`.
fn since(killed: &str, known: Duration) -> Result<f64> {
    let killed = killed.trim().parse().map(Duration::from_nanos);
    let killed = killed.context("the program printed no time")?;
    Ok(known.saturating_sub(killed).as_secs_f64() * 1000.0)
}

impl Contest for Crash {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        (0..KILLS)
            .map(|_| match contender {
                0 => self.abide(),
                _ => self.bare(),
            })
            .collect()
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("the reason as it is told: {}", self.reason)]
    }
}
