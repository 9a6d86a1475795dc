//! What goes over the network for what a program prints.

use anyhow::{Context, Result};

use super::corpus::Corpus;
use super::host::{Hosts, Program, Who};
use super::line::{enter_until, finish, until};
use crate::bench::Bench;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};

const WHO: [Who; 4] = [
    Who::Abide("flow=block"),
    Who::Abide("flow=block"),
    Who::Minimal,
    Who::Node,
];
/// Whether every line is a write of its own, by contender.
const BY_LINE: [bool; 4] = [false, true, true, true];
/// Makes 4 MB.
const LINES: usize = 56_000;

/// Bytes over the network per byte of the terminal.
pub(in crate::bench) fn wire() -> Row {
    Row {
        name: "terminal-wire",
        what: "bytes from the server's socket per byte of the terminal, 4 MB of coloured lines",
        contenders: &[
            "`abide up`, written in large blocks",
            "`abide up`, a write per line",
            "minimal Rust server, a write per line",
            "node-pty + ws, a write per line",
        ],
        kind: Kind::Contest,
        unit: Unit::Times,
        open: |bench| Ok(Box::new(Wire::open(bench)?)),
        claims: |outcome| {
            [("in large blocks", 0), ("a write per line", 1)]
                .map(|(how, who)| {
                    let text = format!("{how}: ≤ 1.02 × raw");
                    Claim::at_most(text, outcome.summary(who).median, 1.02)
                })
                .into()
        },
    }
}

struct Wire {
    hosts: Hosts,
    corpus: Corpus,
}

impl Wire {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::start(bench, &WHO)?,
            corpus: Corpus::new(LINES)?,
        })
    }
}

impl Contest for Wire {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let program = if BY_LINE[contender] {
            let script = "stty -echo; printf 'ready>'; read -r go; grep --line-buffered '' \"$1\"; printf 'the-end>'; read -r go";
            Program::script(script, &[&self.corpus.file])
        } else {
            self.corpus.program(1)
        };
        let mut line = self.hosts.of(contender)?.start(&program)?;
        until(line.as_mut(), "ready>")?;
        let before = line.wire_bytes().context("there is no network")?;
        enter_until(line.as_mut(), "the-end>")?;
        let after = line.wire_bytes().context("there is no network")?;
        finish(line, "\n")?;
        Ok(vec![
            (after - before) as f64 / self.corpus.digest(1).bytes as f64,
        ])
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }
}
