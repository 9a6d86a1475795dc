//! From a keystroke to what is seen of it.

use std::time::Instant;

use anyhow::Result;

use super::host::{Hosts, Program, Who};
use super::line::{Line, Search, until};
use crate::bench::Bench;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};
use crate::bench::steps::milliseconds;

const WHO: [Who; 5] = [
    Who::Abide("flow=skip"),
    Who::Minimal,
    Who::Pty,
    Who::Tmux,
    Who::Node,
];
/// Per run.
const KEYS: usize = 1000;
/// None of them is in anything that tmux sends besides; one after the other, so that each is news.
const EACH: [&str; 4] = ["#", "@", "&", "~"];

/// Round trip of a key.
pub(in crate::bench) fn echo() -> Row {
    Row {
        name: "terminal-echo",
        what: "keystroke → its echo by the terminal, over a WebSocket on loopback (raw PTY and tmux: a \
               terminal), 1,000 keys one after the other",
        contenders: &[
            "`abide up`, keeper, journal and screen in place",
            "minimal Rust server",
            "raw PTY",
            "tmux",
            "node-pty + ws",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Echo::open(bench)?)),
        claims: |outcome| {
            let p99 = outcome.summary(0).p99 / outcome.summary(1).p99;
            vec![
                Claim::at_most(
                    "p50 ≤ 1.15 × the minimal Rust server",
                    outcome.ratio(1),
                    1.15,
                ),
                Claim::at_most("p99 ≤ that of the minimal Rust server (ratio)", p99, 1.0),
            ]
        },
    }
}

struct Echo {
    /// Each with a terminal whose program reads all and says nothing. They end before their hosts.
    lines: Vec<Option<Box<dyn Line>>>,
    hosts: Hosts,
}

impl Echo {
    fn open(bench: &Bench) -> Result<Self> {
        let mut hosts = Hosts::start(bench, &WHO)?;
        let script = "stty -icanon; printf 'ready>'; exec cat >/dev/null";
        let mut lines = Vec::with_capacity(WHO.len());
        for contender in 0..WHO.len() {
            if hosts.absent(contender).is_some() {
                lines.push(None);
                continue;
            }
            let mut line = hosts.of(contender)?.start(&Program::script(script, &[]))?;
            until(line.as_mut(), "ready>")?;
            lines.push(Some(line));
        }
        Ok(Self { lines, hosts })
    }
}

impl Contest for Echo {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let Some(line) = &mut self.lines[contender] else {
            return Ok(Vec::new());
        };
        let mut times = Vec::with_capacity(KEYS);
        for number in 0..KEYS {
            let key = EACH[number % EACH.len()];
            let mut search = Search::new(key);
            let begun = Instant::now();
            line.send(key.as_bytes())?;
            while !search.is_found {
                line.receive(&mut |bytes| search.add(bytes))?;
            }
            times.push(milliseconds(begun));
        }
        Ok(times)
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }
}
