//! Records over HTTP: what a request costs the server, and how many there are in a second.

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Bench;
use super::http::Connection;
use super::process;
use super::python::{program, real_interpreter};
use super::row::{Claim, Contest, Kind, Outcome, Row, Unit};
use super::server::{Server, create};

/// The baseline.
const BARE: &str = include_str!("records.py");
/// Agents that own as many sessions as a list shows.
const AGENTS: usize = 40;
const PAGE: usize = 50;
/// Long enough for CPU time counted in hundredths of a second.
const RUN: Duration = Duration::from_millis(800);

/// Connections at once, by contender; the last contender is the baseline.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const CONTENDERS: &[&str] = &[
    "`abide up`, 1 connection",
    "16 connections",
    "64 connections",
    "bare prepared statement (Python's sqlite3)",
];

/// `GET /sessions/{id}`.
pub(super) fn get() -> Row {
    Row {
        name: "records-get",
        what: "get a session: CPU time of the server per request",
        contenders: CONTENDERS,
        kind: Kind::Figures,
        unit: Unit::Microseconds,
        open: |bench| Ok(Box::new(Records::open(bench, Operation::Get)?)),
        claims: |outcome| {
            vec![Claim::at_most(
                "≤ 40 µs at any number of connections",
                highest(outcome),
                40.0,
            )]
        },
    }
}

/// `PATCH /sessions/{id}` with a checkpoint of 1 KiB.
pub(super) fn patch() -> Row {
    Row {
        name: "records-patch",
        what: "set a checkpoint of 1 KiB, with its event: CPU time of the server per request",
        contenders: CONTENDERS,
        kind: Kind::Figures,
        unit: Unit::Microseconds,
        open: |bench| Ok(Box::new(Records::open(bench, Operation::Patch)?)),
        claims: |outcome| {
            vec![Claim::at_most(
                "≤ 90 µs at any number of connections",
                highest(outcome),
                90.0,
            )]
        },
    }
}

/// `POST /sessions`.
pub(super) fn create_session() -> Row {
    Row {
        name: "records-create",
        what: "create a session, with its event: CPU time of the server per request",
        contenders: CONTENDERS,
        kind: Kind::Figures,
        unit: Unit::Microseconds,
        open: |bench| Ok(Box::new(Records::open(bench, Operation::Create)?)),
        claims: |_| Vec::new(),
    }
}

/// `GET /sessions?agent_id=…&limit=50`.
pub(super) fn list() -> Row {
    Row {
        name: "records-list",
        what: "list 50 sessions of an agent: CPU time of the server per request",
        contenders: CONTENDERS,
        kind: Kind::Figures,
        unit: Unit::Microseconds,
        open: |bench| Ok(Box::new(Records::open(bench, Operation::List)?)),
        claims: |_| Vec::new(),
    }
}

fn highest(outcome: &Outcome) -> f64 {
    let median = |contender| outcome.summary(contender).median;
    (0..CONNECTIONS.len()).map(median).fold(0.0, f64::max)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Patch,
    Create,
    List,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Patch => "patch",
            Self::Create => "create",
            Self::List => "list",
        }
    }

    /// How often the baseline does it in a run: for about half a second.
    const fn bare_count(self) -> usize {
        match self {
            Self::Get => 50_000,
            Self::Patch | Self::Create => 8_000,
            Self::List => 2_000,
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::Create => 201,
            Self::Get | Self::Patch | Self::List => 200,
        }
    }
}

struct Records {
    server: Server,
    operation: Operation,
    sessions: Vec<String>,
    agents: Vec<String>,
    python: PathBuf,
    /// Where the baseline keeps its copy.
    home: TempDir,
    /// By contender: operations per second of each run.
    rates: [Vec<f64>; 4],
    /// By contender: requests that were not answered with success.
    refused: usize,
}

impl Records {
    fn open(bench: &Bench, operation: Operation) -> Result<Self> {
        let server = Server::start(bench, &["warm_python=0", "max_sessions=10000000"])?;
        let python = real_interpreter(&server)?;
        let mut connection = server.connect()?;
        let mut agents = Vec::with_capacity(AGENTS);
        for number in 0..AGENTS {
            let body = json!({ "name": format!("agent {number}") });
            let agent = connection.json("POST", "/agents", &body)?;
            agents.push(agent["id"].as_str().context("no id")?.to_owned());
        }
        let mut sessions = Vec::with_capacity(AGENTS * PAGE);
        for number in 0..AGENTS * PAGE {
            let body = new_session(&agents[number % AGENTS]);
            sessions.push(create(&mut connection, &body)?);
        }
        Ok(Self {
            server,
            operation,
            sessions,
            agents,
            python,
            home: tempfile::Builder::new().prefix("abide-bench-").tempdir()?,
            rates: Default::default(),
            refused: 0,
        })
    }

