//! 200 MB through a terminal to a viewer that takes everything.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::corpus::Corpus;
use super::host::{Host, Hosts, Who};
use super::line::{enter_until, finish, until};
use crate::bench::Bench;
use crate::bench::digest::Digest;
use crate::bench::process;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};

const WHO: [Who; 6] = [
    Who::Abide("flow=block"),
    Who::Pty,
    Who::Minimal,
    Who::Node,
    Who::PtyHost,
    Who::Tmux,
];
/// Makes 20 MB.
const LINES: usize = 280_000;
/// How often that is printed; less often to those who take as long for it.
const TIMES: [usize; 6] = [10, 10, 10, 5, 2, 2];

/// Throughput.
pub(in crate::bench) fn stream() -> Row {
    Row {
        name: "terminal-stream",
        what: "`cat` of 200 MB of coloured lines on a terminal, every byte to a viewer over a WebSocket on \
               loopback; node-pty 100 MB, pty host and tmux 40 MB",
        contenders: &[
            "`abide up`, screen and journal kept (`flow=block`)",
            "raw PTY, a read loop",
            "minimal Rust server, nothing kept",
            "node-pty + ws, nothing kept",
            "VS Code-like pty host: node-pty + headless xterm.js + ws",
            "tmux attach (does not send every byte)",
        ],
        kind: Kind::Contest,
        unit: Unit::MegabytesPerSecond,
        open: |bench| Ok(Box::new(Stream::open(bench)?)),
        claims: |outcome| {
            vec![
                Claim::at_least("≥ 0.85 × the minimal Rust server", outcome.ratio(2), 0.85),
                Claim::at_least("≥ 1.7 × node-pty + ws", outcome.ratio(3), 1.7),
                Claim::at_least("≥ 3.5 × the pty host", outcome.ratio(4), 3.5),
            ]
        },
    }
}

struct Stream {
    hosts: Hosts,
    corpus: Corpus,
    /// CPU time of each contender's processes but the program, and megabytes that it was for.
    cpu: [(Duration, f64); WHO.len()],
}

impl Stream {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::start(bench, &WHO)?,
            corpus: Corpus::new(LINES)?,
            cpu: [(Duration::ZERO, 0.0); WHO.len()],
        })
    }
}

impl Contest for Stream {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let times = TIMES[contender];
        let mut line = self
            .hosts
            .of(contender)?
            .start(&self.corpus.program(times))?;
        until(line.as_mut(), "ready>")?;
        let printed = (self.corpus.shown.len() * times) as f64;
        let before = cpu(self.hosts.of(contender)?)?;
        let took = if WHO[contender] == Who::Tmux {
            enter_until(line.as_mut(), "the-end>")?
        } else {
            let expected = self.corpus.digest(times);
            let mut digest = Digest::default();
            let begun = Instant::now();
            line.send(b"\n")?;
            while digest.bytes < expected.bytes {
                line.receive(&mut |bytes| digest.add(bytes))?;
            }
            let took = begun.elapsed().as_secs_f64();
            ensure!(digest == expected, "not the bytes that were printed");
            took
        };
        let used = cpu(self.hosts.of(contender)?)?.saturating_sub(before);
        self.cpu[contender].0 += used;
        self.cpu[contender].1 += printed / 1e6;
        finish(line, "\n")?;
        Ok(vec![printed / 1e6 / took])
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }

    fn notes(&self) -> Vec<String> {
        let each: Vec<_> = self
            .cpu
            .iter()
            .map(|(cpu, megabytes)| format!("{:.1}", cpu.as_secs_f64() * 1e3 / megabytes))
            .collect();
        vec![
            "every byte counted and hashed, in every run of all but tmux".to_owned(),
            format!(
                "CPU time in ms per MB of what is between program and viewer (of tmux the server): {}",
                each.join(", ")
            ),
        ]
    }
}

/// CPU time of what a host runs besides the programs.
fn cpu(host: &dyn Host) -> Result<Duration> {
    host.processes()?.into_iter().map(process::cpu).sum()
}
