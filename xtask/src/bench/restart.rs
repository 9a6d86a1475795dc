//! Starting the server: with many sessions in the database, and after a kill with many alive.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Bench;
use super::process;
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::{Server, create_python, pause, run};
use super::steps::milliseconds;

/// Sessions in the database of a server that is started.
const RECORDED: usize = 1000;
/// Starts per run.
const STARTS: usize = 3;
/// Sessions with an interpreter, whose server is killed.
const LIVE: usize = 100;
/// For the warm pool, and what starting left to do.
const SETTLE: Duration = Duration::from_secs(3);

/// From the start of the process to the first success of `/readyz`.
pub(super) fn ready() -> Row {
    Row {
        name: "ready",
        what: "start of the server → `/readyz` answers 200, 1,000 sessions in the database",
        contenders: &[
            "`abide up`, after an orderly end",
            "the same, after SIGKILL",
        ],
        kind: Kind::Figures,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Ready(recorded(bench)?))),
        claims: |outcome| {
            let slower = outcome.summary(0).median.max(outcome.summary(1).median);
            vec![Claim::at_most("≤ 80 ms", slower, 80.0)]
        },
    }
}

/// Memory of a server at rest.
pub(super) fn memory() -> Row {
    Row {
        name: "server-memory",
        what: "memory of an idle server, 1,000 sessions in the database, default settings",
        contenders: &["RSS", "PSS", "its own pages (RssAnon)"],
        kind: Kind::Once,
        unit: Unit::Megabytes,
        open: |bench| {
            let mut server = recorded(bench)?;
            server.stop()?;
            server.up()?;
            server.until_warm(2)?;
            pause(SETTLE);
            Ok(Box::new(Memory(server)))
        },
        claims: |outcome| {
            vec![Claim::at_most(
                "RSS ≤ 25 MB",
                outcome.summary(0).median,
                25.0,
            )]
        },
    }
}

/// From the start of the next server to an answer.
pub(super) fn recovery() -> Row {
    Row {
        name: "recovery",
        what: "server killed (SIGKILL) with 100 live sessions; start of the next one → answers",
        contenders: &[
            "the first step has its result, state intact",
            "each of the 100 sessions has answered a step, in turn",
        ],
        kind: Kind::Figures,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Recovery::open(bench)?)),
        claims: |outcome| {
            let first = outcome.summary(0).median;
            vec![Claim::at_most(
                "first step answered ≤ 1000 ms",
                first,
                1000.0,
            )]
        },
    }
}

fn recorded(bench: &Bench) -> Result<Server> {
    let server = Server::start(bench, &[])?;
    let mut connection = server.connect()?;
    for _ in 0..RECORDED {
        create_python(&mut connection)?;
    }
    Ok(server)
}

struct Ready(Server);

impl Contest for Ready {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            match contender {
                0 => self.0.stop()?,
                _ => self.0.kill()?,
            }
            let begun = Instant::now();
            self.0.up()?;
            self.0.connect()?.json("GET", "/readyz", &Value::Null)?;
            times.push(milliseconds(begun));
        }
        Ok(times)
    }
}

struct Memory(Server);

impl Contest for Memory {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let pid = self.0.pid()?;
        let bytes = match contender {
            0 => process::rss(pid),
            1 => process::pss(pid),
            _ => process::anonymous(pid),
        };
        Ok(vec![bytes? / 1e6])
    }
}

struct Recovery {
    server: Server,
    sessions: Vec<String>,
    /// Which session is asked first; another one in each run.
    next: usize,
}

impl Recovery {
    fn open(bench: &Bench) -> Result<Self> {
        let server = Server::start(bench, &["warm_python=0"])?;
        let mut connection = server.connect()?;
        let mut sessions = Vec::with_capacity(LIVE);
        for number in 0..LIVE {
            let session = create_python(&mut connection)?;
            run(&mut connection, &session, &format!("x = {number}"))?;
            sessions.push(session);
        }
        Ok(Self {
            server,
            sessions,
            next: 0,
        })
    }
}

impl Contest for Recovery {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        self.server.kill()?;
        self.next = (self.next + 37) % LIVE;
        let begun = Instant::now();
        self.server.up()?;
        let mut connection = self.server.connect()?;
        let asked = if contender == 0 { 1 } else { LIVE };
        for turn in 0..asked {
            let number = (self.next + turn) % LIVE;
            let value = run(&mut connection, &self.sessions[number], "x")?;
            ensure!(
                value == number.to_string(),
                "session {number} holds {value}"
            );
        }
        Ok(vec![milliseconds(begun)])
    }
}