    /// The request that is number `n` in its run.
    fn request(&self, connection: &Connection, n: usize) -> Vec<u8> {
        let session = &self.sessions[n * 7919 % self.sessions.len()];
        let agent = &self.agents[n % self.agents.len()];
        let (method, path, body) = match self.operation {
            Operation::Get => ("GET", format!("/sessions/{session}"), String::new()),
            Operation::Patch => {
                // A KiB of JSON altogether.
                let body = json!({ "checkpoint": { "a": "x".repeat(1014) } });
                ("PATCH", format!("/sessions/{session}"), body.to_string())
            }
            Operation::Create => {
                let body = new_session(agent).to_string();
                ("POST", "/sessions".to_owned(), body)
            }
            Operation::List => {
                let path = format!("/sessions?agent_id={agent}&limit={PAGE}");
                ("GET", path, String::new())
            }
        };
        connection.request(method, &path, "application/json", &body)
    }

    fn abide(&mut self, contender: usize) -> Result<f64> {
        let count = CONNECTIONS[contender];
        let barrier = Barrier::new(count + 1);
        let server = self.server.pid()?;
        let (requests, took, cpu, refused) = std::thread::scope(|scope| {
            let (this, barrier) = (&*self, &barrier);
            let load = |number| {
                let connection = this.server.connect();
                // Made before, so that the client does little but send and receive.
                let requests = connection.as_ref().map_or_else(
                    |_| Vec::new(),
                    |connection| {
                        (0..200)
                            .map(|n| this.request(connection, number * 200 + n))
                            .collect()
                    },
                );
                barrier.wait();
                send(connection?, &requests, this.operation.status())
            };
            let threads: Vec<_> = (0..count)
                .map(|number| scope.spawn(move || load(number)))
                .collect();
            barrier.wait();
            let begun = Instant::now();
            let before = process::cpu(server)?;
            let (mut requests, mut refused) = (0, 0);
            for thread in threads {
                let answered = thread.join().ok().context("a thread panicked").flatten()?;
                requests += answered.0;
                refused += answered.1;
            }
            let cpu = process::cpu(server)?.saturating_sub(before);
            Ok::<_, anyhow::Error>((requests, begun.elapsed(), cpu, refused))
        })?;
        ensure!(requests > 0, "nothing was answered");
        self.refused += refused;
        self.rates[contender].push(requests as f64 / took.as_secs_f64());
        Ok(cpu.as_secs_f64() * 1e6 / requests as f64)
    }

    fn bare(&mut self) -> Result<f64> {
        let copy = self.home.path().join("copy.db");
        let count = self.operation.bare_count().to_string();
        let output = program(&self.python, BARE)
            .arg(self.server.data_dir().join("abide.db"))
            .arg(copy)
            .args([self.operation.name(), &count])
            .output()
            .context("cannot start Python")?;
        ensure!(output.status.success(), "the baseline failed");
        let figures: [f64; 2] = serde_json::from_slice(&output.stdout)?;
        self.rates[CONNECTIONS.len()].push(figures[1]);
        Ok(figures[0])
    }
}

fn new_session(agent: &str) -> Value {
    json!({ "agent_id": agent, "context": { "task": "measure", "step": 1 } })
}

/// Sends requests one after another for as long as a run takes; how many there were, and how many
/// of them were not answered with success.
fn send(mut connection: Connection, requests: &[Vec<u8>], success: u16) -> Result<(usize, usize)> {
    let begun = Instant::now();
    let (mut sent, mut refused) = (0, 0);
    let mut answer = Vec::new();
    while begun.elapsed() < RUN {
        answer.clear();
        let status = connection.exchange(&requests[sent % requests.len()], &mut answer)?;
        refused += usize::from(status != success);
        sent += 1;
    }
    Ok((sent, refused))
}

impl Contest for Records {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let cost = match contender {
            3 => self.bare()?,
            _ => self.abide(contender)?,
        };
        Ok(vec![cost])
    }

    fn claims(&self) -> Vec<Claim> {
        let refused = self.refused as f64;
        vec![Claim::at_most("no request fails", refused, 0.0)]
    }

    fn notes(&self) -> Vec<String> {
        let median = |rates: &Vec<f64>| {
            let mut rates = rates.clone();
            rates.sort_by(f64::total_cmp);
            rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let [one, sixteen, many, bare] = self.rates.each_ref().map(median);
        vec![format!(
            "per second: {one:.0} at 1 connection, {sixteen:.0} at 16, {many:.0} at 64; bare \
             statement {bare:.0}"
        )]
    }
}
