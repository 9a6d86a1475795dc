//! What an idle session holds in memory: interpreter, keeper, and its share of the server.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Bench;
use super::process;
use super::row::{Claim, Contest, Kind, Outcome, Row, Unit};
use super::server::{Server, create, pause, run};

/// Sessions that are there at once.
const SESSIONS: usize = 20;
/// For what was freed to be given back.
const SETTLE: Duration = Duration::from_secs(2);

const PARTS: &[&str] = &[
    "all of it: interpreter + keeper + a twentieth of the server",
    "the interpreter",
    "the keeper",
    "a twentieth of the server",
];

/// Sessions that run Python.
pub(super) fn python() -> Row {
    Row {
        name: "memory-python",
        what: "PSS of an idle Python session after a step, 20 sessions",
        contenders: PARTS,
        kind: Kind::Once,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Memory::open(bench, "python")?)),
        claims: |outcome| claims(outcome, "session ≤ 7 MB", 7.0),
    }
}

/// Sessions that run Node.
pub(super) fn node() -> Row {
    Row {
        name: "memory-node",
        what: "PSS of an idle Node session after a step, 20 sessions",
        contenders: PARTS,
        kind: Kind::Once,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Memory::open(bench, "node")?)),
        claims: |outcome| claims(outcome, "session ≤ 45 MB", 45.0),
    }
}

fn claims(outcome: &Outcome, text: &str, limit: f64) -> Vec<Claim> {
    vec![
        Claim::at_most(text, outcome.summary(0).median, limit),
        Claim::at_most("keeper ≤ 0.7 MB", outcome.summary(2).median, 0.7),
    ]
}

struct Memory {
    server: Server,
    /// Of the server before it had sessions, in megabytes.
    empty: f64,
}

impl Memory {
    fn open(bench: &Bench, runtime: &str) -> Result<Self> {
        let server = Server::start(bench, &["warm_python=0"])?;
        let mut connection = server.connect()?;
        let empty = megabytes(server.pid()?)?;
        for _ in 0..SESSIONS {
            let session = create(&mut connection, &json!({ "runtime": runtime }))?;
            let value = run(&mut connection, &session, "x = 41; x + 1")?;
            ensure!(value == "42", "answered {value}");
        }
        pause(SETTLE);
        Ok(Self { server, empty })
    }

    /// Of each interpreter with everything below it, and of each keeper.
    fn workers(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let keepers = self.server.keepers()?;
        let count = keepers.len();
        ensure!(count == SESSIONS, "{count} keepers for {SESSIONS} sessions");
        let mut interpreters = Vec::new();
        for keeper in &keepers {
            let below = process::descendants(*keeper)?;
            ensure!(!below.is_empty(), "a keeper without an interpreter");
            interpreters.push(below.into_iter().map(megabytes).sum::<Result<f64>>()?);
        }
        let keepers: Result<_> = keepers.into_iter().map(megabytes).collect();
        Ok((interpreters, keepers?))
    }
}

fn megabytes(pid: u32) -> Result<f64> {
    Ok(process::pss(pid)? / 1e6)
}

impl Contest for Memory {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let (interpreters, keepers) = self.workers()?;
        let share = megabytes(self.server.pid()?)? / SESSIONS as f64;
        let all = interpreters.iter().zip(&keepers);
        Ok(match contender {
            0 => all.map(|(one, keeper)| one + keeper + share).collect(),
            1 => interpreters,
            2 => keepers,
            _ => vec![share],
        })
    }

    fn notes(&self) -> Vec<String> {
        let empty = self.empty;
        vec![format!(
            "PSS of the server before it had sessions: {empty:.1} MB"
        )]
    }
}
