//! Terminals that ten thousand lines have scrolled through.

use std::time::Duration;

use anyhow::Result;

use super::corpus::Corpus;
use super::host::{Host, Hosts, Who};
use super::line::{enter_until, until};
use crate::bench::Bench;
use crate::bench::process;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};
use crate::bench::server::pause;

const WHO: [Who; 3] = [Who::Abide("flow=skip"), Who::Tmux, Who::PtyHost];
/// Terminals of each, besides a first one that is there before.
const TERMINALS: usize = 10;
const LINES: usize = 10_000;
/// For what was freed to be given back.
const SETTLE: Duration = Duration::from_secs(2);

/// Memory of what was printed.
pub(in crate::bench) fn filled() -> Row {
    Row {
        name: "terminal-filled",
        what: "a terminal with 10,000 coloured lines of scrollback: growth of PSS per terminal of everything but \
               the programs, of 10 terminals",
        contenders: &[
            "`abide up`: server and keepers, journals as far as they are mapped in",
            "tmux, the server",
            "VS Code-like pty host",
        ],
        kind: Kind::ContestOnce,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Filled::open(bench)?)),
        claims: |outcome| vec![Claim::at_most("≤ 3 MB", outcome.summary(0).median, 3.0)],
    }
}

/// How much one more terminal adds to a host, the first one not counted, in megabytes.
pub(super) fn growth(
    host: &mut dyn Host,
    terminals: usize,
    start: impl Fn(&mut dyn Host) -> Result<()>,
) -> Result<f64> {
    start(host)?;
    pause(SETTLE);
    let before = pss(host)?;
    for _ in 0..terminals {
        start(host)?;
    }
    pause(SETTLE);
    Ok((pss(host)? - before) / 1e6 / terminals as f64)
}

fn pss(host: &dyn Host) -> Result<f64> {
    host.processes()?.into_iter().map(process::pss).sum()
}

struct Filled {
    hosts: Hosts,
    corpus: Corpus,
    /// What the process that is no keeper has of it.
    server: f64,
}

impl Filled {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::start(bench, &WHO)?,
            corpus: Corpus::new(LINES)?,
            server: f64::NAN,
        })
    }
}

impl Contest for Filled {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let program = self.corpus.program(1);
        let host = self.hosts.of(contender)?;
        let fill = |host: &mut dyn Host| {
            let mut line = host.start(&program)?;
            until(line.as_mut(), "ready>")?;
            enter_until(line.as_mut(), "the-end>").map(drop)
        };
        if contender > 0 {
            return Ok(vec![growth(host, TERMINALS, fill)?]);
        }
        let before = server(host)?;
        let grown = growth(host, TERMINALS, fill)?;
        self.server = (server(host)? - before) / 1e6 / (TERMINALS + 1) as f64;
        Ok(vec![grown])
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "of Abide's, {:.2} MB are the server's, the rest the keeper's",
            self.server
        )]
    }
}

/// Of the process that all terminals share.
fn server(host: &dyn Host) -> Result<f64> {
    let processes = host.processes()?;
    processes.last().map_or(Ok(0.0), |pid| process::pss(*pid))
}
