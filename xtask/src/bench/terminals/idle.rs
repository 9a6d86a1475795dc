//! A thousand shells at their prompts.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::abide::Abide;
use super::filled::growth;
use super::host::{Host, Hosts, Program, Who};
use super::line::until;
use crate::bench::Bench;
use crate::bench::process;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};
use crate::bench::server::pause;
use crate::bench::steps::milliseconds;

/// Terminals of Abide's.
const TERMINALS: usize = 1000;
/// Fewer than a session may have.
const PER_SESSION: usize = 50;
/// Terminals of each of the others.
const OTHERS: usize = 50;
/// How long the thousand are watched.
const WATCHED: Duration = Duration::from_secs(20);
/// For what starting left to do.
const SETTLE: Duration = Duration::from_secs(5);

/// Memory and CPU time of what is at rest.
pub(in crate::bench) fn idle() -> Row {
    Row {
        name: "terminal-idle",
        what: "1,000 idle terminals with a shell: PSS per terminal of everything but the shells (journals are files \
               and count as far as they are mapped in)",
        contenders: &[
            "`abide up`: keeper + share of the server",
            "tmux, growth per pane, of 50",
            "VS Code-like pty host, growth per terminal, of 50",
        ],
        kind: Kind::ContestOnce,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Idle::open(bench)?)),
        claims: |outcome| {
            let all = outcome.summary(0).median;
            vec![Claim::at_most("terminal ≤ 1.2 MB", all, 1.2)]
        },
    }
}

struct Idle {
    abide: Abide,
    others: Hosts,
    /// Megabytes of the server, divided among the terminals.
    share: f64,
    /// Milliseconds that starting each took.
    starting: f64,
    /// CPU time of server and keepers while they were watched, in % of a core.
    cpu: f64,
}

impl Idle {
    fn open(bench: &Bench) -> Result<Self> {
        let mut abide = Abide::start(bench, "flow=skip")?;
        let begun = Instant::now();
        for number in 0..TERMINALS {
            if number % PER_SESSION == 0 {
                abide.enter_new_session()?;
            }
            abide.launch(&shell())?;
        }
        let starting = milliseconds(begun) / TERMINALS as f64;
        pause(SETTLE);
        let begun = Instant::now();
        let before = used(&abide)?;
        pause(WATCHED);
        let used = used(&abide)?.saturating_sub(before);
        let cpu = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        Ok(Self {
            abide,
            others: Hosts::start(bench, &[Who::Tmux, Who::PtyHost])?,
            share: f64::NAN,
            starting,
            cpu,
        })
    }
}

fn shell() -> Program {
    Program::script("printf 'ready>'; exec sh", &[])
}

/// CPU time of server and keepers.
fn used(abide: &Abide) -> Result<Duration> {
    let mut all = process::cpu(abide.server.pid()?)?;
    for keeper in abide.server.keepers()? {
        all += process::cpu_of_single_thread(keeper)?;
    }
    Ok(all)
}

impl Contest for Idle {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        if let Some(other) = contender.checked_sub(1) {
            let start = |host: &mut dyn Host| until(host.start(&shell())?.as_mut(), "ready>");
            return Ok(vec![growth(self.others.of(other)?, OTHERS, start)?]);
        }
        let keepers = self.abide.server.keepers()?;
        let count = keepers.len();
        ensure!(count == TERMINALS, "{count} keepers of {TERMINALS}");
        let share = process::pss(self.abide.server.pid()?)? / TERMINALS as f64 / 1e6;
        let mut all = Vec::with_capacity(TERMINALS);
        for keeper in keepers {
            all.push(process::pss(keeper)? / 1e6 + share);
        }
        self.share = share;
        Ok(all)
    }

    fn absent(&self, contender: usize) -> Option<String> {
        let other = contender.checked_sub(1)?;
        self.others.absent(other)
    }

    fn claims(&self) -> Vec<Claim> {
        let text = "CPU of server and keepers, 1,000 terminals, ≤ 1 % of a core";
        vec![Claim::at_most(text, self.cpu, 1.0)]
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "of that {:.3} MB are the server's; started one after the other, {:.1} ms each; watched for {} s",
            self.share,
            self.starting,
            WATCHED.as_secs()
        )]
    }
}
