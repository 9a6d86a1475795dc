//! What an idle terminal holds in memory: program, keeper, and its share of the server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Bench;
use super::process;
use super::row::{Claim, Contest, Kind, Outcome, Row, Unit};
use super::server::{Server, create, pause};

/// Terminals that are there at once.
const TERMINALS: usize = 1000;
/// Terminals of one session; it may have 64.
const PER_SESSION: usize = 50;
/// For what was freed to be given back.
const SETTLE: Duration = Duration::from_secs(2);

const PARTS: &[&str] = &[
    "all of it: program + keeper + a thousandth of the server",
    "the program, `cat`",
    "the keeper",
    "a thousandth of the server",
];

/// Terminals that nobody looks at.
pub(super) fn idle() -> Row {
    Row {
        name: "memory-terminals",
        what: "PSS of an idle terminal that has printed a line, 1,000 terminals",
        contenders: PARTS,
        kind: Kind::Once,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Memory::open(bench)?)),
        claims,
    }
}

fn claims(outcome: &Outcome) -> Vec<Claim> {
    vec![Claim::at_most(
        "keeper ≤ 0.7 MB",
        outcome.summary(2).median,
        0.7,
    )]
}

struct Memory {
    server: Server,
    /// Of the server before it had terminals, in megabytes.
    empty: f64,
}

impl Memory {
    fn open(bench: &Bench) -> Result<Self> {
        let limit = format!("max_live={}", TERMINALS + 1);
        let server = Server::start(bench, &["warm_python=0", &limit])?;
        let mut connection = server.connect()?;
        let empty = megabytes(server.pid()?)?;
        for _ in 0..TERMINALS / PER_SESSION {
            let session = create(&mut connection, &json!({}))?;
            let path = format!("/sessions/{session}/workers");
            for _ in 0..PER_SESSION {
                let command = ["/bin/sh", "-c", "echo a line; exec cat"];
                let spec = json!({ "kind": "terminal", "command": command });
                let started = connection.json("POST", &path, &spec)?;
                started["id"].as_str().context("no terminal")?;
            }
        }
        pause(SETTLE);
        Ok(Self { server, empty })
    }

    /// Of each program, and of each keeper.
    fn workers(&self) -> Result<(Vec<f64>, Vec<f64>)> {
        let keepers = self.server.keepers()?;
        let count = keepers.len();
        ensure!(
            count == TERMINALS,
            "{count} keepers of {TERMINALS} terminals"
        );
        let mut programs = Vec::new();
        for keeper in &keepers {
            let below = process::descendants(*keeper)?;
            ensure!(!below.is_empty(), "a keeper without a program");
            programs.push(below.into_iter().map(megabytes).sum::<Result<f64>>()?);
        }
        let keepers: Result<_> = keepers.into_iter().map(megabytes).collect();
        Ok((programs, keepers?))
    }
}

fn megabytes(pid: u32) -> Result<f64> {
    Ok(process::pss(pid)? / 1e6)
}

impl Contest for Memory {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let (programs, keepers) = self.workers()?;
        let share = megabytes(self.server.pid()?)? / TERMINALS as f64;
        let all = programs.iter().zip(&keepers);
        Ok(match contender {
            0 => all.map(|(one, keeper)| one + keeper + share).collect(),
            1 => programs,
            2 => keepers,
            _ => vec![share],
        })
    }

    fn notes(&self) -> Vec<String> {
        let empty = self.empty;
        vec![format!(
            "PSS of the server before it had terminals: {empty:.1} MB"
        )]
    }
}
