//! Coming back to a terminal with ten thousand lines.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::corpus::{Corpus, label};
use super::host::{Hosts, Program, Who};
use super::line::{Search, enter_until, until};
use super::pty::SIZE;
use crate::bench::Bench;
use crate::bench::row::{Claim, Contest, Kind, Outcome, Row, Unit};
use crate::bench::steps::milliseconds;

const WHO: [Who; 4] = [
    Who::Abide("flow=skip"),
    Who::Abide("flow=skip"),
    Who::PtyHost,
    Who::Tmux,
];
const LINES: usize = 10_000;
/// How many times ten thousand other lines came before, by contender.
const BEFORE: [usize; 4] = [0, 10, 0, 0];
/// Times that it is come back to, per run.
const VISITS: usize = 5;

/// Until the visible screen is complete.
pub(in crate::bench) fn reattach() -> Row {
    Row {
        name: "terminal-reattach",
        what: "reattach to a terminal with 10,000 lines of scrollback: connect → visible screen complete",
        contenders: &[
            "`abide up`, the snapshot that comes first",
            "the same, 100,000 more lines printed before",
            "VS Code-like pty host, without scrollback",
            "`tmux attach`, the client's start included",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Reattach::open(bench, false)?)),
        claims: |outcome| claims(outcome, 5.0),
    }
}

/// Until everything that scrolled off is there, too.
pub(in crate::bench) fn history() -> Row {
    Row {
        name: "terminal-history",
        what: "reattach to a terminal with 10,000 lines of scrollback: connect → all of them complete",
        contenders: &[
            "`abide up`, the second snapshot: scrollback and screen",
            "the same, 100,000 more lines printed before",
            "VS Code-like pty host",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Reattach::open(bench, true)?)),
        claims: |outcome| claims(outcome, 20.0),
    }
}

fn claims(outcome: &Outcome, limit: f64) -> Vec<Claim> {
    let [first, second] = [0, 1].map(|who| outcome.summary(who).median);
    vec![
        Claim::at_most(format!("≤ {limit} ms"), first, limit),
        Claim::at_most(
            format!("≤ {limit} ms however much was printed before"),
            second,
            limit,
        ),
        Claim::at_most(
            "after the 100,000 lines at most 4/3 × as long (scrollback of up to 1 MiB is kept, 10,000 lines \
             are 0.7 MB)",
            second / first,
            4.0 / 3.0,
        ),
    ]
}

struct Reattach {
    hosts: Hosts,
    has_history: bool,
    /// Bytes that came last, by contender.
    bytes: [usize; 4],
}

impl Reattach {
    fn open(bench: &Bench, has_history: bool) -> Result<Self> {
        let corpus = Corpus::new(LINES)?;
        let who = if has_history { &WHO[..3] } else { &WHO[..] };
        let mut hosts = Hosts::start(bench, who)?;
        for (contender, before) in BEFORE.iter().enumerate().take(who.len()) {
            if hosts.absent(contender).is_some() {
                continue;
            }
            // The same lines with other labels, so that only the newest count.
            let script = "stty -echo; printf 'ready>'; read -r go
                for turn in $(seq \"$2\"); do sed s/line-/past-/ \"$1\"; done
                cat \"$1\"; printf 'the-end>'; read -r go";
            let mut program = Program::script(script, &[&corpus.file]);
            program.0.push(before.to_string());
            let mut line = hosts.of(contender)?.start(&program)?;
            until(line.as_mut(), "ready>")?;
            enter_until(line.as_mut(), "the-end>")?;
        }
        Ok(Self {
            hosts,
            has_history,
            bytes: [0; 4],
        })
    }
}

impl Contest for Reattach {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let host = self.hosts.of(contender)?;
        let mut times = Vec::with_capacity(VISITS);
        for _ in 0..VISITS {
            let mut received = Vec::new();
            // With everything that scrolled off, the end comes twice: with the screen, and behind the first line.
            let mut first = Search::new(&label(0));
            first.is_found = !self.has_history;
            let mut end = Search::new("the-end>");
            let begun = Instant::now();
            let mut line = host.attach(self.has_history)?;
            while !end.is_found {
                line.receive(&mut |bytes| {
                    first.add(bytes);
                    if first.is_found {
                        end.add(bytes);
                    }
                    received.extend_from_slice(bytes);
                })?;
            }
            times.push(milliseconds(begun));
            self.bytes[contender] = received.len();
            let shown = String::from_utf8_lossy(&received);
            let visible = LINES + 1 - usize::from(SIZE.1);
            let from = if self.has_history { 0 } else { visible };
            let mut rest = shown.as_ref();
            for number in from..LINES {
                let label = label(number);
                let found = rest.split_once(&label);
                ensure!(found.is_some(), "{label} is missing");
                rest = found.map_or("", |(_, rest)| rest);
            }
        }
        Ok(times)
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }

    fn notes(&self) -> Vec<String> {
        let count = if self.has_history { 3 } else { 4 };
        let bytes: Vec<_> = self.bytes[..count]
            .iter()
            .map(|bytes| format!("{:.0}", *bytes as f64 / 1e3))
            .collect();
        vec![format!(
            "every line looked for, in order; kB received: {}",
            bytes.join(", ")
        )]
    }
}
