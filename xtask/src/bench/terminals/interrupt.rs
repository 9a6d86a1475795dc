//! Ctrl-C while a program floods the terminal and the viewer is slow, as a browser is.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::corpus::Corpus;
use super::host::{Hosts, Program, Who};
use super::line::{Line, Search, finish, until};
use crate::bench::Bench;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};
use crate::bench::server::pause;
use crate::bench::steps::milliseconds;

const WHO: [Who; 6] = [
    Who::Abide("flow=skip"),
    Who::Abide("flow=skip&scrollback=0"),
    Who::Minimal,
    Who::Node,
    Who::PtyHost,
    Who::Tmux,
];
/// Makes 20 MB.
const LINES: usize = 280_000;
/// Printed so many times, if nobody stops it.
const TIMES: usize = 100;
/// Bytes per second that the viewer digests.
const PACE: f64 = 8e6;
/// How long it watches before Ctrl-C.
const FLOOD: Duration = Duration::from_millis(500);
/// One who is slower has a queue, and how long that is was seen.
const ENOUGH: Duration = Duration::from_secs(20);

/// Until the prompt is there.
pub(in crate::bench) fn interrupt() -> Row {
    Row {
        name: "terminal-ctrl-c",
        what: "a shell's `cat` floods the terminal, a viewer digests 8 MB/s; Ctrl-C after 0.5 s → the viewer has \
               digested the prompt",
        contenders: &[
            "`abide up`, with acknowledgements",
            "the same, `scrollback=0`: snapshots of the visible screen alone",
            "minimal Rust server (TCP holds the program back)",
            "node-pty + ws",
            "VS Code-like pty host, without acknowledgements",
            "tmux",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Interrupt::open(bench)?)),
        claims: |outcome| {
            let [all, visible] = [0, 1].map(|who| outcome.summary(who).median);
            vec![
                Claim::at_most("≤ 30 ms", all, 30.0),
                Claim::at_most("`scrollback=0`: ≤ 30 ms", visible, 30.0),
            ]
        },
    }
}

struct Interrupt {
    hosts: Hosts,
    corpus: Corpus,
    /// Bytes digested between Ctrl-C and prompt in the last run, by contender.
    between: [usize; WHO.len()],
}

impl Interrupt {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::start(bench, &WHO)?,
            corpus: Corpus::new(LINES)?,
            between: [0; WHO.len()],
        })
    }
}

/// A viewer that takes its time for every byte.
struct Slow<'a> {
    line: &'a mut dyn Line,
    /// When it will have digested all that it received.
    done: Instant,
    digested: usize,
}

impl Slow<'_> {
    fn receive(&mut self, search: &mut Search) -> Result<()> {
        let mut count = 0;
        self.line.receive(&mut |bytes| {
            count += bytes.len();
            search.add(bytes);
        })?;
        let takes = Duration::from_secs_f64(count as f64 / PACE);
        self.done = self.done.max(Instant::now()) + takes;
        self.digested += count;
        // Less than that is not worth a nap.
        if self.done > Instant::now() + Duration::from_millis(1) {
            pause(self.done - Instant::now());
        }
        self.line.acknowledge()
    }
}

impl Contest for Interrupt {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let file = self.corpus.file.display().to_string();
        // Written so that what is typed does not look like the prompts.
        let script = "PS1='be''fore>' exec sh -i";
        let program = Program::script(script, &[]);
        let mut line = self.hosts.of(contender)?.start(&program)?;
        until(line.as_mut(), "before>")?;
        line.send(b"PS1='af''ter>'\n")?;
        until(line.as_mut(), "after>")?;
        // A function, since the line that calls it must fit into the kernel's editor.
        line.send(format!("f() {{ cat {file}; }}\n").as_bytes())?;
        until(line.as_mut(), "after>")?;
        let again = "f; ".repeat(TIMES);
        // The prompt is on a line of its own, since the flood ends within a line and a terminal may wrap.
        line.send(format!("PS1='\npro''mpt>'; ({again})\n").as_bytes())?;
        let mut slow = Slow {
            line: line.as_mut(),
            done: Instant::now(),
            digested: 0,
        };
        let mut search = Search::new("prompt>");
        let begun = Instant::now();
        while begun.elapsed() < FLOOD {
            slow.receive(&mut search)?;
        }
        ensure!(!search.is_found, "it did not flood");
        let before = slow.digested;
        let begun = Instant::now();
        slow.line.send(b"\x03")?;
        while !search.is_found {
            slow.receive(&mut search)?;
            ensure!(begun.elapsed() < ENOUGH, "no prompt after {ENOUGH:?}");
        }
        let took = milliseconds(begun);
        self.between[contender] = slow.digested - before;
        finish(line, "exit\n")?;
        Ok(vec![took])
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }

    fn notes(&self) -> Vec<String> {
        let bytes: Vec<_> = self
            .between
            .iter()
            .map(|bytes| format!("{:.2}", *bytes as f64 / 1e6))
            .collect();
        vec![format!(
            "MB digested between Ctrl-C and prompt in the last run: {}",
            bytes.join(", ")
        )]
    }
}
